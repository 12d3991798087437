"""What the control core refuses."""

from __future__ import annotations


class ObservationError(ValueError):
    """An observation that cannot be true. The controller is left as it was.

    `field` names the member of the observation at fault, `message` says what is wrong with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class PolicyError(ValueError):
    """A policy specification that does not exist or does not fit the engine."""
