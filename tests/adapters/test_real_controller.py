from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.patience import Watch, assert_within
from support.sidecar import Sidecar
from support.stepping import Stepper, make_hello
from turbospec.adapters.client import ControlClient


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path, "static:3")
    yield sidecar
    sidecar.kill()


def test_the_real_controller_killed_restarted_and_stopped(sidecar: Sidecar) -> None:
    """`turbospec serve` controls, takes coalesced reports, and is back within 3 s of a crash or a stop."""
    client = ControlClient(sidecar.control_address, make_hello)
    client.start()
    stepper = Stepper(client)
    try:
        stepper.run_until_controlled()
        stepper.run_until(lambda: stepper.plan is not None and len(stepper.plan.verification_lengths) > 0)
        assert stepper.plan is not None
        assert stepper.plan.proposal_length == 3

        def seconds_after_a_crash() -> float:
            sidecar.kill()
            stepper.run_until(lambda: stepper.plan is None)
            stepper.run(100)
            sidecar.start("static:3")
            with Watch() as watch:
                stepper.run_until_controlled()
            return watch.seconds

        def seconds_after_a_stop(dead: bool) -> float:
            stepper.run_until_controlled()
            connections = client.counters().connections
            sidecar.signal(signal.SIGSTOP)
            stepper.run_until(lambda: not client.connected if dead else stepper.plan is None)
            sidecar.signal(signal.SIGCONT)
            with Watch() as watch:
                stepper.run_until_controlled()
            stepper.run(100)
            # A sidecar that the machine holds up besides is given up too.
            as_it_should = client.connected and client.counters().connections == connections + dead
            return watch.seconds if as_it_should else math.inf

        assert_within(3.0, seconds_after_a_crash)
        for dead in (False, True):  # shorter, and longer than the time after which a stream counts as dead
            assert_within(3.0, partial(seconds_after_a_stop, dead))
        assert client.counters().coalesced_steps > 0
        assert set(client.fallbacks()) <= {"DISCONNECTED", "NO_PLAN", "EXPIRED"}, "no plan was refused"
    finally:
        client.close()
