from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProfileSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROFILE_SOURCE_UNSPECIFIED: _ClassVar[ProfileSource]
    PROFILE_SOURCE_SWEEP: _ClassVar[ProfileSource]
    PROFILE_SOURCE_ONLINE: _ClassVar[ProfileSource]
PROFILE_SOURCE_UNSPECIFIED: ProfileSource
PROFILE_SOURCE_SWEEP: ProfileSource
PROFILE_SOURCE_ONLINE: ProfileSource

class EngineSelector(_message.Message):
    __slots__ = ("engine_id", "rank")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    rank: int
    def __init__(self, engine_id: _Optional[str] = ..., rank: _Optional[int] = ...) -> None: ...

class SetPolicyRequest(_message.Message):
    __slots__ = ("engine", "policy", "shadow")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    engine: EngineSelector
    policy: str
    shadow: bool
    def __init__(self, engine: _Optional[_Union[EngineSelector, _Mapping]] = ..., policy: _Optional[str] = ..., shadow: bool = ...) -> None: ...

class SetPolicyResponse(_message.Message):
    __slots__ = ("engines",)
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    engines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, engines: _Optional[_Iterable[str]] = ...) -> None: ...

class SetCapRequest(_message.Message):
    __slots__ = ("engine", "max_length")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    engine: EngineSelector
    max_length: int
    def __init__(self, engine: _Optional[_Union[EngineSelector, _Mapping]] = ..., max_length: _Optional[int] = ...) -> None: ...

class SetCapResponse(_message.Message):
    __slots__ = ("engines",)
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    engines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, engines: _Optional[_Iterable[str]] = ...) -> None: ...

class ResetEstimatorsRequest(_message.Message):
    __slots__ = ("engine",)
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    engine: EngineSelector
    def __init__(self, engine: _Optional[_Union[EngineSelector, _Mapping]] = ...) -> None: ...

class ResetEstimatorsResponse(_message.Message):
    __slots__ = ("engines",)
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    engines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, engines: _Optional[_Iterable[str]] = ...) -> None: ...

class ReloadSettingsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadSettingsResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changed: _Optional[_Iterable[str]] = ...) -> None: ...

class ProfileKey(_message.Message):
    __slots__ = ("hardware", "engine_name", "engine_version", "model", "draft_model", "method", "dtype", "model_parallel_size", "max_length", "graph_sizes", "ragged_breaks_graphs", "deep_off", "proposal_saves_draft_cost")
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DRAFT_MODEL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_PARALLEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    GRAPH_SIZES_FIELD_NUMBER: _ClassVar[int]
    RAGGED_BREAKS_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    DEEP_OFF_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_SAVES_DRAFT_COST_FIELD_NUMBER: _ClassVar[int]
    hardware: str
    engine_name: str
    engine_version: str
    model: str
    draft_model: str
    method: str
    dtype: str
    model_parallel_size: int
    max_length: int
    graph_sizes: _containers.RepeatedScalarFieldContainer[int]
    ragged_breaks_graphs: bool
    deep_off: bool
    proposal_saves_draft_cost: bool
    def __init__(self, hardware: _Optional[str] = ..., engine_name: _Optional[str] = ..., engine_version: _Optional[str] = ..., model: _Optional[str] = ..., draft_model: _Optional[str] = ..., method: _Optional[str] = ..., dtype: _Optional[str] = ..., model_parallel_size: _Optional[int] = ..., max_length: _Optional[int] = ..., graph_sizes: _Optional[_Iterable[int]] = ..., ragged_breaks_graphs: bool = ..., deep_off: bool = ..., proposal_saves_draft_cost: bool = ...) -> None: ...

class ProfileCell(_message.Message):
    __slots__ = ("requests", "target_tokens", "context_tokens", "prefill_tokens", "proposal_length", "ragged", "drafter_skipped", "steps", "seconds", "spread_seconds")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    RAGGED_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SPREAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    target_tokens: int
    context_tokens: int
    prefill_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool
    steps: int
    seconds: float
    spread_seconds: float
    def __init__(self, requests: _Optional[int] = ..., target_tokens: _Optional[int] = ..., context_tokens: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., proposal_length: _Optional[int] = ..., ragged: bool = ..., drafter_skipped: bool = ..., steps: _Optional[int] = ..., seconds: _Optional[float] = ..., spread_seconds: _Optional[float] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("key", "measured_at", "turbospec_version", "source", "cells")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    TURBOSPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    key: ProfileKey
    measured_at: _timestamp_pb2.Timestamp
    turbospec_version: str
    source: ProfileSource
    cells: _containers.RepeatedCompositeFieldContainer[ProfileCell]
    def __init__(self, key: _Optional[_Union[ProfileKey, _Mapping]] = ..., measured_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., turbospec_version: _Optional[str] = ..., source: _Optional[_Union[ProfileSource, str]] = ..., cells: _Optional[_Iterable[_Union[ProfileCell, _Mapping]]] = ...) -> None: ...

class ProfileSummary(_message.Message):
    __slots__ = ("profile_id", "key", "measured_at", "turbospec_version", "source", "cells", "steps")
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    TURBOSPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    profile_id: str
    key: ProfileKey
    measured_at: _timestamp_pb2.Timestamp
    turbospec_version: str
    source: ProfileSource
    cells: int
    steps: int
    def __init__(self, profile_id: _Optional[str] = ..., key: _Optional[_Union[ProfileKey, _Mapping]] = ..., measured_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., turbospec_version: _Optional[str] = ..., source: _Optional[_Union[ProfileSource, str]] = ..., cells: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class ListProfilesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListProfilesResponse(_message.Message):
    __slots__ = ("profiles",)
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    profiles: _containers.RepeatedCompositeFieldContainer[ProfileSummary]
    def __init__(self, profiles: _Optional[_Iterable[_Union[ProfileSummary, _Mapping]]] = ...) -> None: ...

class GetProfileRequest(_message.Message):
    __slots__ = ("profile_id",)
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    profile_id: str
    def __init__(self, profile_id: _Optional[str] = ...) -> None: ...

class GetProfileResponse(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: Profile
    def __init__(self, profile: _Optional[_Union[Profile, _Mapping]] = ...) -> None: ...

class ImportProfileRequest(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: Profile
    def __init__(self, profile: _Optional[_Union[Profile, _Mapping]] = ...) -> None: ...

class ImportProfileResponse(_message.Message):
    __slots__ = ("profile_id", "replaced")
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    profile_id: str
    replaced: bool
    def __init__(self, profile_id: _Optional[str] = ..., replaced: bool = ...) -> None: ...
