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
from contextlib import contextmanager, suppress
from itertools import islice
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
from turbospec.sidecar.core.speed import WINDOW
from turbospec.sidecar.server.wire.profiles import read_profile
from turbospec.v1 import introspection_pb2, operations_pb2

pytestmark = pytest.mark.vllm

REQUESTS = 2
CONTEXT = 32


# Few enough that the model may need all of them, and that a machine's whims do not fill them.
FOLLOWED_WITHIN_STEPS = 200
NEWEST_STEPS = 20
PAUSES = 5


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
        self._seconds = (
            step.duration_seconds
            for answer in self._watch
            for step in answer.steps
            if step.steps == 1 and not step.disturbances and step.decoding_requests == REQUESTS
        )

    def take(self, count: int) -> list[float]:
        """The next `count`, in seconds. The cost model has learned of them."""
        taken = list(islice(self._seconds, count))
        assert len(taken) == count, "the watch ended"
        return taken

    def take_until(self, seconds: float, most: int) -> list[float]:
        """The next ones up to the first that took so many seconds, `most` of them."""
        taken = self.take(1)
        while len(taken) < most and taken[-1] < seconds:
            taken += self.take(1)
        return taken

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
            # It may have ended meanwhile, and so may one of its threads.
            with suppress(psutil.NoSuchProcess):
                for thread in process.threads():
                    with suppress(ProcessLookupError):
                        os.sched_setaffinity(thread.id, cores)

    restless = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    others = [subprocess.Popen([sys.executable, "-c", restless]) for _ in range(2)]
    try:
        pin({core})
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
        pin(everywhere)


@pytest.mark.usefixtures("report")
def test_a_machine_that_changes_speed_is_followed(server: Server, controller: Controller) -> None:
    """By more than half, for good: within 200 steps the cost model says by how much.

    The newest steps' time over the slowdown that it sees is their time on the machine as it was learned,
    which stays.
    """
    with measured_steps(server, controller) as steps:

        def look() -> tuple[float, float]:
            """Seconds of the newest steps, and these on the machine as it was learned."""
            seconds = median(steps.take(NEWEST_STEPS))
            return seconds, seconds / slowdown(controller)

        # Many: a machine's speed, and how much of it others leave to the server, change all the time.
        looks = range(FOLLOWED_WITHIN_STEPS // NEWEST_STEPS)
        calm, learned = map(median, zip(*(look() for _ in looks), strict=True))
        with crowded(server):
            found = [look() for _ in looks]
    # To a model that stays at 1 the machine as it was learned takes as much longer as this one.
    slowed = [unit for seconds, unit in found if seconds > 1.5 * calm]
    assert any(unit == pytest.approx(learned, rel=0.2) for unit in slowed), (calm, learned, found)


@pytest.mark.usefixtures("report")
def test_a_single_pause_changes_nothing(server: Server, controller: Controller) -> None:
    """The engine stands still for thirty steps: one of them took thirty times as long, and costs stay."""
    followed, by_a_mean = [], []
    with measured_steps(server, controller) as steps:
        for _ in range(PAUSES):
            before, after = steps.take(WINDOW), [0.0]
            calm = median(before)
            # A pause may fall into a step that computes a prompt, of which nothing is learned.
            while after[-1] < 15 * calm:
                # Right before it and right after: the machine's own changes of speed need steps to be seen.
                believed = slowdown(controller)
                os.killpg(server.process.pid, signal.SIGSTOP)
                try:
                    time.sleep(30 * calm)
                finally:
                    os.killpg(server.process.pid, signal.SIGCONT)
                after = steps.take_until(15 * calm, NEWEST_STEPS)
            followed.append(slowdown(controller) / believed)
            by_a_mean.append(fmean((before + after)[-WINDOW:]) / fmean(before))
    assert median(followed) == pytest.approx(1, rel=0.2), followed
    assert median(by_a_mean) > 1.35, "what a mean of as many steps would have followed"


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
