"""What is hung into SGLang, through its own hook registry.

Every call into the adapter is safe by construction (see `guard.fail_open`) or caught here; what SGLang's own
methods raise is SGLang's, and is let through.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger
from typing import TYPE_CHECKING, Any

from turbospec.adapters.sglang import compat

if TYPE_CHECKING:
    from turbospec.adapters.sglang.start import Controlled

# What SGLang's scheduler carries of ours.
_ATTRIBUTE = "_turbospec"

NOT_STARTED = "TurboSpec's adapter could not start; the engine runs its own configuration."


class Hooks:
    """Registers the hooks of this process, and knows whether SGLang took them: it only logs where not."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._originals = {name: compat.resolve(name) for name in compat.HOOKED}
        # Of the one scheduler of this process: its receiver of requests has no room for an attribute.
        self._controlled: Controlled | None = None

    def register(self, registry: Any, around: Any) -> None:
        """`registry` is SGLang's HookRegistry, `around` its HookType of hooks that call the original."""
        for name in compat.HOOKED:
            hook: Callable[..., Any] = getattr(self, name.rpartition(".")[2].lstrip("_"))
            registry.register(name, hook, around)

    def not_taken(self) -> list[str]:
        """Names whose hook is not in place."""
        return [name for name, was in self._originals.items() if compat.resolve(name) in (was, None)]

    # In the order in which SGLang comes past them.

    def maybe_init_draft_worker(self, original: Callable[..., Any], scheduler: Any) -> Any:
        result = original(scheduler)
        if missing := self.not_taken():
            self._logger.warning(
                "TurboSpec does not control this engine: SGLang did not take its hooks on %s.",
                ", ".join(missing),
            )
            return result
        try:
            # Here, because it imports what only schedulers have loaded.
            from turbospec.adapters.sglang.start import Controlled, prepare

            self._controlled = controlled = Controlled()
            prepare(scheduler, controlled)
        # The engine must start whatever an untested SGLang lacks.
        except Exception:
            self._logger.exception(NOT_STARTED)
        return result

    def run_event_loop(self, original: Callable[..., Any], scheduler: Any) -> Any:
        controlled = self._controlled
        if controlled is not None:
            try:
                from turbospec.adapters.sglang.start import begin

                begin(scheduler, controlled)
            except Exception:
                self._logger.exception(NOT_STARTED)
            setattr(scheduler, _ATTRIBUTE, controlled.control)
        try:
            return original(scheduler)
        finally:
            if controlled is not None and controlled.control is not None:
                controlled.control.close()

    def broadcast_reqs_across_ranks(
        self, original: Callable[..., Any], receiver: Any, recv_reqs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        channel = self._controlled.channel if self._controlled is not None else None
        if channel is None:
            return original(receiver, recv_reqs, *args, **kwargs)
        received = original(receiver, channel.before_broadcast(recv_reqs), *args, **kwargs)
        return channel.after_broadcast(received)

    def run_batch(
        self, original: Callable[..., Any], scheduler: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> Any:
        control = getattr(scheduler, _ATTRIBUTE, None)
        if control is None:
            return original(scheduler, batch, *args, **kwargs)
        control.before_launch(batch, after_idle=scheduler._sched_idled)
        result = original(scheduler, batch, *args, **kwargs)
        control.after_launch(batch, result)
        return result

    def process_batch_result(
        self, original: Callable[..., Any], scheduler: Any, batch: Any, result: Any
    ) -> Any:
        control = getattr(scheduler, _ATTRIBUTE, None)
        if control is None:
            return original(scheduler, batch, result)
        control.before_processing(batch, result)
        returned = original(scheduler, batch, result)
        control.after_processing(batch, result)
        return returned

    def send_abort_output(
        self, original: Callable[..., Any], scheduler: Any, abort_req: Any, req: Any
    ) -> Any:
        control = getattr(scheduler, _ATTRIBUTE, None)
        if control is not None:
            control.request_aborted(req)
        return original(scheduler, abort_req, req)

    def continue_generation(
        self, original: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any
    ) -> Any:
        control = getattr(scheduler, _ATTRIBUTE, None)
        if control is not None:
            control.resumed()
        return original(scheduler, *args, **kwargs)
