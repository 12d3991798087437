"""Looks at, and breaks, the adapter inside a real SGLang engine. See `Engine.call`."""

from __future__ import annotations

import threading
import time
from typing import Any

from support.patience import PATIENCE_SECONDS, wait_until


def wait_connected(scheduler: Any, seconds: float = PATIENCE_SECONDS) -> None:
    """Returns once the controller has answered."""
    controller = scheduler._turbospec._controller
    deadline = time.monotonic() + seconds
    while not controller.connected:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not connected within {seconds:g} s: {controller.fallbacks()}")
        time.sleep(0.02)


def wait_answered(scheduler: Any) -> tuple[int, int]:
    """Returns once every step was reported and answered: how many connections so far, and steps given up.

    As long as both stay what they are, the controller is told every step.
    """
    client = scheduler._turbospec._controller

    def answered() -> bool:
        if not client.connected:
            return False
        with client._lock:
            return not (
                client._exchange.queue or client._backlog._pending.steps or client._session._unanswered
            )

    wait_until(answered, "answered: all reports")
    counters = client.counters()
    return counters.connections, counters.dropped_steps


def client_threads(_: Any) -> list[str]:
    """Threads of this process that talk to a controller."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("turbospec"))


def controlled(scheduler: Any) -> bool:
    """Whether the adapter is there and was not disabled."""
    control = getattr(scheduler, "_turbospec", None)
    return control is not None and control.enabled


def hooked(_: Any) -> list[str]:
    """What TurboSpec has hooked in this process, as SGLang's registry knows it."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    return sorted(
        target
        for target, hooks in HookRegistry._hooks.items()
        if target in HookRegistry._patched
        if any(hook.__module__.startswith("turbospec.") for _, hook, _ in hooks)
    )


def missing_hooks(_: Any) -> list[str]:
    """What the adapter says that this SGLang lacks."""
    from turbospec.adapters.sglang import compat

    return compat.missing_hooks()


def missing_when_changed(_: Any) -> tuple[list[str], int]:
    """The same for one that was changed, and how many hooks the plug-in then registers."""
    import dataclasses
    import os
    from unittest.mock import patch

    from sglang.srt.managers import utils
    from sglang.srt.managers.scheduler import Scheduler
    from sglang.srt.plugins.hook_registry import HookRegistry
    from turbospec.adapters.sglang import compat, plugin

    def renamed(self: Any, batch: Any, output: Any) -> None: ...

    fewer = dataclasses.make_dataclass("GenerationBatchResult", ["speculative_num_draft_tokens"])
    aborts = Scheduler.send_abort_output
    del Scheduler.send_abort_output
    try:
        with (
            patch.object(Scheduler, "process_batch_result", renamed),
            patch.object(utils, "GenerationBatchResult", fewer),
            patch.object(HookRegistry, "register", autospec=True) as register,
            patch.dict(os.environ, {"TURBOSPEC_CONTROL_ADDRESS": "unix:/nonexistent/control.sock"}),
        ):
            os.environ.pop("TURBOSPEC_DISABLE", None)
            plugin.register()
            return compat.missing_hooks(), register.call_count
    finally:
        Scheduler.send_abort_output = aborts


def built_lengths(scheduler: Any) -> list[int]:
    """The lengths for which SGLang has a runtime state; none where it cannot switch."""
    adaptive = getattr(scheduler.draft_worker, "adaptive_controller", None)
    return sorted(adaptive._states) if adaptive is not None else []


def held_state(scheduler: Any) -> dict[str, int]:
    """Where the adapter still keeps something of requests, with how much."""
    control = scheduler._turbospec
    slots = control._controller._backlog.slots
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    while len(slots) and time.monotonic() < deadline:
        time.sleep(0.05)  # the client's thread reads the last step
    held = {"requests": len(control._known), "caps": len(control._caps), "slots": len(slots)}
    return {what: count for what, count in held.items() if count}


def break_controller(scheduler: Any, method: str) -> None:
    """Makes a method that the adapter calls in each step raise from now on."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    setattr(scheduler._turbospec._controller, method, broken)


def insist(_: Any, length: int) -> None:
    """Makes this rank want a length of its own: what its channel would broadcast, were it the first."""
    from turbospec.adapters.sglang import hooks

    channel = _hooks(hooks)._controlled.channel
    channel._leader = lambda: length


def _hooks(hooks: Any) -> Any:
    import gc

    return next(each for each in gc.get_objects() if isinstance(each, hooks.Hooks))


def declared_lengths(scheduler: Any) -> list[int]:
    """The candidate lengths of the hello."""
    return list(scheduler._turbospec._controller._make_hello().capabilities.candidate_lengths)


def wait_without_plan(scheduler: Any, seconds: float = PATIENCE_SECONDS) -> None:
    """Returns once there is no plan any more."""
    controller = scheduler._turbospec._controller
    deadline = time.monotonic() + seconds
    while controller.current() is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"there is still a plan after {seconds:g} s")
        time.sleep(0.02)


def refused_plans(scheduler: Any) -> dict[str, int]:
    """Plans that were no good, by reason."""
    counted = scheduler._turbospec._controller.fallbacks()
    return {reason: n for reason, n in counted.items() if reason in ("INVALID_PLAN", "WRONG_EPOCH")}


def retract_often(_: Any) -> None:
    """Has SGLang retract a request every few steps, as if memory were short, by a switch that it has."""
    from sglang.srt.managers import scheduler as module

    module.TEST_RETRACT, module.TEST_RETRACT_INTERVAL = True, 7
