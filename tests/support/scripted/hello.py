"""What a scripted engine says of itself."""

from __future__ import annotations

from support.scripted.costs import Costs
from turbospec.sidecar.core.types import Capabilities
from turbospec.v1 import speculation_pb2 as pb


def capabilities(max_length: int = 6, **changes: object) -> Capabilities:
    """An engine with a draft model that can do everything but skip it."""
    settings: dict[str, object] = {
        "max_length": max_length,
        "static_length": max_length // 2,
        "candidate_lengths": tuple(range(max_length + 1)),
    }
    return Capabilities(**{**settings, **changes})  # type: ignore[arg-type]


def declared(costs: Costs, max_length: int = 6, **changes: object) -> Capabilities:
    """The same, saying truly which graphs it has captured and whether ragged batches lose them."""
    graphs = {"graph_sizes": costs.target.sizes, "ragged_breaks_graphs": costs.ragged is not None}
    return capabilities(max_length, **{**graphs, **changes})


def make_hello(engine_id: str, engine: Capabilities) -> pb.Hello:
    """The hello without what the client fills in: protocol version, epoch, live requests."""
    return pb.Hello(
        engine_id=engine_id,
        engine_name="scripted",
        engine_version="1",
        adapter_version="1",
        model="stated",
        draft_model="stated",
        method="draft_model",
        max_length=engine.max_length,
        static_length=engine.static_length,
        max_batch=engine.max_batch,
        max_tokens_per_step=engine.max_batch * (1 + engine.max_length),
        max_context=1 << 20,
        hardware="virtual",
        model_parallel_size=1,
        graph_sizes=engine.graph_sizes,
        capabilities=pb.Capabilities(
            proposal_settable=engine.proposal_settable,
            proposal_saves_draft_cost=engine.proposal_saves_draft_cost,
            candidate_lengths=engine.candidate_lengths,
            verification_per_request=engine.verification_per_request,
            ragged_breaks_graphs=engine.ragged_breaks_graphs,
            deep_off=engine.deep_off,
            plan_delay_steps=engine.plan_delay_steps,
        ),
    )
