"""Which scheduler an engine gets, without an engine."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from turbospec.adapters.vllm import compat
from turbospec.adapters.vllm import scheduler as adapter


class Stock:
    """Stands where vLLM's own scheduler is constructed."""

    def __init__(self, _: Any, **arguments: Any) -> None:
        self.arguments = arguments


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the adapter logs while vLLM's scheduler is `Stock`, whatever vLLM's loggers are set to."""
    monkeypatch.setattr(adapter, "Scheduler", Stock)
    monkeypatch.setattr(adapter, "logger", logging.getLogger(__name__))
    return caplog


def unreadable_config() -> Any:
    """A vLLM configuration whose attributes have other names than those the adapter reads."""
    return SimpleNamespace(
        scheduler_config=SimpleNamespace(async_scheduling=False), model_config=SimpleNamespace()
    )


def test_a_configuration_that_cannot_be_read_runs_stock(log: pytest.LogCaptureFixture) -> None:
    """An attribute that another vLLM lacks costs the control, not the engine, and the log says where."""
    made = adapter.TurboSpecScheduler(unreadable_config(), log_stats=True)
    assert type(made) is Stock
    assert made.arguments == {"log_stats": True}
    assert [record.levelname for record in log.records] == ["ERROR"]
    assert log.records[0].exc_info is not None


def test_a_changed_vllm_is_found_before_its_configuration_is_read(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is the missing hook, in one warning, and no traceback."""
    monkeypatch.setattr(compat, "missing_hooks", lambda: ["Scheduler.schedule is missing"])
    assert type(adapter.TurboSpecScheduler(unreadable_config())) is Stock
    assert [record.levelname for record in log.records] == ["WARNING"]
    assert "Scheduler.schedule is missing" in log.records[0].getMessage()


def test_a_vllm_whose_modules_have_moved_runs_stock(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for the hooks may itself fail."""

    def moved() -> list[str]:
        raise ModuleNotFoundError("vllm.v1.core.sched.output")

    monkeypatch.setattr(compat, "missing_hooks", moved)
    assert type(adapter.TurboSpecScheduler(unreadable_config())) is Stock
    assert [record.levelname for record in log.records] == ["ERROR"]


@pytest.mark.parametrize("name", ["Scheduler", "AsyncScheduler"])
def test_an_adapter_that_cannot_start_leaves_vllms_own_scheduler(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails while the adapter is made, the engine starts, with the real stock scheduler."""
    stock = getattr(adapter, name)

    def no_thread(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(stock, "__init__", lambda self, _: None)  # noqa: ARG005
    monkeypatch.setattr(adapter, "_support", lambda _: object())
    monkeypatch.setattr(adapter, "_control", no_thread)
    asynchronous = SimpleNamespace(async_scheduling=name == "AsyncScheduler")
    made = adapter.TurboSpecScheduler(SimpleNamespace(scheduler_config=asynchronous))
    assert type(made) is stock
