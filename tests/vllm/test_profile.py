"""What steps cost, on a real engine: profiled while it serves others, kept, and followed when it changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from types import TracebackType
from typing import Any

import psutil
import pytest
from support.patience import PATIENCE_SECONDS, wait_until
from support.scraping import Scrape
from support.serving import Server as Controller
from support.serving import turbospec
from support.vllm_server import Load, Server
from support.vllm_setup import LENGTH, speculative_config
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port
from turbospec.sidecar.server.wire.profiles import read_profile
from turbospec.v1 import introspection_pb2, operations_pb2

pytestmark = pytest.mark.vllm

REQUESTS = 2
CONTEXT = 32


# Few enough that the model may need all of them, and that a machine's whims do not fill them.
FOLLOWED_WITHIN_STEPS = 200
NEWEST_STEPS = 20


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def controller(directory: Path) -> Iterator[Controller]:
    kept = ("--profiles-directory", str(directory / "profiles"))
    running = Controller(directory, *kept, "--metrics-address", "127.0.0.1:0")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(models: MadeModels, controller: Controller, directory: Path) -> Iterator[Server]:
    running = Server(
        str(models.target),
        speculative_config("draft_model", models),
        control_address=controller.control,
        port=free_port(),
        log=directory / "vllm.log",
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


@pytest.fixture(scope="module")
def report(server: Server, controller: Controller, directory: Path) -> dict[str, Any]:
    """Of a profile that was made while others were answered."""
    file = directory / "report.json"
    with Visitors(server) as visitors:
        done = turbospec(
            *("profile", "--engine-url", server.url, "--sidecar", controller.introspection),
            *("--operations", controller.operations, "--directory", str(directory / "working")),
            *("--max-requests", str(REQUESTS), "--contexts", str(CONTEXT), "--repeats", "3"),
            *("--prefill", "0"),
            *("--json", str(file)),
        )
    assert done.returncode == 0, done.stderr
    assert visitors.answers
    assert set(visitors.answers) == {Visitors.TOKENS}
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_a_serving_engine_is_profiled(report: dict[str, Any], controller: Controller) -> None:
    """Each length and skipping the drafter, for one request and two: measured in steps of the profile's own
    requests, while others are answered; then the engine is under its policy again.
    """
    assert controller.engine("server").summary.policy == "goodput"
    assert report["not_measured"] == []
    assert report["steps"]["foreign"] > 0
    answer = controller.operate.GetProfile(
        operations_pb2.GetProfileRequest(profile_id=report["profile_id"]), timeout=PATIENCE_SECONDS
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


class Steps:
    """Durations of the engine's undisturbed steps with REQUESTS requests, as they are reported."""

    def __init__(self, controller: Controller) -> None:
        self._watch = controller.look.WatchSteps(introspection_pb2.WatchStepsRequest(engine_id="server"))
        self._watch.initial_metadata()

    def take(self, count: int) -> list[float]:
        """The next `count`, in seconds."""
        taken: list[float] = []
        for answer in self._watch:
            taken += [
                step.duration_seconds
                for step in answer.steps
                if step.steps == 1 and not step.disturbances and step.decoding_requests == REQUESTS
            ]
            if len(taken) >= count:
                break
        assert len(taken) >= count, "the watch ended"
        return taken[:count]

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()


@contextmanager
def measured_steps(server: Server, controller: Controller) -> Iterator[Steps]:
    """Steady load at one length, whose costs a profile has made known."""

    def set_policy(spec: str) -> None:
        engine = operations_pb2.EngineSelector(engine_id="server")
        request = operations_pb2.SetPolicyRequest(engine=engine, policy=spec)
        controller.operate.SetPolicy(request, timeout=PATIENCE_SECONDS)

    set_policy("static:2")
    try:
        with Load(server, callers=REQUESTS) as load, Steps(controller) as steps:
            steps.take(FOLLOWED_WITHIN_STEPS)
            yield steps
        assert load.failures == []
    finally:
        set_policy("goodput")


def slowdown(controller: Controller) -> float:
    """How many times as long steps take as when they were learned, by the cost model."""
    assert controller.metrics is not None
    return Scrape(controller.metrics).value("turbospec_machine_slowdown_ratio", engine_id="server")


@contextmanager
def crowded(server: Server) -> Iterator[None]:
    """Meanwhile all of the server shares one core with two processes that never rest."""
    everywhere = os.sched_getaffinity(0)
    core = min(everywhere)

    def pin(cores: set[int]) -> None:
        parent = psutil.Process(server.process.pid)
        for process in (parent, *parent.children(recursive=True)):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)

    restless = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    others = [subprocess.Popen([sys.executable, "-c", restless]) for _ in range(2)]
    try:
        pin({core})
        yield
    finally:
        pin(everywhere)
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.usefixtures("report")
def test_a_machine_that_changes_speed_is_followed(server: Server, controller: Controller) -> None:
    """By more than half, for good: within 200 steps the cost model says by how much."""
    with measured_steps(server, controller) as steps:
        calm, believed = median(steps.take(NEWEST_STEPS)), slowdown(controller)
        found = []
        with crowded(server):
            for _ in range(FOLLOWED_WITHIN_STEPS // NEWEST_STEPS):
                slower = median(steps.take(NEWEST_STEPS)) / calm
                found.append((slowdown(controller) / believed, slower))
    # Looked at often: how much the others leave to the server is different from moment to moment. A model
    # that stays at 1 is near none of those that count.
    slowed = [(followed, slower) for followed, slower in found if slower > 1.5]
    assert any(followed == pytest.approx(slower, rel=0.2) for followed, slower in slowed), found


@pytest.mark.usefixtures("report")
def test_a_single_pause_changes_nothing(server: Server, controller: Controller) -> None:
    """The engine stands still for thirty steps: one of them took thirty times as long, and costs stay."""
    with measured_steps(server, controller) as steps:
        calm, believed = median(steps.take(NEWEST_STEPS)), slowdown(controller)
        newest: list[float] = []
        # A pause may fall into a step that computes a prompt, of which nothing is learned.
        while not newest or max(newest) < 10 * calm:
            os.killpg(server.process.pid, signal.SIGSTOP)
            try:
                time.sleep(30 * calm)
            finally:
                os.killpg(server.process.pid, signal.SIGCONT)
            newest = steps.take(NEWEST_STEPS)
        after = slowdown(controller) / believed
    # What the steps without it say, on a machine whose speed wanders; their mean says something else.
    assert after == pytest.approx(median(newest) / calm, rel=0.25)
    assert fmean(newest) > 1.35 * median(newest)


def test_a_restarted_controller_starts_from_it(
    server: Server, controller: Controller, report: dict[str, Any]
) -> None:
    """The engine stays; a controller that knows nothing of it finds its profile by what it says of itself."""
    controller.stop()
    controller.start()
    server.complete([20] * CONTEXT, 4, PATIENCE_SECONDS, "returning")

    def connected() -> bool:
        request = introspection_pb2.ListEnginesRequest()
        return any(
            e.connected for e in controller.look.ListEngines(request, timeout=PATIENCE_SECONDS).engines
        )

    wait_until(connected, "connected")
    started_from = controller.engine("server").latency.started_from
    assert started_from.profile_id == report["profile_id"]
    assert not started_from.differs_in
