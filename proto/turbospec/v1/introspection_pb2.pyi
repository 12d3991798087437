from turbospec.v1 import operations_pb2 as _operations_pb2
from turbospec.v1 import speculation_pb2 as _speculation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CostBasis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COST_BASIS_UNSPECIFIED: _ClassVar[CostBasis]
    COST_BASIS_MEASURED: _ClassVar[CostBasis]
    COST_BASIS_PROFILE: _ClassVar[CostBasis]
    COST_BASIS_PRIOR: _ClassVar[CostBasis]
    COST_BASIS_EXTRAPOLATED: _ClassVar[CostBasis]
COST_BASIS_UNSPECIFIED: CostBasis
COST_BASIS_MEASURED: CostBasis
COST_BASIS_PROFILE: CostBasis
COST_BASIS_PRIOR: CostBasis
COST_BASIS_EXTRAPOLATED: CostBasis

class ListEnginesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEnginesResponse(_message.Message):
    __slots__ = ("engines", "controller_version", "uptime_seconds")
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    engines: _containers.RepeatedCompositeFieldContainer[EngineSummary]
    controller_version: str
    uptime_seconds: float
    def __init__(self, engines: _Optional[_Iterable[_Union[EngineSummary, _Mapping]]] = ..., controller_version: _Optional[str] = ..., uptime_seconds: _Optional[float] = ...) -> None: ...

class GetEngineRequest(_message.Message):
    __slots__ = ("engine_id", "rank")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ...) -> None: ...

class GetEngineResponse(_message.Message):
    __slots__ = ("summary", "identity", "capabilities", "acceptance", "latency", "last_decision", "adapter", "probe_steps", "probe_time_ratio")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    LAST_DECISION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    PROBE_STEPS_FIELD_NUMBER: _ClassVar[int]
    PROBE_TIME_RATIO_FIELD_NUMBER: _ClassVar[int]
    summary: EngineSummary
    identity: EngineIdentity
    capabilities: _speculation_pb2.Capabilities
    acceptance: AcceptanceState
    latency: LatencyState
    last_decision: Decision
    adapter: _speculation_pb2.AdapterCounters
    probe_steps: int
    probe_time_ratio: float
    def __init__(self, summary: _Optional[_Union[EngineSummary, _Mapping]] = ..., identity: _Optional[_Union[EngineIdentity, _Mapping]] = ..., capabilities: _Optional[_Union[_speculation_pb2.Capabilities, _Mapping]] = ..., acceptance: _Optional[_Union[AcceptanceState, _Mapping]] = ..., latency: _Optional[_Union[LatencyState, _Mapping]] = ..., last_decision: _Optional[_Union[Decision, _Mapping]] = ..., adapter: _Optional[_Union[_speculation_pb2.AdapterCounters, _Mapping]] = ..., probe_steps: _Optional[int] = ..., probe_time_ratio: _Optional[float] = ...) -> None: ...

class EngineSummary(_message.Message):
    __slots__ = ("engine_id", "rank", "connected", "controlled", "uncontrolled_reason", "policy", "shadow", "requests", "proposal_length", "mean_verification_length", "reason", "acceptance_ratio", "realised_goodput_tokens_per_second", "predicted_goodput_tokens_per_second", "idle_goodput_tokens_per_second", "model_error_ratio", "plan_age_steps", "steps", "seconds_since_report", "fallbacks", "drafter_skipped", "unready_requests", "estimated_gain_ratio")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    CONTROLLED_FIELD_NUMBER: _ClassVar[int]
    UNCONTROLLED_REASON_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MEAN_VERIFICATION_LENGTH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_RATIO_FIELD_NUMBER: _ClassVar[int]
    REALISED_GOODPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_GOODPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    IDLE_GOODPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MODEL_ERROR_RATIO_FIELD_NUMBER: _ClassVar[int]
    PLAN_AGE_STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_SINCE_REPORT_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    UNREADY_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_GAIN_RATIO_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    connected: bool
    controlled: bool
    uncontrolled_reason: str
    policy: str
    shadow: bool
    requests: int
    proposal_length: int
    mean_verification_length: float
    reason: _speculation_pb2.PlanReason
    acceptance_ratio: float
    realised_goodput_tokens_per_second: float
    predicted_goodput_tokens_per_second: float
    idle_goodput_tokens_per_second: float
    model_error_ratio: float
    plan_age_steps: int
    steps: int
    seconds_since_report: float
    fallbacks: _containers.RepeatedCompositeFieldContainer[_speculation_pb2.FallbackCount]
    drafter_skipped: bool
    unready_requests: int
    estimated_gain_ratio: float
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ..., connected: bool = ..., controlled: bool = ..., uncontrolled_reason: _Optional[str] = ..., policy: _Optional[str] = ..., shadow: bool = ..., requests: _Optional[int] = ..., proposal_length: _Optional[int] = ..., mean_verification_length: _Optional[float] = ..., reason: _Optional[_Union[_speculation_pb2.PlanReason, str]] = ..., acceptance_ratio: _Optional[float] = ..., realised_goodput_tokens_per_second: _Optional[float] = ..., predicted_goodput_tokens_per_second: _Optional[float] = ..., idle_goodput_tokens_per_second: _Optional[float] = ..., model_error_ratio: _Optional[float] = ..., plan_age_steps: _Optional[int] = ..., steps: _Optional[int] = ..., seconds_since_report: _Optional[float] = ..., fallbacks: _Optional[_Iterable[_Union[_speculation_pb2.FallbackCount, _Mapping]]] = ..., drafter_skipped: bool = ..., unready_requests: _Optional[int] = ..., estimated_gain_ratio: _Optional[float] = ...) -> None: ...

