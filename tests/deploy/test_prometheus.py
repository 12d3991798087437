"""A real Prometheus scrapes a real controller and evaluates the shipped rules."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from support.engine_stream import EngineStream, report
from support.observability import queries, rules
from support.patience import wait_until
from support.prometheus import Prometheus
from support.serving import Server
from turbospec.v1 import speculation_pb2 as pb

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian's package prometheus has it)",
)
STEP_SECONDS = 0.05


class Engine:
    """Steps in a thread until the end, each made by `step` from its number."""

    def __init__(self, server: Server, engine_id: str) -> None:
        self.engine_id = engine_id
        self._stream = EngineStream.connected(server.control, engine_id=engine_id)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def step(self, sequence: int) -> dict[str, Any]:
        """What differs from the usual report."""
        raise NotImplementedError

    def _run(self) -> None:
        sequence = version = 0
        with suppress(grpc.RpcError):  # the controller is killed in the end
            while not self._stop.wait(STEP_SECONDS):
                sequence += 1
                usual = {"plan_version": version, "plan_age_steps": 1} if version else {}
                version = self._stream.plan(report(sequence, **(usual | self.step(sequence)))).version

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._stream.hang_up()


def counters(expired: int) -> pb.AdapterCounters:
    expired_plans = pb.FallbackCount(reason=pb.FALLBACK_REASON_EXPIRED, count=expired)
    return pb.AdapterCounters(fallbacks=[expired_plans], connections=1)


class Fine(Engine):
    """Three drafts cost as much as none."""

    drafts = 3

    def step(self, sequence: int) -> dict[str, Any]:
        length = 0 if sequence % 4 == 0 else self.drafts
        verified = [length] * 2
        return {
            "proposal_length": length,
            "proposed": verified,
            "verified": verified,
            "accepted": verified,
            "emitted_tokens": 2 + sum(verified),
            "counters": counters(0),
        }


class Off(Fine):
    """Nothing is proposed, and nothing goes wrong."""

    drafts = 0


class FallingBack(Engine):
    """Half of its plans come too late."""

    def step(self, sequence: int) -> dict[str, Any]:
        return {"counters": counters(sequence // 2)}


class Losing(Engine):
    """Steps with drafts take four times as long, and no draft is accepted."""

    def step(self, sequence: int) -> dict[str, Any]:
        length = 0 if sequence % 4 == 0 else 3
        verified = [length] * 2
        return {
            "duration_ns": 40_000_000 if length else 10_000_000,
            "proposal_length": length,
            "proposed": verified,
            "verified": verified,
            "accepted": [0, 0],
            "emitted_tokens": 2,
            "counters": counters(0),
        }


class Unpredictable(Engine):
    """The same step takes now this long and now three times as long."""

    def step(self, sequence: int) -> dict[str, Any]:
        return {
            "duration_ns": 30_000_000 if (sequence * sequence // 3) % 2 else 10_000_000,
            "counters": counters(0),
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("scraped"), "--metrics-address", "127.0.0.1:0")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def engines(server: Server) -> Iterator[list[Engine]]:
    engines = [kind(server, kind.__name__) for kind in (Fine, Off, FallingBack, Losing, Unpredictable)]
    yield engines
    for engine in engines:
        engine.stop()


@pytest.fixture(scope="module")
def prometheus(
    server: Server, engines: list[Engine], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    assert engines
    assert server.metrics is not None
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), server.metrics)
    yield prometheus
    prometheus.stop()


def test_scrapes_succeed_and_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    """The target is up, and no rule has an error."""
    wait_until(lambda: [s["value"][1] for s in prometheus.query('up{job="turbospec"}')] == ["1"], "up")
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), "all rules evaluated")
    assert [rule["name"] for rule in prometheus.rules()] == [rule["alert"] for rule in rules()]


def test_every_panel_of_the_dashboard_has_something_to_show(prometheus: Prometheus) -> None:
    """All its queries are answered, and with series."""
    assert queries()
    for panel, expression in queries().items():
        wait_until(lambda asked=expression: prometheus.query(asked), f"showing {panel}: {expression}")


def test_a_panel_that_speculation_off_leaves_empty_says_so(prometheus: Prometheus) -> None:
    """All others show something of an engine without drafts too: "No data" would look like a fault."""
    shown = queries("Off", without_hint=True)
    assert shown
    for panel, expression in shown.items():
        wait_until(lambda asked=expression: prometheus.query(asked), f"showing {panel}: {expression}")


def test_each_alert_comes_for_its_engine_alone(server: Server, prometheus: Prometheus) -> None:
    """Engines that fall back, lose or surprise are named, the other two are not; at last the sidecar dies."""
    expected = {
        ("TurboSpecFallbacksRising", "FallingBack"),
        ("TurboSpecSpeculationLosing", "Losing"),
        ("TurboSpecModelErrorHigh", "Unpredictable"),
    }
    down = ("TurboSpecSidecarDown", "")
    firing: set[tuple[str, str]] = set()

    def as_expected() -> bool:
        nonlocal firing
        firing = prometheus.firing()
        # Where the machine stood still for a while, scrapes were late, and soon they are not any more.
        return firing >= expected and down not in firing

    wait_until(as_expected, f"firing: {expected}")
    assert not {alert for alert in firing if alert[1] in ("Fine", "Off")}
    server.process.kill()
    wait_until(lambda: down in prometheus.firing(), "TurboSpecSidecarDown firing")
