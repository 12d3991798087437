"""Which engines are controlled: words and limits that the adapters of all engines share."""

from __future__ import annotations

from enum import Enum

DISABLE_VARIABLE = "TURBOSPEC_DISABLE"
ENGINE_ID_VARIABLE = "TURBOSPEC_ENGINE_ID"
MAX_LENGTH = 64  # the protocol's limit of Hello.max_length


class Status(Enum):
    """How sure it is that a method works under control."""

    RUN = "run"
    """The tests run it: outputs identical to no speculation while the lengths change every step."""
    EXPECTED = "expected"
    """Passes through the same hooks; its code was read, not run."""
    REFUSED = "refused"
    """Not controlled: the engine runs as if TurboSpec were not there."""


class RefusedError(Exception):
    """This engine will not be controlled; the message says why, for the engine's log."""