class EngineIdentity(_message.Message):
    __slots__ = ("engine_name", "engine_version", "adapter_version", "model", "draft_model", "method", "max_length", "static_length", "max_batch", "hardware", "dtype", "model_parallel_size", "max_context", "max_tokens_per_step", "graph_sizes")
    ENGINE_NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DRAFT_MODEL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    STATIC_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_PARALLEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    GRAPH_SIZES_FIELD_NUMBER: _ClassVar[int]
    engine_name: str
    engine_version: str
    adapter_version: str
    model: str
    draft_model: str
    method: str
    max_length: int
    static_length: int
    max_batch: int
    hardware: str
    dtype: str
    model_parallel_size: int
    max_context: int
    max_tokens_per_step: int
    graph_sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_name: _Optional[str] = ..., engine_version: _Optional[str] = ..., adapter_version: _Optional[str] = ..., model: _Optional[str] = ..., draft_model: _Optional[str] = ..., method: _Optional[str] = ..., max_length: _Optional[int] = ..., static_length: _Optional[int] = ..., max_batch: _Optional[int] = ..., hardware: _Optional[str] = ..., dtype: _Optional[str] = ..., model_parallel_size: _Optional[int] = ..., max_context: _Optional[int] = ..., max_tokens_per_step: _Optional[int] = ..., graph_sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class AcceptanceState(_message.Message):
    __slots__ = ("hazards", "survivals", "evidence", "availability")
    HAZARDS_FIELD_NUMBER: _ClassVar[int]
    SURVIVALS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    hazards: _containers.RepeatedScalarFieldContainer[float]
    survivals: _containers.RepeatedScalarFieldContainer[float]
    evidence: _containers.RepeatedScalarFieldContainer[float]
    availability: float
    def __init__(self, hazards: _Optional[_Iterable[float]] = ..., survivals: _Optional[_Iterable[float]] = ..., evidence: _Optional[_Iterable[float]] = ..., availability: _Optional[float] = ...) -> None: ...

class LatencyState(_message.Message):
    __slots__ = ("terms", "evidence_steps", "model_error_ratio", "fitted", "started_from", "cells")
    TERMS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    MODEL_ERROR_RATIO_FIELD_NUMBER: _ClassVar[int]
    FITTED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FROM_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    terms: _containers.RepeatedCompositeFieldContainer[LatencyTerm]
    evidence_steps: float
    model_error_ratio: float
    fitted: bool
    started_from: StartingProfile
    cells: _containers.RepeatedCompositeFieldContainer[CostCell]
    def __init__(self, terms: _Optional[_Iterable[_Union[LatencyTerm, _Mapping]]] = ..., evidence_steps: _Optional[float] = ..., model_error_ratio: _Optional[float] = ..., fitted: bool = ..., started_from: _Optional[_Union[StartingProfile, _Mapping]] = ..., cells: _Optional[_Iterable[_Union[CostCell, _Mapping]]] = ...) -> None: ...

class StartingProfile(_message.Message):
    __slots__ = ("profile_id", "source", "cells", "differs_in")
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_IN_FIELD_NUMBER: _ClassVar[int]
    profile_id: str
    source: _operations_pb2.ProfileSource
    cells: int
    differs_in: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, profile_id: _Optional[str] = ..., source: _Optional[_Union[_operations_pb2.ProfileSource, str]] = ..., cells: _Optional[int] = ..., differs_in: _Optional[_Iterable[str]] = ...) -> None: ...

class CostCell(_message.Message):
    __slots__ = ("least_requests", "most_requests", "proposal_length", "drafter_skipped", "basis", "own_steps", "profile_steps", "prior_steps")
    LEAST_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MOST_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    OWN_STEPS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_STEPS_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STEPS_FIELD_NUMBER: _ClassVar[int]
    least_requests: int
    most_requests: int
    proposal_length: int
    drafter_skipped: bool
    basis: CostBasis
    own_steps: int
    profile_steps: int
    prior_steps: int
    def __init__(self, least_requests: _Optional[int] = ..., most_requests: _Optional[int] = ..., proposal_length: _Optional[int] = ..., drafter_skipped: bool = ..., basis: _Optional[_Union[CostBasis, str]] = ..., own_steps: _Optional[int] = ..., profile_steps: _Optional[int] = ..., prior_steps: _Optional[int] = ...) -> None: ...

class LatencyTerm(_message.Message):
    __slots__ = ("feature", "seconds_per_unit")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
    feature: str
    seconds_per_unit: float
    def __init__(self, feature: _Optional[str] = ..., seconds_per_unit: _Optional[float] = ...) -> None: ...

