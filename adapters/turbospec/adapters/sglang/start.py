"""Puts one SGLang scheduler under control: before its runtime states are built, and before it serves."""

from __future__ import annotations

import logging
import os
from typing import Any

from sglang.srt.model_executor.cuda_graph_config import Backend, Phase, check_cuda_graph_backend
from sglang.srt.platforms import current_platform
from sglang.srt.runtime_context import get_context, get_parallel
from turbospec.adapters import versions
from turbospec.adapters.address import control_address
from turbospec.adapters.client import ControlClient
from turbospec.adapters.sglang import compat
from turbospec.adapters.sglang.control import EngineControl
from turbospec.adapters.sglang.hello import engine_id, make_hello
from turbospec.adapters.sglang.lengths import LengthPolicy
from turbospec.adapters.sglang.ranks import LengthChannel, lengths_of_all
from turbospec.adapters.sglang.refusal import method_support
from turbospec.adapters.sglang.runtime import install
from turbospec.adapters.support import MAX_LENGTH, RefusedError

logger = logging.getLogger("turbospec.sglang")

# SGLang then leaves out the draft's pass over accepted tokens at length 0.
_SKIPS_DRAFT_VARIABLE = "SGLANG_SPEC_SKIP_ZERO_STEP_DRAFT_EXTEND"


class Controlled:
    """What the adapter keeps of one scheduler. `channel`: only with other ranks. `control`: in the first."""

    def __init__(self) -> None:
        self.method = ""
        self.policy: LengthPolicy | None = None
        self.control: EngineControl | None = None
        self.channel: LengthChannel | None = None


def prepare(scheduler: Any, controlled: Controlled) -> None:
    """Once the draft worker is there: makes it build the lengths that it may be told."""
    try:
        config = get_context().config_leaf
        support = method_support(config)
        graphs = not check_cuda_graph_backend(Phase.DECODE, Backend.DISABLED)
        controlled.policy = install(scheduler.draft_worker, config, graphs=graphs, logger=logger)
        controlled.method = support.method
    except RefusedError as refusal:
        if get_parallel().tp_rank == 0:
            logger.warning("TurboSpec does not control this engine: %s.", refusal)


def begin(scheduler: Any, controlled: Controlled) -> None:
    """Before the event loop: agrees with the other ranks and starts the client in the first."""
    policy = controlled.policy
    parallel = get_parallel()
    if parallel.tp_size > 1:
        built = policy.built if policy is not None else ()
        everywhere = lengths_of_all(built, MAX_LENGTH, parallel.tp_group)
        if policy is None:
            return
        if policy.static_length not in everywhere:
            logger.warning("TurboSpec does not control this engine: another rank could not be prepared.")
            return
        policy.restrict(everywhere)
    if policy is None:
        return
    if parallel.tp_rank != 0:
        controlled.channel = LengthChannel(policy, None)
        return
    control, client = _control(scheduler, controlled.method, policy, alone=parallel.tp_size == 1)
    # After all that could fail: no thread may be left behind that reports an engine without steps.
    client.start()
    controlled.control = control
    if parallel.tp_size > 1:
        controlled.channel = LengthChannel(policy, control.next_length)


def _control(
    scheduler: Any, method: str, policy: LengthPolicy, *, alone: bool
) -> tuple[EngineControl, ControlClient]:
    version = compat.engine_version()
    if warning := versions.SGLANG.warning(version):
        logger.warning(warning)
    if os.environ.get(_SKIPS_DRAFT_VARIABLE, "").lower() in ("1", "true", "yes", "y"):
        logger.warning(
            "%s is set: requests that run at length 0 draft badly afterwards, and the controller takes that "
            "for what their drafts are worth. Unset it.",
            _SKIPS_DRAFT_VARIABLE,
        )
    config = get_context().config_leaf
    hello = make_hello(
        scheduler,
        config,
        policy,
        method=method,
        rank=get_parallel().dp_rank or 0,
        # With overlap t+1 is launched before the result of t is processed; ranks take lengths a turn later.
        plan_delay_steps=(2 if scheduler.enable_overlap else 1) + (0 if alone else 1),
        engine_version=version,
        hardware=current_platform.get_device_name(),
        environ=os.environ,
    )
    address = control_address()
    client = ControlClient(address, lambda: hello)
    control = EngineControl(
        scheduler,
        policy,
        client,
        logger,
        own_thread_computes=scheduler.device == "cpu",
        chosen_elsewhere=not alone,
    )
    logger.info(
        "TurboSpec controls engine %s from %s, with lengths %s.",
        engine_id(config, os.environ),
        address,
        ", ".join(map(str, policy.built)),
    )
    return control, client
