"""Takes one of the adapter's rules away in a running engine, for negative controls, and gives it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from support.vllm_worker import Engine


@contextmanager
def without(engine: Engine, rule: str) -> Iterator[None]:
    """The engine, which has nothing to do now, goes on without one of `RULES` until the block is left."""
    engine.call(_ignore, rule)
    try:
        yield
    finally:
        engine.call(_obey, rule)


def _gaps(_: Any) -> Any:
    """Requests with a gap in their draft KV cache verify nothing."""
    return mock.patch("turbospec.adapters.vllm.control.drop_drafts", return_value=None)


def _cached_gaps(_: Any) -> Any:
    """Who starts from cached blocks with a gap has one too."""
    return mock.patch("turbospec.adapters.vllm.gaps.BlockGaps.among", return_value=frozenset())


def _control(scheduler: Any) -> Any:
    """All of them: vLLM by itself."""
    control = scheduler._turbospec
    control._memory.release()
    return mock.patch.multiple(control, enabled=False, drafted_nothing=False, _plan=None)


RULES: dict[str, Callable[[Any], Any]] = {"gaps": _gaps, "cached gaps": _cached_gaps, "control": _control}

# In the engine's process.
_ignored: dict[str, Any] = {}


def _ignore(scheduler: Any, rule: str) -> None:
    _ignored[rule] = RULES[rule](scheduler)
    _ignored[rule].start()


def _obey(_: Any, rule: str) -> None:
    _ignored.pop(rule).stop()
