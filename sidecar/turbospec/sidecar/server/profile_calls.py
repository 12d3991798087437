"""The part of the mutating service that is about latency profiles."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from turbospec.sidecar.profiles.key import ID
from turbospec.sidecar.profiles.profile import Profile, ProfileError
from turbospec.sidecar.profiles.store import Store, StoreError, StoreFullError
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.wire.profiles import read_profile, write_profile, write_summary
from turbospec.v1 import operations_pb2 as pb
from turbospec.v1 import operations_pb2_grpc as pb_grpc


class ProfileCalls(pb_grpc.OperationsServiceServicer):
    """Lists, shows and takes profiles. Files are read and written in threads: engines do not wait."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._log = logs.get()

    async def ListProfiles(
        self,
        _request: pb.ListProfilesRequest,
        context: grpc.aio.ServicerContext[pb.ListProfilesRequest, pb.ListProfilesResponse],
    ) -> pb.ListProfilesResponse:
        store = await self._opened(context)
        try:
            return await asyncio.to_thread(_listed, store)
        except StoreError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def GetProfile(
        self,
        request: pb.GetProfileRequest,
        context: grpc.aio.ServicerContext[pb.GetProfileRequest, pb.GetProfileResponse],
    ) -> pb.GetProfileResponse:
        store = await self._opened(context)
        wanted = request.profile_id
        if not ID.fullmatch(wanted):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"profile_id: must be 16 hexadecimal digits, not {wanted!r:.80}",
            )
        try:
            found = await asyncio.to_thread(_found, store, wanted)
        except StoreError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        if found is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"profile_id: no profile {wanted} in {store.directory}"
            )
        return found

    async def ImportProfile(
        self,
        request: pb.ImportProfileRequest,
        context: grpc.aio.ServicerContext[pb.ImportProfileRequest, pb.ImportProfileResponse],
    ) -> pb.ImportProfileResponse:
        store = await self._opened(context)
        try:
            profile, replaced = await asyncio.to_thread(_imported, store, request.profile)
        except ProfileError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"profile.{error}")
        except StoreFullError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except StoreError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        profile_id = profile.key.profile_id
        self._log.info("profile.imported", profile=profile_id, cells=len(profile.cells), replaced=replaced)
        return pb.ImportProfileResponse(profile_id=profile_id, replaced=replaced)

    async def _opened(self, context: grpc.aio.ServicerContext[Any, Any]) -> Store:
        if self._store is None:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                "profiles_directory: is not set, so this controller keeps no profiles",
            )
        return self._store


def _listed(store: Store) -> pb.ListProfilesResponse:
    return pb.ListProfilesResponse(profiles=[write_summary(profile.summary) for profile in store.profiles()])


def _found(store: Store, profile_id: str) -> pb.GetProfileResponse | None:
    profile = store.get(profile_id)
    return None if profile is None else pb.GetProfileResponse(profile=write_profile(profile))


def _imported(store: Store, message: pb.Profile) -> tuple[Profile, bool]:
    profile = read_profile(message)
    return profile, store.put(profile)
