"""Where `turbospec profiles` finds profiles: a controller, a directory, or single files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from turbospec.cli import operations
from turbospec.sidecar.profiles.document import MOST_BYTES, loads
from turbospec.sidecar.profiles.profile import Profile, ProfileError, Summary
from turbospec.sidecar.profiles.store import Store, StoreError

if TYPE_CHECKING:
    from turbospec.v1 import operations_pb2 as pb

STANDARD = "-"  # a file's name that means standard input or output


class RefusedError(Exception):
    """The controller or the directory did not do it; the message says why."""


class Place(Protocol):
    """A store of profiles. Every method raises `RefusedError`."""

    def summaries(self) -> list[Summary]:
        """What there is."""

    def get(self, profile_id: str) -> Profile:
        """One profile."""

    def put(self, profile: Profile) -> bool:
        """Stores a profile; whether it replaced one."""


class Directory:
    """A directory, read and written without a controller."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise operations.UsageError(f"--directory {path}: is not a directory")
        self._store = Store(path, _warn)

    def summaries(self) -> list[Summary]:
        try:
            return [profile.summary for profile in self._store.profiles()]
        except StoreError as error:
            raise RefusedError(str(error)) from error

    def get(self, profile_id: str) -> Profile:
        try:
            found = self._store.get(profile_id)
        except StoreError as error:
            raise RefusedError(str(error)) from error
        if found is None:
            raise RefusedError(f"profile_id: no profile {profile_id} in {self._store.directory}")
        return found

    def put(self, profile: Profile) -> bool:
        try:
            return self._store.put(profile)
        except StoreError as error:
            raise RefusedError(str(error)) from error


class Service:
    """A running controller."""

    def __init__(self, controller: operations.Controller) -> None:
        self._controller = controller

    def summaries(self) -> list[Summary]:
        from turbospec.sidecar.server.wire.profiles import read_summary
        from turbospec.v1 import operations_pb2 as pb

        answer: pb.ListProfilesResponse = self._call("ListProfiles", pb.ListProfilesRequest())
        return [read_summary(summary) for summary in answer.profiles]

    def get(self, profile_id: str) -> Profile:
        from turbospec.sidecar.server.wire.profiles import read_profile
        from turbospec.v1 import operations_pb2 as pb

        answer: pb.GetProfileResponse = self._call("GetProfile", pb.GetProfileRequest(profile_id=profile_id))
        return read_profile(answer.profile)

    def put(self, profile: Profile) -> bool:
        from turbospec.sidecar.server.wire.profiles import write_profile
        from turbospec.v1 import operations_pb2 as pb

        request = pb.ImportProfileRequest(profile=write_profile(profile))
        answer: pb.ImportProfileResponse = self._call("ImportProfile", request)
        return answer.replaced

    def _call(self, name: str, request: Any) -> Any:
        import grpc
        from turbospec.v1 import operations_pb2_grpc

        with grpc.insecure_channel(self._controller.address) as channel:
            call = getattr(operations_pb2_grpc.OperationsServiceStub(channel), name)
            try:
                return call(request, timeout=operations.TIMEOUT_SECONDS, metadata=self._controller.credential)
            except grpc.RpcError as error:
                raise RefusedError(operations.explained(error, self._controller.address)) from error


def read_file(name: str) -> Profile:
    """The profile in an exported file, or on standard input. Raises `UsageError`."""
    try:
        if name == STANDARD:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        return loads(data)
    except OSError as error:
        raise operations.UsageError(f"{name}: {error.strerror}") from error
    except ProfileError as error:
        raise operations.UsageError(f"{name} is no profile that can be used: {error}") from error


def _warn(event: str, **context: str) -> None:
    told = ", ".join(f"{name} {value}" for name, value in context.items())
    print(f"turbospec profiles: {event}: {told}", file=sys.stderr)
