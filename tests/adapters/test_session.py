from __future__ import annotations

import threading
from pathlib import Path

from support.stepping import make_hello
from turbospec.adapters.backlog import Backlog
from turbospec.adapters.exchange import Exchange
from turbospec.adapters.session import Session
from turbospec.v1 import speculation_pb2 as pb


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
    configure = pb.ControlResponse(configure=pb.Configure(controller_version="test"))
    plan = pb.ControlResponse(
        plan=pb.Plan(version=1, epoch=hello.epoch, time_to_live_ms=1000, batch_proposal_length=2)
    )
    with lock:
        session._receive(configure.SerializeToString())
    session.close()
    with lock:
        session._receive(plan.SerializeToString())
    assert exchange.plan is None
    assert warnings == []
