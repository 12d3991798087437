"""The end: all of it is brought down, and the Docker engine is as it was."""

from __future__ import annotations

import pytest
from support.docker_base import Workshop
from support.docker_stack import Stack

pytestmark = pytest.mark.docker


def test_nothing_is_left(workshop: Workshop, up: Stack) -> None:
    """Of containers, volumes, networks and images; what looks for them sees each kind while it is there."""
    assert workshop.left().keys() == {"containers", "volumes", "networks", "images"}
    # Docker kills what has not ended in time, be it that the machine stood still.
    up.compose("stop", "--timeout", "120", "sidecar")
    assert up.inspect("sidecar")["State"]["ExitCode"] == 0
    up.down()
    assert workshop.left().keys() == {"images"}
    workshop.remove_images()
    assert not workshop.left()
