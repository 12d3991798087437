"""The scheduler that `--scheduler-cls turbospec.adapters.vllm.scheduler.TurboSpecScheduler` names."""

from __future__ import annotations

import logging
import os
from typing import Any

from turbospec.adapters import versions
from turbospec.adapters.address import control_address
from turbospec.adapters.client import ControlClient
from turbospec.adapters.support import RefusedError
from turbospec.adapters.vllm import compat
from turbospec.adapters.vllm.control import EngineControl
from turbospec.adapters.vllm.drafter import workers_hooked
from turbospec.adapters.vllm.engine_core import hook_engine_core
from turbospec.adapters.vllm.hello import engine_id, make_hello
from turbospec.adapters.vllm.memory import DraftMemory
from turbospec.adapters.vllm.methods import MethodSupport
from turbospec.adapters.vllm.refusal import deep_off_obstacle, method_support
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.worker.worker_base import WorkerWrapperBase

logger = init_logger("vllm.turbospec")
# vLLM configures its own loggers only; the client's lines belong in the same log.
logging.getLogger("turbospec").parent = logging.getLogger("vllm")


def _controlled(stock: Any) -> Any:
    """One of vLLM's schedulers with the hooks.

    Every call into `_turbospec` is safe by construction (see `guard.fail_open`); what vLLM's own methods
    raise is vLLM's, and is let through. A direct subclass, with no mixin: only so do its instances have the
    layout of stock ones, and can become such.
    """

    class Controlled(stock):  # type: ignore[misc]
        _turbospec: EngineControl

        def schedule(self, *args: Any, **kwargs: Any) -> Any:
            self._turbospec.before_schedule()
            return super().schedule(*args, **kwargs)

        def _update_after_schedule(self, scheduler_output: Any) -> None:
            # First ours: the asynchronous scheduler makes as many placeholders as the length set here.
            self._turbospec.after_schedule(scheduler_output)
            super()._update_after_schedule(scheduler_output)

        def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
            self._turbospec.before_update(scheduler_output, model_runner_output)
            outputs = super().update_from_output(scheduler_output, model_runner_output)
            self._turbospec.after_update(outputs)
            return outputs

        def _free_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            # The one way out for requests that finished, stopped, failed or were aborted.
            self._turbospec.request_freed(request)
            return super()._free_request(request, *args, **kwargs)

        def shutdown(self) -> None:
            self._turbospec.close()
            super().shutdown()

    Controlled.__name__ = Controlled.__qualname__ = f"Controlled{stock.__name__}"
    return Controlled


ControlledScheduler = _controlled(Scheduler)
ControlledAsyncScheduler = _controlled(AsyncScheduler)


class TurboSpecScheduler:
    """Constructs the scheduler that an engine's configuration calls for.

    One name for all, because vLLM decides late whether scheduling is asynchronous: it is final only in
    the configuration that the constructor receives. Where control is refused the result is the
    scheduler that vLLM would have taken by itself, and one warning says why.
    """

    def __new__(cls, vllm_config: Any, *args: Any, **kwargs: Any) -> Any:
        support = _support(vllm_config)
        if support is None:
            return _stock_class(vllm_config)(vllm_config, *args, **kwargs)
        asynchronous = vllm_config.scheduler_config.async_scheduling
        controlled = ControlledAsyncScheduler if asynchronous else ControlledScheduler
        scheduler = controlled(vllm_config, *args, **kwargs)
        try:
            scheduler._turbospec = _control(scheduler, vllm_config, support)
        # The engine must start whatever is wrong with the adapter; the log has the traceback.
        except Exception:
            logger.exception("TurboSpec's adapter could not start; the engine runs its own configuration.")
            scheduler.__class__ = AsyncScheduler if asynchronous else Scheduler
        return scheduler


def _support(vllm_config: Any) -> MethodSupport | None:
    """What may be controlled, None where nothing may; the log says why."""
    try:
        # First: on another vLLM the configuration, too, may not be what is read next.
        if missing := compat.missing_hooks():
            raise RefusedError(f"this vLLM differs from the tested ones: {'; '.join(missing)}")
        return method_support(vllm_config, os.environ)
    except RefusedError as refusal:
        logger.warning("TurboSpec does not control this engine: %s.", refusal)
    # The engine must start whatever an untested vLLM lacks; the log has the traceback.
    except Exception:
        logger.exception(
            "TurboSpec does not control this engine: its configuration could not be read. "
            "The engine runs vLLM's own scheduler."
        )
    return None


def _control(scheduler: Any, vllm_config: Any, support: MethodSupport) -> EngineControl:
    version = compat.engine_version()
    if warning := versions.VLLM.warning(version):
        logger.warning(warning)
    hello = make_hello(
        vllm_config,
        support,
        deep_off=support.drafter_skippable and _can_skip_drafter(vllm_config),
        engine_version=version,
        hardware=current_platform.get_device_name(),
        environ=os.environ,
    )
    address = control_address()
    client = ControlClient(address, lambda: hello)
    control = EngineControl(
        scheduler,
        client,
        logger,
        # Runner 2 may have all passes of the drafter in one graph: they write up to the configured length.
        memory=DraftMemory(
            scheduler,
            follows_length=support.runner == 1 and support.proposal_saves_draft_cost,
            max_length=hello.max_length,
        ),
        proposal_settable=support.proposal_settable,
        deep_off=hello.capabilities.deep_off,
        # Full graphs need one width: a request near its end must not make the batch ragged.
        stop_before_end=not hello.capabilities.ragged_breaks_graphs,
    )
    # By now it is there: it is what constructs schedulers. Importing it earlier could go in a circle.
    from vllm.v1.engine.core import EngineCore

    hook_engine_core(EngineCore)
    # Last, so that what fails above leaves no thread behind that reports an engine without steps.
    client.start()
    logger.info("TurboSpec controls engine %s from %s.", engine_id(os.environ), address)
    return control


def _can_skip_drafter(vllm_config: Any) -> bool:
    """Whether deep off works in this engine; where its method allows it and it does not, the log says why."""
    obstacle = deep_off_obstacle(vllm_config, hooked=workers_hooked(WorkerWrapperBase))
    if obstacle is None and (missing := compat.missing_drafter_hooks()):
        obstacle = f"this vLLM differs from the tested ones: {'; '.join(missing)}"
    if obstacle is not None:
        logger.info("The drafter always runs, also at length 0: %s.", obstacle)
    return obstacle is None


def _stock_class(vllm_config: Any) -> Any:
    """What vLLM takes when no scheduler is named."""
    asynchronous = vllm_config.scheduler_config.async_scheduling
    # Absent from a vLLM that has no diffusion schedulers either.
    if getattr(vllm_config.model_config, "is_diffusion", False):
        from vllm.v1.core.sched import diffusion_scheduler

        return (
            diffusion_scheduler.DiffusionAsyncScheduler
            if asynchronous
            else diffusion_scheduler.DiffusionScheduler
        )
    return AsyncScheduler if asynchronous else Scheduler
