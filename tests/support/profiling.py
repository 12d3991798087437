"""`turbospec profile` on engines with stated costs, and what it must find of them."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from support.patience import PATIENCE_SECONDS
from support.profiled_engine import ProfiledEngine
from support.scripted.costs import Costs, Shape, linear
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.serving import Server
from turbospec.cli.main import main
from turbospec.sidecar.profiles.profile import Cell
from turbospec.sidecar.server.wire.profiles import read_profile
from turbospec.v1 import operations_pb2

COSTS = Costs(linear(0.02, 0.0005), context_token=2e-6, prefill_token=2e-5)
# A step takes 1 + |N(0, noise)| times what is stated; its median is therefore known too.
NOISE = 0.02
MEDIAN_NOISE = 1.0 + 0.6745 * NOISE
TINY = capabilities(2, deep_off=True, max_batch=2)


def live(server: Server, engine_id: str, **more: object) -> ProfiledEngine:
    """A small engine; settings but these two are `more`."""
    settings: dict[str, object] = {"capabilities": TINY, "machine": Machine(COSTS, noise=NOISE)}
    return ProfiledEngine(server.control, engine_id=engine_id, **(settings | more))  # type: ignore[arg-type]


def arguments(
    server: Server, engine: ProfiledEngine, directory: Path, *more: str, prefill: str = "0"
) -> list[str]:
    """A short run's: one context, and no prompts beside decoding unless some are wanted."""
    return [
        *("profile", "--engine-url", engine.url, "--sidecar", server.introspection),
        *("--operations", server.operations, "--directory", str(directory / "working")),
        *("--contexts", "64", "--repeats", "3", "--prefill", prefill, *more),
    ]


def here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process: for what is no matter of processes, of which each takes a second."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(str(ended.code))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def policy(server: Server, engine_id: str) -> str:
    """The one in force."""
    return server.engine(engine_id).summary.policy


def stored(server: Server, engine: ProfiledEngine, report: Path) -> list[Cell]:
    """The cells of the profile that a report is about, as the store has it."""
    profile_id = json.loads(report.read_text())["profile_id"]
    answer = server.operate.GetProfile(
        operations_pb2.GetProfileRequest(profile_id=profile_id), timeout=PATIENCE_SECONDS
    )
    assert answer.profile.source == operations_pb2.PROFILE_SOURCE_SWEEP
    assert answer.profile.key.max_length == engine.capabilities.max_length
    return list(read_profile(answer.profile).cells)


def check_costs(cells: list[Cell], costs: Costs) -> None:
    """Every cell's time is what was stated for its steps, to 2%."""
    for cell in cells:
        shape = Shape(
            requests=cell.requests,
            tokens=cell.target_tokens - cell.prefill_tokens,
            context_tokens=cell.context_tokens,
            proposal_length=cell.proposal_length,
            ragged=cell.ragged,
            prefill_tokens=cell.prefill_tokens,
            drafter_skipped=cell.drafter_skipped,
        )
        assert cell.seconds == pytest.approx(costs.seconds(shape) * MEDIAN_NOISE, rel=0.02), cell
