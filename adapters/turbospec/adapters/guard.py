"""The one place where a fault of the adapter stops short of being a fault of the engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Disableable(Protocol):
    """Something whose hooks can be switched off for good."""

    enabled: bool

    def disable(self, hook: str) -> None:
        """Takes back what is in effect and logs the exception being handled, once."""


S = TypeVar("S", bound=Disableable)
P = ParamSpec("P")


def fail_open(hook: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Makes a method safe to call from an engine: whatever it raises disables its object and goes no further.

    Hooks return nothing, so a disabled one cannot be told from one that had nothing to do.
    """

    @wraps(hook)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self.enabled:
            return
        try:
            hook(self, *args, **kwargs)
        # Every exception, because the engine must survive every one; it is logged with its traceback.
        except Exception:  # noqa: BLE001
            self.disable(hook.__name__)

    return guarded
