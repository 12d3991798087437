"""What SGLang calls in each of its processes does nothing but where it must, and never raises."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from turbospec.adapters.sglang import plugin

SCHEDULER = "sglang.srt.managers.scheduler"


@pytest.fixture(autouse=True)
def in_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of a controlled engine that can have a scheduler; what SGLang it has is a ruin."""
    monkeypatch.setenv("TURBOSPEC_CONTROL_ADDRESS", "unix:/nonexistent/control.sock")
    for name in ("sglang", "sglang.srt", "sglang.srt.managers", SCHEDULER, "sglang.srt.plugins"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


def test_a_fault_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    """The engine must start whatever is there."""
    plugin.register()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "TurboSpec does not control this engine: its hooks could not be registered."
    ]


@pytest.mark.parametrize("missing", ["address", "scheduler"])
def test_elsewhere_it_does_nothing(
    missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In an engine that is not under control, and in a process without a scheduler."""
    if missing == "address":
        monkeypatch.delenv("TURBOSPEC_CONTROL_ADDRESS")
    else:
        monkeypatch.delitem(sys.modules, SCHEDULER)
    plugin.register()
    assert caplog.records == []


def test_switched_off_it_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One line, in the engine's first process; another value does not switch it off."""
    monkeypatch.setenv("TURBOSPEC_DISABLE", "1")
    plugin.register()
    assert [record.getMessage() for record in caplog.records] == [
        "TurboSpec does not control this engine: TURBOSPEC_DISABLE=1."
    ]
    monkeypatch.setenv("TURBOSPEC_DISABLE", "0")
    plugin.register()
    assert len([record for record in caplog.records if record.exc_info]) == 1
