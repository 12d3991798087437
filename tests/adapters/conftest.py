from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.controllers import ControllerProcess
from support.stepping import make_hello
from turbospec.adapters.client import ControlClient


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/c.sock"


@pytest.fixture
def start_controller(address: str, tmp_path: Path) -> Iterator[Callable[[str], ControllerProcess]]:
    """Starts a scripted controller at `address`, any number of times."""
    started: list[ControllerProcess] = []

    def start(behaviour: str = "honest") -> ControllerProcess:
        started.append(ControllerProcess(address, behaviour, tmp_path / "journal"))
        return started[-1]

    yield start
    for controller in started:
        controller.kill()


@pytest.fixture
def client(address: str) -> Iterator[ControlClient]:
    """A started client of `address`."""
    client = ControlClient(address, make_hello)
    client.start()
    yield client
    client.close()
