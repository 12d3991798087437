"""Who this engine is, in the protocol's terms, from SGLang's configuration."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from turbospec.adapters.sglang.lengths import LengthPolicy
from turbospec.adapters.support import ENGINE_ID_VARIABLE
from turbospec.adapters.version import __version__
from turbospec.v1 import speculation_pb2 as pb


def engine_id(config: Callable[[str], Any], environ: Mapping[str, str]) -> str:
    """The engine's name for people, the same in all its ranks: what the operator set, else host and port."""
    return environ.get(ENGINE_ID_VARIABLE) or f"sglang-{socket.gethostname()}-{config('port')}"


def make_hello(
    scheduler: Any,
    config: Callable[[str], Any],
    policy: LengthPolicy,
    *,
    method: str,
    rank: int,
    plan_delay_steps: int,
    engine_version: str,
    hardware: str,
    environ: Mapping[str, str],
) -> pb.Hello:
    """The hello without what the client fills in: protocol version, epoch, live requests."""
    model = scheduler.model_config
    return pb.Hello(
        engine_id=engine_id(config, environ),
        rank=rank,
        engine_name="sglang",
        engine_version=engine_version,
        adapter_version=__version__,
        model=str(config("model_path")),
        draft_model=str(config("speculative_draft_model_path") or ""),
        method=method,
        max_length=policy.built[-1],
        static_length=policy.static_length,
        max_batch=scheduler.max_running_requests,
        max_tokens_per_step=scheduler.max_prefill_tokens,
        max_context=model.context_len,
        hardware=hardware,
        dtype=str(model.dtype).removeprefix("torch."),
        model_parallel_size=config("tp_size") * config("pp_size"),
        capabilities=pb.Capabilities(
            proposal_settable=True,
            proposal_saves_draft_cost=True,
            candidate_lengths=policy.built,
            # SGLang verifies what it proposes: a cap for one request would save nothing.
            verification_per_request=False,
            # Its graphs are captured by requests for each length, not by tokens, so `graph_sizes` stays
            # empty.
            ragged_breaks_graphs=False,
            # At length 0 the draft's KV cache is still kept current. SGLang could leave that out, but then
            # all requests of the batch would draft from gaps afterwards, and none can be told not to.
            deep_off=False,
            plan_delay_steps=plan_delay_steps,
        ),
    )
