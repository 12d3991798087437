from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Disturbance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTURBANCE_UNSPECIFIED: _ClassVar[Disturbance]
    DISTURBANCE_AFTER_IDLE: _ClassVar[Disturbance]
    DISTURBANCE_PREFILL: _ClassVar[Disturbance]
    DISTURBANCE_PREEMPTION: _ClassVar[Disturbance]
    DISTURBANCE_GRAMMAR: _ClassVar[Disturbance]

class FallbackReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FALLBACK_REASON_UNSPECIFIED: _ClassVar[FallbackReason]
    FALLBACK_REASON_DISCONNECTED: _ClassVar[FallbackReason]
    FALLBACK_REASON_NO_PLAN: _ClassVar[FallbackReason]
    FALLBACK_REASON_EXPIRED: _ClassVar[FallbackReason]
    FALLBACK_REASON_INVALID_PLAN: _ClassVar[FallbackReason]
    FALLBACK_REASON_WRONG_EPOCH: _ClassVar[FallbackReason]
    FALLBACK_REASON_SHADOW: _ClassVar[FallbackReason]

class PlanReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLAN_REASON_UNSPECIFIED: _ClassVar[PlanReason]
    PLAN_REASON_FIXED: _ClassVar[PlanReason]
    PLAN_REASON_LEARNING: _ClassVar[PlanReason]
    PLAN_REASON_BEST_GOODPUT: _ClassVar[PlanReason]
    PLAN_REASON_DOES_NOT_PAY: _ClassVar[PlanReason]
    PLAN_REASON_PROBE: _ClassVar[PlanReason]
    PLAN_REASON_CALLER_OFF: _ClassVar[PlanReason]
    PLAN_REASON_NO_REQUESTS: _ClassVar[PlanReason]
    PLAN_REASON_OFF: _ClassVar[PlanReason]
DISTURBANCE_UNSPECIFIED: Disturbance
DISTURBANCE_AFTER_IDLE: Disturbance
DISTURBANCE_PREFILL: Disturbance
DISTURBANCE_PREEMPTION: Disturbance
DISTURBANCE_GRAMMAR: Disturbance
FALLBACK_REASON_UNSPECIFIED: FallbackReason
FALLBACK_REASON_DISCONNECTED: FallbackReason
FALLBACK_REASON_NO_PLAN: FallbackReason
FALLBACK_REASON_EXPIRED: FallbackReason
FALLBACK_REASON_INVALID_PLAN: FallbackReason
FALLBACK_REASON_WRONG_EPOCH: FallbackReason
FALLBACK_REASON_SHADOW: FallbackReason
PLAN_REASON_UNSPECIFIED: PlanReason
PLAN_REASON_FIXED: PlanReason
PLAN_REASON_LEARNING: PlanReason
PLAN_REASON_BEST_GOODPUT: PlanReason
PLAN_REASON_DOES_NOT_PAY: PlanReason
PLAN_REASON_PROBE: PlanReason
PLAN_REASON_CALLER_OFF: PlanReason
PLAN_REASON_NO_REQUESTS: PlanReason
PLAN_REASON_OFF: PlanReason

class ControlRequest(_message.Message):
    __slots__ = ("hello", "report")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    report: StepReport
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., report: _Optional[_Union[StepReport, _Mapping]] = ...) -> None: ...

