"""A stage's measurements stand only where the engine followed the policy all the while."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sidecar import Sidecar
from support.stepping import Stepper, make_hello
from turbospec.adapters.client import ControlClient
from turbospec.engines.stage.steering import NotControlledError, Steering


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path, "static:3")
    yield sidecar
    sidecar.kill()


def test_steps_on_the_engines_own_lengths_are_no_measurement(sidecar: Sidecar) -> None:
    """A controller that was stopped for a while and goes on: at the end all looks well, and it was not."""
    client = ControlClient(sidecar.control_address, make_hello)
    client.start()
    stepper = Stepper(client)

    def run_until(length: int) -> None:
        stepper.run_until(lambda: stepper.plan is not None and stepper.plan.proposal_length == length)

    def measure(steering: Steering, length: int, *, stop: bool) -> None:
        with steering.following(f"static:{length}"):
            run_until(length)
            if stop:
                sidecar.signal(signal.SIGSTOP)
                stepper.run_until(lambda: stepper.plan is None)
                stepper.run(100)
                sidecar.signal(signal.SIGCONT)
                run_until(length)
            stepper.run(200)

    try:
        stepper.run_until_controlled()
        with Steering(sidecar.introspection, sidecar.operations, "stepping-0") as steering:
            with pytest.raises(NotControlledError, match=r"on lengths of its own|has connected anew"):
                measure(steering, 1, stop=True)
            for attempt in (1, 2, 3):
                try:
                    measure(steering, 2, stop=False)
                    break
                except NotControlledError:  # the machine itself may have paused
                    if attempt == 3:
                        raise
    finally:
        client.close()
