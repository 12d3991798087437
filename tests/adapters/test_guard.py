from __future__ import annotations

import pytest
from turbospec.adapters.guard import fail_open


class Hooked:
    def __init__(self) -> None:
        self.enabled = True
        self.calls: list[str] = []
        self.disabled_in: list[str] = []

    def disable(self, hook: str) -> None:
        self.enabled = False
        self.disabled_in.append(hook)

    @fail_open
    def works(self) -> None:
        self.calls.append("works")

    @fail_open
    def fails(self) -> None:
        self.calls.append("fails")
        raise ZeroDivisionError

    @fail_open
    def stops(self) -> None:
        raise KeyboardInterrupt


def test_a_failing_hook_switches_all_off_once() -> None:
    """The caller sees nothing, the object is told which hook it was, and no hook runs again."""
    hooked = Hooked()
    hooked.works()
    hooked.fails()
    hooked.fails()
    hooked.works()
    assert hooked.calls == ["works", "fails"]
    assert hooked.disabled_in == ["fails"]


def test_the_engines_own_stop_passes_through() -> None:
    """What ends a process is not a fault of the adapter."""
    hooked = Hooked()
    with pytest.raises(KeyboardInterrupt):
        hooked.stops()
    assert hooked.enabled
