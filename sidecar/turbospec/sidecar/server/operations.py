"""The mutating service, and the credential that it needs over TCP."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from turbospec.sidecar.core.errors import PolicyError
from turbospec.sidecar.core.policies import parse_policy
from turbospec.sidecar.profiles.store import Store
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.engine import Engine
from turbospec.sidecar.server.limits import LONGEST_PROPOSAL
from turbospec.sidecar.server.profile_calls import ProfileCalls
from turbospec.sidecar.server.registry import Registry, UnknownEngineError
from turbospec.sidecar.server.settings import SettingsError
from turbospec.v1 import operations_pb2 as pb

# Any: contexts are invariant in their messages.
AnyContext = grpc.aio.ServicerContext[Any, Any]
Reload = Callable[[], dict[str, object]]


class OperationsService(ProfileCalls):
    """Changes the registry's engines; keeps profiles in `store`, if there is one."""

    def __init__(self, registry: Registry, reload: Reload, store: Store | None) -> None:
        super().__init__(store)
        self._registry = registry
        self._reload = reload

    async def SetPolicy(
        self,
        request: pb.SetPolicyRequest,
        context: grpc.aio.ServicerContext[pb.SetPolicyRequest, pb.SetPolicyResponse],
    ) -> pb.SetPolicyResponse:
        changes: dict[str, object] = {"policy": request.policy}
        if request.HasField("shadow"):
            changes["shadow"] = request.shadow
        engines = await self._select(request.engine, context)
        try:
            parse_policy(request.policy)
            self._registry.direct(engines, **changes)
        except PolicyError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"policy: {error}")
        self._log.info("policy.changed", engines=self._names(engines), **changes)
        return pb.SetPolicyResponse(engines=self._names(engines))

    async def SetCap(
        self,
        request: pb.SetCapRequest,
        context: grpc.aio.ServicerContext[pb.SetCapRequest, pb.SetCapResponse],
    ) -> pb.SetCapResponse:
        cap = request.max_length if request.HasField("max_length") else None
        if cap is not None and cap > LONGEST_PROPOSAL:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"max_length: from 0 to {LONGEST_PROPOSAL}, not {cap}"
            )
        engines = await self._select(request.engine, context)
        self._registry.direct(engines, length_cap=cap)
        self._log.info("cap.changed", engines=self._names(engines), length_cap=cap)
        return pb.SetCapResponse(engines=self._names(engines))

    async def ResetEstimators(
        self,
        request: pb.ResetEstimatorsRequest,
        context: grpc.aio.ServicerContext[pb.ResetEstimatorsRequest, pb.ResetEstimatorsResponse],
    ) -> pb.ResetEstimatorsResponse:
        engines = await self._select(request.engine, context)
        for engine in self._registry if engines is None else engines:
            engine.reset_estimators()
        self._log.info("estimators.reset", engines=self._names(engines))
        return pb.ResetEstimatorsResponse(engines=self._names(engines))

    async def ReloadSettings(
        self,
        _request: pb.ReloadSettingsRequest,
        context: grpc.aio.ServicerContext[pb.ReloadSettingsRequest, pb.ReloadSettingsResponse],
    ) -> pb.ReloadSettingsResponse:
        try:
            changed = self._reload()
        except SettingsError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.ReloadSettingsResponse(changed=[f"{name}={value}" for name, value in changed.items()])

    async def _select(self, selector: pb.EngineSelector, context: AnyContext) -> list[Engine] | None:
        """The engines; None: all, also those that connect later."""
        rank = selector.rank if selector.HasField("rank") else None
        if not selector.engine_id:
            if rank is not None:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "engine.rank: needs engine.engine_id")
            return None
        try:
            return self._registry.select(selector.engine_id, rank)
        except UnknownEngineError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"engine.engine_id: {error}")

    def _names(self, engines: list[Engine] | None) -> list[str]:
        return [str(engine.key) for engine in (self._registry if engines is None else engines)]


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Lets calls through that carry the file's token as "authorization: Bearer <token>".

    The file is read at each call, so that a token can be replaced without a restart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = logs.get()
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        try:
            expected = f"Bearer {read_token(self._path)}"
        except SettingsError as error:
            self._log.error("token.unreadable", error=str(error))
            return self._refusal
        if not hmac.compare_digest(str(given).encode(), expected.encode()):
            return self._refusal
        return await continuation(handler_call_details)


def read_token(path: Path) -> str:
    """The token in a file. Raises `SettingsError` where there is none, or where others may read it."""
    try:
        token = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"operations_token_file {path}: {error}") from error
    if not token:
        raise SettingsError(f"operations_token_file {path}: is empty")
    if mode & 0o007:
        raise SettingsError(f"operations_token_file {path}: other users may read it; chmod 640 or less")
    return token


async def _refuse(_request: object, context: AnyContext) -> object:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        'authorization: needs "Bearer" and the token of operations_token_file',
    )
