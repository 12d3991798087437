"""The engine that is profiled: found at the sidecar and at its own endpoint, and fit to be profiled."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass

from turbospec.engines.profiling.errors import ProfilingError
from turbospec.engines.profiling.sidecar import Sidecar
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles.key import ProfileKey
from turbospec.v1 import introspection_pb2 as pb

_CALL_SECONDS = 60.0  # as in `profiling.sidecar`


@dataclass(frozen=True, slots=True)
class Target:
    """One engine. `url`: its OpenAI endpoint without /v1; `served_model`: what that calls its model;
    `policy`: the one in force before; `step_tokens`: most of one step, prompts' included, 0 if not known."""

    engine_id: str
    rank: int
    url: str
    served_model: str
    policy: str
    capabilities: Capabilities
    max_context: int
    step_tokens: int
    key: ProfileKey

    @property
    def intent_field(self) -> str:
        """The field of a request's body where this engine's adapter looks for a label and a cap."""
        return "custom_params" if self.key.engine_name == "sglang" else "vllm_xargs"


def find_target(sidecar: Sidecar, url: str, engine_id: str | None) -> Target:
    """The engine `engine_id`; None: the only one. Raises ProfilingError where it cannot be profiled."""
    summary = _choose(sidecar.engines(), engine_id)
    if not summary.connected:
        raise ProfilingError(
            f"engine {summary.engine_id!r} is not connected to the sidecar: {summary.uncontrolled_reason}"
        )
    if summary.shadow:
        raise ProfilingError(
            f"engine {summary.engine_id!r} is in shadow mode, where lengths are not applied; "
            f"to apply them: turbospec set-policy {summary.policy} --no-shadow"
        )
    state = sidecar.engine(summary.engine_id, summary.rank)
    if not state.identity.max_context:
        raise ProfilingError(f"engine {summary.engine_id!r} does not say how long a context it can hold")
    model, max_context = _served_model(url)
    if max_context not in (None, state.identity.max_context):
        raise ProfilingError(
            f"--engine-url: {url} serves a model with a context of {max_context} tokens, and engine "
            f"{summary.engine_id!r} has one of {state.identity.max_context}: is it the same engine?"
        )
    return Target(
        engine_id=summary.engine_id,
        rank=summary.rank,
        url=url,
        served_model=model,
        policy=summary.policy,
        capabilities=_capabilities(state),
        max_context=state.identity.max_context,
        step_tokens=state.identity.max_tokens_per_step,
        key=_key(state),
    )


def _choose(engines: list[pb.EngineSummary], engine_id: str | None) -> pb.EngineSummary:
    known = ", ".join(sorted({engine.engine_id for engine in engines})) or "none"
    found = [engine for engine in engines if engine_id in (None, engine.engine_id)]
    if engine_id is None and any(engine.connected for engine in found):
        found = [engine for engine in found if engine.connected]
    names = {engine.engine_id for engine in found}
    if not found:
        wanted = "no engine" if engine_id is None else f"no engine {engine_id!r}"
        raise ProfilingError(f"{wanted} has connected to the sidecar; it knows: {known}")
    if len(names) > 1:
        raise ProfilingError(
            f"{len(names)} engines are connected; say which with --engine-id: {', '.join(sorted(names))}"
        )
    if len(found) > 1:
        raise ProfilingError(
            f"engine {found[0].engine_id!r} has {len(found)} data-parallel ranks, and which of them a "
            "request runs in cannot be chosen: profile an engine with one"
        )
    return found[0]


def _served_model(url: str) -> tuple[str, int | None]:
    """The name and, where the endpoint tells it, the longest context of the model at `url`."""
    # Past whatever proxy the environment names, as the requests will go.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/v1/models", timeout=_CALL_SECONDS) as response:
            first = json.load(response)["data"][0]
            return str(first["id"]), first.get("max_model_len")
    except OSError as error:
        raise ProfilingError(f"--engine-url: no engine answers at {url}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProfilingError(f"--engine-url: {url}/v1/models is no list of models as vLLM's is") from error


def _capabilities(state: pb.GetEngineResponse) -> Capabilities:
    given, identity = state.capabilities, state.identity
    return Capabilities(
        max_length=identity.max_length,
        static_length=identity.static_length,
        candidate_lengths=tuple(given.candidate_lengths),
        proposal_settable=given.proposal_settable,
        proposal_saves_draft_cost=given.proposal_saves_draft_cost,
        verification_per_request=given.verification_per_request,
        ragged_breaks_graphs=given.ragged_breaks_graphs,
        deep_off=given.deep_off,
        plan_delay_steps=given.plan_delay_steps,
        max_batch=identity.max_batch,
        graph_sizes=tuple(identity.graph_sizes),
    )


def _key(state: pb.GetEngineResponse) -> ProfileKey:
    identity, given = state.identity, state.capabilities
    return ProfileKey(
        hardware=identity.hardware,
        engine_name=identity.engine_name,
        engine_version=identity.engine_version,
        model=identity.model,
        draft_model=identity.draft_model,
        method=identity.method,
        dtype=identity.dtype,
        model_parallel_size=identity.model_parallel_size,
        max_length=identity.max_length,
        graph_sizes=tuple(identity.graph_sizes),
        ragged_breaks_graphs=given.ragged_breaks_graphs,
        deep_off=given.deep_off,
        proposal_saves_draft_cost=given.proposal_saves_draft_cost,
    )
