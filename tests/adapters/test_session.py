from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.stepping import make_hello
from turbospec.adapters import session as session_module
from turbospec.adapters.backlog import Backlog
from turbospec.adapters.exchange import Exchange
from turbospec.adapters.session import Session
from turbospec.v1 import speculation_pb2 as pb

CONFIGURE = pb.ControlResponse(configure=pb.Configure(controller_version="test")).SerializeToString()


def test_what_is_read_late_changes_nothing(tmp_path: Path) -> None:
    """A message that its reader could hand over only after the session's end: plan and slots belong to a
    successor by then."""
    exchange = Exchange()
    backlog = Backlog(exchange.counters)
    lock = threading.Lock()
    hello = make_hello()
    hello.epoch = 7
    backlog.begin(hello.epoch)
    warnings: list[str] = []
    session = Session(
        f"unix:{tmp_path}/nobody.sock", hello, exchange, backlog, lock, lambda _, text: warnings.append(text)
    )
    plan = pb.ControlResponse(
        plan=pb.Plan(version=1, epoch=hello.epoch, time_to_live_ms=1000, batch_proposal_length=2)
    )
    with lock:
        session._receive(CONFIGURE)
    session.close()
    with lock:
        session._receive(plan.SerializeToString())
    assert exchange.plan is None
    assert warnings == []


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(session_module, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def session(tmp_path: Path, clock: Clock) -> Iterator[Session]:
    """With a controller that takes the connection and says nothing."""
    assert clock.now
    exchange = Exchange()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c.sock"))
        listener.listen()
        backlog = Backlog(exchange.counters)
        address = f"unix:{tmp_path}/c.sock"
        made = Session(address, make_hello(), exchange, backlog, threading.Lock(), lambda *_: None)
        yield made
        made.close()


def look(session: Session, clock: Clock, *, after: float, times: int = 1) -> None:
    for _ in range(times):
        clock.now += after
        session.watch()


@pytest.mark.parametrize(("answered", "kind"), [(False, "silent"), (True, "stalled")])
def test_a_host_that_stood_still_says_nothing_of_the_controller(
    session: Session, clock: Clock, answered: bool, kind: str
) -> None:
    """Of a pause in which this process did not run only a second counts. Looked at in time, silence does."""
    seconds = session_module.STALL_SECONDS if answered else session_module.CONFIGURE_SECONDS
    if answered:
        with session._lock:
            session._receive(CONFIGURE)
            session._unanswered.append((1, clock.now))
    look(session, clock, after=60.0)
    assert not session.over.is_set()
    look(session, clock, after=0.25, times=round((seconds - 1.0) / 0.25))
    assert not session.over.is_set()
    look(session, clock, after=0.25)
    assert session.over.is_set()
    assert session.end is not None
    assert session.end.kind == kind