class ControlResponse(_message.Message):
    __slots__ = ("configure", "plan", "drain")
    CONFIGURE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    configure: Configure
    plan: Plan
    drain: Drain
    def __init__(self, configure: _Optional[_Union[Configure, _Mapping]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_version", "engine_id", "rank", "epoch", "engine_name", "engine_version", "adapter_version", "model", "draft_model", "method", "max_length", "static_length", "max_batch", "max_tokens_per_step", "max_context", "hardware", "dtype", "model_parallel_size", "graph_sizes", "capabilities", "live_requests")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENGINE_NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DRAFT_MODEL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    STATIC_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_PARALLEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    GRAPH_SIZES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    engine_id: str
    rank: int
    epoch: int
    engine_name: str
    engine_version: str
    adapter_version: str
    model: str
    draft_model: str
    method: str
    max_length: int
    static_length: int
    max_batch: int
    max_tokens_per_step: int
    max_context: int
    hardware: str
    dtype: str
    model_parallel_size: int
    graph_sizes: _containers.RepeatedScalarFieldContainer[int]
    capabilities: Capabilities
    live_requests: _containers.RepeatedCompositeFieldContainer[RequestOpened]
    def __init__(self, protocol_version: _Optional[int] = ..., engine_id: _Optional[str] = ..., rank: _Optional[int] = ..., epoch: _Optional[int] = ..., engine_name: _Optional[str] = ..., engine_version: _Optional[str] = ..., adapter_version: _Optional[str] = ..., model: _Optional[str] = ..., draft_model: _Optional[str] = ..., method: _Optional[str] = ..., max_length: _Optional[int] = ..., static_length: _Optional[int] = ..., max_batch: _Optional[int] = ..., max_tokens_per_step: _Optional[int] = ..., max_context: _Optional[int] = ..., hardware: _Optional[str] = ..., dtype: _Optional[str] = ..., model_parallel_size: _Optional[int] = ..., graph_sizes: _Optional[_Iterable[int]] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., live_requests: _Optional[_Iterable[_Union[RequestOpened, _Mapping]]] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("proposal_settable", "proposal_saves_draft_cost", "candidate_lengths", "verification_per_request", "ragged_breaks_graphs", "deep_off", "plan_delay_steps")
    PROPOSAL_SETTABLE_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_SAVES_DRAFT_COST_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RAGGED_BREAKS_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    DEEP_OFF_FIELD_NUMBER: _ClassVar[int]
    PLAN_DELAY_STEPS_FIELD_NUMBER: _ClassVar[int]
    proposal_settable: bool
    proposal_saves_draft_cost: bool
    candidate_lengths: _containers.RepeatedScalarFieldContainer[int]
    verification_per_request: bool
    ragged_breaks_graphs: bool
    deep_off: bool
    plan_delay_steps: int
    def __init__(self, proposal_settable: bool = ..., proposal_saves_draft_cost: bool = ..., candidate_lengths: _Optional[_Iterable[int]] = ..., verification_per_request: bool = ..., ragged_breaks_graphs: bool = ..., deep_off: bool = ..., plan_delay_steps: _Optional[int] = ...) -> None: ...

class RequestOpened(_message.Message):
    __slots__ = ("slot", "request_id", "label", "max_draft", "prompt_tokens")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    slot: int
    request_id: str
    label: str
    max_draft: int
    prompt_tokens: int
    def __init__(self, slot: _Optional[int] = ..., request_id: _Optional[str] = ..., label: _Optional[str] = ..., max_draft: _Optional[int] = ..., prompt_tokens: _Optional[int] = ...) -> None: ...

class StepReport(_message.Message):
    __slots__ = ("sequence", "steps", "duration_ns", "disturbances", "requests", "prefill_tokens", "proposal_length", "plan_version", "emitted_tokens", "slots", "proposed", "verified", "accepted", "context_tokens", "opened", "closed_slots", "kv_cache_usage_ratio", "counters", "plan_age_steps", "drafter_skipped", "unready_slots")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    DISTURBANCES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    EMITTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_USAGE_RATIO_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    PLAN_AGE_STEPS_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    UNREADY_SLOTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    steps: int
    duration_ns: int
    disturbances: _containers.RepeatedScalarFieldContainer[Disturbance]
    requests: int
    prefill_tokens: int
    proposal_length: int
    plan_version: int
    emitted_tokens: int
    slots: _containers.RepeatedScalarFieldContainer[int]
    proposed: _containers.RepeatedScalarFieldContainer[int]
    verified: _containers.RepeatedScalarFieldContainer[int]
    accepted: _containers.RepeatedScalarFieldContainer[int]
    context_tokens: _containers.RepeatedScalarFieldContainer[int]
    opened: _containers.RepeatedCompositeFieldContainer[RequestOpened]
    closed_slots: _containers.RepeatedScalarFieldContainer[int]
    kv_cache_usage_ratio: float
    counters: AdapterCounters
    plan_age_steps: int
    drafter_skipped: bool
    unready_slots: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sequence: _Optional[int] = ..., steps: _Optional[int] = ..., duration_ns: _Optional[int] = ..., disturbances: _Optional[_Iterable[_Union[Disturbance, str]]] = ..., requests: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., proposal_length: _Optional[int] = ..., plan_version: _Optional[int] = ..., emitted_tokens: _Optional[int] = ..., slots: _Optional[_Iterable[int]] = ..., proposed: _Optional[_Iterable[int]] = ..., verified: _Optional[_Iterable[int]] = ..., accepted: _Optional[_Iterable[int]] = ..., context_tokens: _Optional[_Iterable[int]] = ..., opened: _Optional[_Iterable[_Union[RequestOpened, _Mapping]]] = ..., closed_slots: _Optional[_Iterable[int]] = ..., kv_cache_usage_ratio: _Optional[float] = ..., counters: _Optional[_Union[AdapterCounters, _Mapping]] = ..., plan_age_steps: _Optional[int] = ..., drafter_skipped: bool = ..., unready_slots: _Optional[_Iterable[int]] = ...) -> None: ...

class AdapterCounters(_message.Message):
    __slots__ = ("fallbacks", "coalesced_steps", "dropped_steps", "connections", "memory_limited_steps")
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    COALESCED_STEPS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_STEPS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMITED_STEPS_FIELD_NUMBER: _ClassVar[int]
    fallbacks: _containers.RepeatedCompositeFieldContainer[FallbackCount]
    coalesced_steps: int
    dropped_steps: int
    connections: int
    memory_limited_steps: int
    def __init__(self, fallbacks: _Optional[_Iterable[_Union[FallbackCount, _Mapping]]] = ..., coalesced_steps: _Optional[int] = ..., dropped_steps: _Optional[int] = ..., connections: _Optional[int] = ..., memory_limited_steps: _Optional[int] = ...) -> None: ...

class FallbackCount(_message.Message):
    __slots__ = ("reason", "count")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    reason: FallbackReason
    count: int
    def __init__(self, reason: _Optional[_Union[FallbackReason, str]] = ..., count: _Optional[int] = ...) -> None: ...

class Configure(_message.Message):
    __slots__ = ("controller_version", "shadow")
    CONTROLLER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    controller_version: str
    shadow: bool
    def __init__(self, controller_version: _Optional[str] = ..., shadow: bool = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("version", "epoch", "report_sequence", "time_to_live_ms", "batch_proposal_length", "default_verification_length", "slots", "verification_lengths", "proposal_lengths", "reason", "predicted_goodput_tokens_per_second", "shadow", "skip_drafter", "report_interval_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REPORT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LIVE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VERIFICATION_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_GOODPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    SKIP_DRAFTER_FIELD_NUMBER: _ClassVar[int]
    REPORT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    epoch: int
    report_sequence: int
    time_to_live_ms: int
    batch_proposal_length: int
    default_verification_length: int
    slots: _containers.RepeatedScalarFieldContainer[int]
    verification_lengths: _containers.RepeatedScalarFieldContainer[int]
    proposal_lengths: _containers.RepeatedScalarFieldContainer[int]
    reason: PlanReason
    predicted_goodput_tokens_per_second: float
    shadow: bool
    skip_drafter: bool
    report_interval_ms: int
    def __init__(self, version: _Optional[int] = ..., epoch: _Optional[int] = ..., report_sequence: _Optional[int] = ..., time_to_live_ms: _Optional[int] = ..., batch_proposal_length: _Optional[int] = ..., default_verification_length: _Optional[int] = ..., slots: _Optional[_Iterable[int]] = ..., verification_lengths: _Optional[_Iterable[int]] = ..., proposal_lengths: _Optional[_Iterable[int]] = ..., reason: _Optional[_Union[PlanReason, str]] = ..., predicted_goodput_tokens_per_second: _Optional[float] = ..., shadow: bool = ..., skip_drafter: bool = ..., report_interval_ms: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reconnect_after_ms",)
    RECONNECT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reconnect_after_ms: int
    def __init__(self, reconnect_after_ms: _Optional[int] = ...) -> None: ...
