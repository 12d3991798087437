"""Who this engine is, in the protocol's terms, from vLLM's configuration."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from turbospec.adapters.support import ENGINE_ID_VARIABLE
from turbospec.adapters.version import __version__
from turbospec.adapters.vllm.methods import MethodSupport
from turbospec.v1 import speculation_pb2 as pb


def engine_id(environ: Mapping[str, str]) -> str:
    """The engine's name for people: what the operator set, else host and process."""
    return environ.get(ENGINE_ID_VARIABLE) or f"vllm-{socket.gethostname()}-{os.getpid()}"


def make_hello(
    vllm_config: Any,
    support: MethodSupport,
    *,
    deep_off: bool,
    engine_version: str,
    hardware: str,
    environ: Mapping[str, str],
) -> pb.Hello:
    """The hello without what the client fills in: protocol version, epoch, live requests."""
    speculative = vllm_config.speculative_config
    parallel = vllm_config.parallel_config
    scheduler = vllm_config.scheduler_config
    model = vllm_config.model_config
    return pb.Hello(
        engine_id=engine_id(environ),
        rank=parallel.data_parallel_index,
        engine_name="vllm",
        engine_version=engine_version,
        adapter_version=__version__,
        model=str(model.model),
        # n-gram and suffix methods repeat the target's or the method's name here.
        draft_model=str(speculative.model) if _has_draft_model(speculative) else "",
        method=support.method,
        max_length=speculative.num_speculative_tokens,
        static_length=speculative.num_speculative_tokens,
        max_batch=scheduler.max_num_seqs,
        max_tokens_per_step=scheduler.max_num_batched_tokens,
        max_context=model.max_model_len,
        hardware=hardware,
        dtype=str(model.dtype).removeprefix("torch."),
        model_parallel_size=parallel.tensor_parallel_size * parallel.pipeline_parallel_size,
        graph_sizes=_graph_sizes(vllm_config),
        capabilities=pb.Capabilities(
            proposal_settable=support.proposal_settable,
            proposal_saves_draft_cost=support.proposal_saves_draft_cost,
            verification_per_request=support.verification_per_request,
            deep_off=deep_off,
            # Full graphs are captured for decode batches of one width; ragged ones run piecewise.
            ragged_breaks_graphs=bool(vllm_config.compilation_config.cudagraph_mode.has_full_cudagraphs()),
            # An asynchronous scheduler has scheduled t+1 before it sees the output of t.
            plan_delay_steps=2 if scheduler.async_scheduling else 1,
        ),
    )


def _graph_sizes(vllm_config: Any) -> list[int]:
    compilation = vllm_config.compilation_config
    mode = compilation.cudagraph_mode
    if not (mode.has_full_cudagraphs() or mode.has_piecewise_cudagraphs()):
        return []
    return sorted(compilation.cudagraph_capture_sizes or [])


def _has_draft_model(speculative: Any) -> bool:
    return bool(speculative.use_eagle() or speculative.uses_draft_model())
