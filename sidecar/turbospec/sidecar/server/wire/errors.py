"""What is wrong with a message: the field, the value and the limit, in words for the engine's operator."""

from __future__ import annotations

from collections.abc import Sized

import grpc


class MessageError(Exception):
    """Ends a stream with a status. `field` is the protocol's path, such as "opened[2].slot"."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class PreconditionError(MessageError):
    """The message is well formed, but not acceptable in this place."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class LimitError(MessageError):
    """A limit of this controller is reached; `field` names the setting that holds it."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


def within(field: str, value: int, low: int, high: int) -> int:
    """`value`, where it is from `low` to `high`."""
    if not low <= value <= high:
        raise MessageError(field, f"must be from {low} to {high}, not {value}")
    return value


def at_most(field: str, values: Sized, limit: int) -> None:
    """Refuses a field with more entries than `limit`."""
    if len(values) > limit:
        raise MessageError(field, f"has at most {limit} entries, not {len(values)}")


def at_most_bytes(field: str, value: str, limit: int) -> str:
    """`value`, where it is not longer than `limit` bytes."""
    if len(size := value.encode()) > limit:
        raise MessageError(field, f"has at most {limit} bytes, not {len(size)}")
    return value
