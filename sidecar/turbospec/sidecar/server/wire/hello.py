"""Reads and checks Hello and RequestOpened."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from turbospec.sidecar.core.types import Capabilities, RequestInfo
from turbospec.sidecar.server import limits
from turbospec.sidecar.server.identity import EngineKey, Hello, Identity
from turbospec.sidecar.server.wire.errors import (
    LimitError,
    MessageError,
    PreconditionError,
    at_most_bytes,
    within,
)
from turbospec.v1 import speculation_pb2 as pb


def read_first(request: pb.ControlRequest, max_requests: int) -> Hello:
    """The hello of a stream's first message. Raises `MessageError`."""
    kind = request.WhichOneof("message")
    if kind != "hello":
        raise PreconditionError("hello", f"must be the first message, not {kind or 'an empty one'}")
    return read_hello(request.hello, max_requests)


def read_hello(hello: pb.Hello, max_requests: int) -> Hello:
    """The protocol's Hello, checked. Raises `MessageError`."""
    if hello.protocol_version != limits.PROTOCOL_VERSION:
        raise PreconditionError(
            "hello.protocol_version",
            f"this controller speaks {limits.PROTOCOL_VERSION}, not {hello.protocol_version}",
        )
    return Hello(
        key=EngineKey(_engine_id(hello.engine_id), within("hello.rank", hello.rank, 0, limits.LARGEST_RANK)),
        epoch=hello.epoch,
        identity=Identity(
            **{name: _name(hello, name) for name in _NAMES},
            model_parallel_size=hello.model_parallel_size,
            max_context=hello.max_context,
            max_tokens_per_step=hello.max_tokens_per_step,
        ),
        capabilities=_capabilities(hello),
        live_requests=read_opened("hello.live_requests", hello.live_requests, max_requests),
    )


def read_opened(field: str, opened: Collection[pb.RequestOpened], room: int) -> tuple[RequestInfo, ...]:
    """Requests that enter, at most `room`. Raises `MessageError`."""
    if len(opened) > room:
        raise LimitError("max_requests_per_engine", f"{len(opened)} requests enter, with room for {room}")
    found: dict[int, RequestInfo] = {}
    for i, request in enumerate(opened):
        at = f"{field}[{i}]"
        slot = within(f"{at}.slot", request.slot, 0, limits.LARGEST_SLOT)
        if slot in found:
            raise MessageError(f"{at}.slot", f"{slot} is named twice")
        if not request.request_id:
            raise MessageError(f"{at}.request_id", "must not be empty")
        found[slot] = RequestInfo(
            slot=slot,
            request_id=at_most_bytes(f"{at}.request_id", request.request_id, limits.LONGEST_REQUEST_ID_BYTES),
            label=at_most_bytes(f"{at}.label", request.label, limits.LONGEST_LABEL_BYTES),
            max_draft=request.max_draft if request.HasField("max_draft") else None,
            prompt_tokens=request.prompt_tokens,
        )
    return tuple(found.values())


_NAMES = (
    "engine_name",
    "engine_version",
    "adapter_version",
    "model",
    "draft_model",
    "method",
    "hardware",
    "dtype",
)


def _name(hello: pb.Hello, name: str) -> str:
    return at_most_bytes(f"hello.{name}", getattr(hello, name), limits.LONGEST_NAME_BYTES)


def _engine_id(text: str) -> str:
    if not 1 <= len(text) <= limits.LONGEST_ENGINE_ID:
        raise MessageError("hello.engine_id", f"1 to {limits.LONGEST_ENGINE_ID} characters, not {len(text)}")
    if not text.isprintable() or " " in text:
        raise MessageError("hello.engine_id", f"must be printable and without spaces, not {text!r}")
    return text


def _capabilities(hello: pb.Hello) -> Capabilities:
    longest = within("hello.max_length", hello.max_length, 1, limits.LONGEST_PROPOSAL)
    told = hello.capabilities
    lengths = tuple(told.candidate_lengths)
    _ascending("hello.capabilities.candidate_lengths", lengths, limits.LONGEST_PROPOSAL + 1)
    if lengths and lengths[-1] > longest:
        raise MessageError(
            "hello.capabilities.candidate_lengths", f"at most max_length, {longest}, not {lengths[-1]}"
        )
    graphs = tuple(hello.graph_sizes)
    _ascending("hello.graph_sizes", graphs, limits.MOST_GRAPH_SIZES)
    return Capabilities(
        max_length=longest,
        static_length=within("hello.static_length", hello.static_length, 0, longest),
        candidate_lengths=lengths or tuple(range(longest + 1)),
        proposal_settable=told.proposal_settable,
        proposal_saves_draft_cost=told.proposal_saves_draft_cost,
        verification_per_request=told.verification_per_request,
        ragged_breaks_graphs=told.ragged_breaks_graphs,
        deep_off=told.deep_off,
        plan_delay_steps=within(
            "hello.capabilities.plan_delay_steps", told.plan_delay_steps, 0, limits.LARGEST_PLAN_DELAY
        ),
        max_batch=within("hello.max_batch", hello.max_batch, 1, limits.LARGEST_BATCH),
        graph_sizes=graphs,
    )


def _ascending(field: str, values: tuple[int, ...], most: int) -> None:
    if len(values) > most:
        raise MessageError(field, f"has at most {most} entries, not {len(values)}")
    for before, after in pairwise(values):
        if after <= before:
            raise MessageError(field, f"must be ascending, but {after} follows {before}")
