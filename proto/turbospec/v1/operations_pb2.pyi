from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