class GetRequestRequest(_message.Message):
    __slots__ = ("engine_id", "rank", "request_id")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    request_id: str
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetRequestResponse(_message.Message):
    __slots__ = ("request_id", "slot", "label", "max_draft", "prompt_tokens", "acceptance", "verified", "accepted", "verification_length")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_LENGTH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    slot: int
    label: str
    max_draft: int
    prompt_tokens: int
    acceptance: AcceptanceState
    verified: int
    accepted: int
    verification_length: int
    def __init__(self, request_id: _Optional[str] = ..., slot: _Optional[int] = ..., label: _Optional[str] = ..., max_draft: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., acceptance: _Optional[_Union[AcceptanceState, _Mapping]] = ..., verified: _Optional[int] = ..., accepted: _Optional[int] = ..., verification_length: _Optional[int] = ...) -> None: ...

class ExplainDecisionsRequest(_message.Message):
    __slots__ = ("engine_id", "rank", "limit")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    limit: int
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ExplainDecisionsResponse(_message.Message):
    __slots__ = ("decisions",)
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    def __init__(self, decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ...) -> None: ...

class WatchDecisionsRequest(_message.Message):
    __slots__ = ("engine_id", "rank", "max_per_second")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    max_per_second: float
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ..., max_per_second: _Optional[float] = ...) -> None: ...

class WatchDecisionsResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class WatchStepsRequest(_message.Message):
    __slots__ = ("engine_id", "rank", "label")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    label: str
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class WatchStepsResponse(_message.Message):
    __slots__ = ("steps", "lost_steps")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOST_STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[ReportedStep]
    lost_steps: int
    def __init__(self, steps: _Optional[_Iterable[_Union[ReportedStep, _Mapping]]] = ..., lost_steps: _Optional[int] = ...) -> None: ...

class ReportedStep(_message.Message):
    __slots__ = ("sequence", "steps", "duration_seconds", "disturbances", "requests", "decoding_requests", "labelled_requests", "context_tokens", "target_tokens", "verified_tokens", "prefill_tokens", "proposal_length", "ragged", "drafter_skipped", "plan_version", "labelled_unready_requests")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DISTURBANCES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    DECODING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    LABELLED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    RAGGED_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELLED_UNREADY_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    steps: int
    duration_seconds: float
    disturbances: _containers.RepeatedScalarFieldContainer[_speculation_pb2.Disturbance]
    requests: int
    decoding_requests: int
    labelled_requests: int
    context_tokens: int
    target_tokens: int
    verified_tokens: int
    prefill_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool
    plan_version: int
    labelled_unready_requests: int
    def __init__(self, sequence: _Optional[int] = ..., steps: _Optional[int] = ..., duration_seconds: _Optional[float] = ..., disturbances: _Optional[_Iterable[_Union[_speculation_pb2.Disturbance, str]]] = ..., requests: _Optional[int] = ..., decoding_requests: _Optional[int] = ..., labelled_requests: _Optional[int] = ..., context_tokens: _Optional[int] = ..., target_tokens: _Optional[int] = ..., verified_tokens: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., proposal_length: _Optional[int] = ..., ragged: bool = ..., drafter_skipped: bool = ..., plan_version: _Optional[int] = ..., labelled_unready_requests: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("plan_version", "report_sequence", "age_seconds", "policy", "reason", "explanation", "requests", "proposal_length", "requests_by_verification_length", "candidates", "decision_seconds", "shadow", "skip_drafter")
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_BY_VERIFICATION_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    DECISION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    SKIP_DRAFTER_FIELD_NUMBER: _ClassVar[int]
    plan_version: int
    report_sequence: int
    age_seconds: float
    policy: str
    reason: _speculation_pb2.PlanReason
    explanation: str
    requests: int
    proposal_length: int
    requests_by_verification_length: _containers.RepeatedScalarFieldContainer[int]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    decision_seconds: float
    shadow: bool
    skip_drafter: bool
    def __init__(self, plan_version: _Optional[int] = ..., report_sequence: _Optional[int] = ..., age_seconds: _Optional[float] = ..., policy: _Optional[str] = ..., reason: _Optional[_Union[_speculation_pb2.PlanReason, str]] = ..., explanation: _Optional[str] = ..., requests: _Optional[int] = ..., proposal_length: _Optional[int] = ..., requests_by_verification_length: _Optional[_Iterable[int]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., decision_seconds: _Optional[float] = ..., shadow: bool = ..., skip_drafter: bool = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("proposal_length", "verified_tokens", "expected_tokens", "predicted_step_seconds", "predicted_goodput_tokens_per_second", "chosen")
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_GOODPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    proposal_length: int
    verified_tokens: int
    expected_tokens: float
    predicted_step_seconds: float
    predicted_goodput_tokens_per_second: float
    chosen: bool
    def __init__(self, proposal_length: _Optional[int] = ..., verified_tokens: _Optional[int] = ..., expected_tokens: _Optional[float] = ..., predicted_step_seconds: _Optional[float] = ..., predicted_goodput_tokens_per_second: _Optional[float] = ..., chosen: bool = ...) -> None: ...
