"""`turbospec profile` on a real engine that serves others meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from support.patience import PATIENCE_SECONDS
from support.serving import Server as Controller
from support.serving import turbospec
from support.vllm_server import Server
from support.vllm_setup import LENGTH, speculative_config
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port
from turbospec.sidecar.server.wire.profiles import read_profile
from turbospec.v1 import operations_pb2

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

REQUESTS = 2
CONTEXT = 32


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    running = Controller(tmp_path, "--profiles-directory", str(tmp_path / "profiles"))
    yield running
    running.stop()


@pytest.fixture
def server(models: MadeModels, controller: Controller, tmp_path: Path) -> Iterator[Server]:
    running = Server(
        str(models.target),
        speculative_config("draft_model", models),
        control_address=controller.control,
        port=free_port(),
        log=tmp_path / "server.log",
    )
    try:
        running.wait_until_up()
        yield running
    finally:
        running.stop()


class Visitors:
    """Somebody else's requests, one at a time with pauses between, until the block is left."""

    PROMPT, TOKENS, PAUSE_SECONDS = 200, 24, 0.5

    def __init__(self, server: Server) -> None:
        self.answers: list[int] = []
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def _call(self) -> None:
        while not self._stop.wait(self.PAUSE_SECONDS):
            prompt = [20 + len(self.answers) % 400] * self.PROMPT
            name = f"visitor-{len(self.answers)}"
            self.answers.append(self._server.complete(prompt, self.TOKENS, PATIENCE_SECONDS, name))

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def test_a_serving_engine_is_profiled(server: Server, controller: Controller, tmp_path: Path) -> None:
    """Each length and skipping the drafter, for one request and two: measured in steps of the profile's own
    requests, while others are answered; then the engine is under its policy again.
    """
    report = tmp_path / "report.json"
    with Visitors(server) as visitors:
        done = turbospec(
            *("profile", "--engine-url", server.url, "--sidecar", controller.introspection),
            *("--operations", controller.operations, "--directory", str(tmp_path / "working")),
            *("--max-requests", str(REQUESTS), "--contexts", str(CONTEXT), "--repeats", "3"),
            *("--prefill", "0"),
            *("--json", str(report)),
        )
    assert done.returncode == 0, done.stderr
    assert visitors.answers
    assert set(visitors.answers) == {Visitors.TOKENS}
    assert controller.engine("server").summary.policy == "goodput"
    content = json.loads(report.read_text())
    assert content["not_measured"] == []
    assert content["steps"]["foreign"] > 0
    answer = controller.operate.GetProfile(
        operations_pb2.GetProfileRequest(profile_id=content["profile_id"]), timeout=PATIENCE_SECONDS
    )
    profile = read_profile(answer.profile)
    found = {
        (cell.requests, cell.proposal_length, cell.drafter_skipped, cell.target_tokens)
        for cell in profile.cells
        if not cell.prefill_tokens
    }
    wanted = {(n, k, False, n * (1 + k)) for n in (1, REQUESTS) for k in range(LENGTH + 1)}
    wanted |= {(n, 0, True, n) for n in (1, REQUESTS)}
    assert wanted <= found
    assert max(cell.requests for cell in profile.cells) <= REQUESTS
    # A visitor's context alone is above all of ours.
    assert max(cell.context_tokens / cell.requests for cell in profile.cells) < CONTEXT + 300
