"""Latency profiles through a running controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from support.engine_stream import EngineStream, report
from support.patience import PATIENCE_SECONDS
from support.profiles import Watched, cell, key, profile
from support.serving import Server, turbospec
from turbospec.sidecar.profiles.profile import MOST_CELLS
from turbospec.sidecar.server.wire.profiles import read_profile, write_profile
from turbospec.v1 import operations_pb2 as pb
from turbospec.v1 import operations_pb2_grpc

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The server's directory, through another store."""
    return Watched(tmp_path_factory.mktemp("volume") / "profiles")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, watched: Watched) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory, "--profiles-directory", str(watched.store.directory))
    yield server
    server.stop()


def imported(server: Server, message: pb.Profile) -> pb.ImportProfileResponse:
    request = pb.ImportProfileRequest(profile=message)
    return server.operate.ImportProfile(request, timeout=PATIENCE_SECONDS)


def got(server: Server, profile_id: str) -> pb.GetProfileResponse:
    return server.operate.GetProfile(pb.GetProfileRequest(profile_id=profile_id), timeout=PATIENCE_SECONDS)


def listed(server: Server) -> pb.ListProfilesResponse:
    return server.operate.ListProfiles(pb.ListProfilesRequest(), timeout=PATIENCE_SECONDS)


def test_a_profile_survives_the_way_in_and_out(server: Server, watched: Watched) -> None:
    """To the last bit, also on the volume; a second import says that it replaced the first."""
    made = profile((cell(seconds=1 / 3, spread_seconds=1e-7), cell(2, 0, drafter_skipped=True)))
    answer = imported(server, write_profile(made))
    assert (answer.profile_id, answer.replaced) == (key().profile_id, False)
    assert imported(server, write_profile(made)).replaced
    assert read_profile(got(server, answer.profile_id).profile) == made
    assert watched.store.profiles() == [made]
    (summary,) = listed(server).profiles
    assert (summary.profile_id, summary.cells, summary.steps) == (answer.profile_id, 2, 40)
    shown = MessageToDict(summary)
    assert shown["measuredAt"] == "2026-01-31T12:00:00Z"
    assert shown["source"] == "PROFILE_SOURCE_SWEEP"
    assert server.events("profile.imported")[-1]["cells"] == 2


def test_the_largest_profile_fits_a_message(server: Server) -> None:
    """Under the default limit of messages, both ways."""
    cells = tuple(cell(1, 3, context_tokens=(1 << 40) - n, seconds=1 / 3) for n in range(MOST_CELLS))
    made = profile(cells, dtype="largest")
    answer = imported(server, write_profile(made))
    assert read_profile(got(server, answer.profile_id).profile) == made


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cells": [pb.ProfileCell()]}, "profile.cells[0].requests: must be from 1 to 65536, not 0"),
        ({"cells": []}, f"profile.cells: has from 1 to {MOST_CELLS} entries, not 0"),
        ({"key": pb.ProfileKey()}, "profile.key.hardware: must not be empty"),
        ({"source": 0}, "profile.source: must be one of PROFILE_SOURCE_SWEEP, PROFILE_SOURCE_ONLINE, not 0"),
        ({"source": 7}, "profile.source: must be one of"),
        ({"measured_at": {"seconds": 1 << 60}}, "profile.measured_at: is not a time"),
        ({"turbospec_version": "x" * 65}, "profile.turbospec_version: has at most 64 bytes, not 65"),
    ],
)
def test_an_impossible_profile_is_refused_by_its_field(
    server: Server, watched: Watched, changes: dict[str, object], problem: str
) -> None:
    """INVALID_ARGUMENT, and nothing is stored."""
    made = write_profile(profile(dtype="refused"))
    fields = {name: getattr(made, name) for name in pb.Profile.DESCRIPTOR.fields_by_name}
    with pytest.raises(grpc.RpcError) as error:
        imported(server, pb.Profile(**fields | changes))
    assert error.value.code() is INVALID
    assert error.value.details().startswith(problem)
    assert not list(watched.store.directory.glob(f"*{key(dtype='refused').profile_id}*"))


def test_not_a_number_is_refused(server: Server) -> None:
    """Protobuf carries it; the store does not take it."""
    for bad in (float("nan"), float("inf")):
        with pytest.raises(grpc.RpcError) as error:
            imported(server, write_profile(profile((cell(), cell(2, seconds=bad)), dtype="nan")))
        assert error.value.code() is INVALID
        assert error.value.details().startswith("profile.cells[1].seconds: must be from")


def test_an_unknown_profile_is_named(server: Server) -> None:
    """NOT_FOUND; what cannot be an id, a path for instance, is INVALID_ARGUMENT."""
    for wanted, code, problem in (
        ("0" * 16, grpc.StatusCode.NOT_FOUND, "profile_id: no profile 0000000000000000"),
        ("../../etc/passwd", INVALID, "profile_id: must be 16 hexadecimal digits, not '../../etc"),
        ("", INVALID, "profile_id: must be 16 hexadecimal digits, not ''"),
    ):
        with pytest.raises(grpc.RpcError) as error:
            got(server, wanted)
        assert error.value.code() is code
        assert error.value.details().startswith(problem)


def test_a_corrupt_file_is_set_aside_and_the_server_goes_on(server: Server, watched: Watched) -> None:
    """One event that says which, where it is now and why; other profiles and engines notice nothing."""
    imported(server, write_profile(profile(dtype="good")))
    bad = imported(server, write_profile(profile(dtype="bad"))).profile_id
    (path,) = watched.store.directory.glob(f"*-{bad}.profile.json")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)
    with EngineStream.connected(server.control, engine_id="vllm-0") as engine:
        names = {summary.key.dtype for summary in listed(server).profiles}
        assert "good" in names
        assert "bad" not in names
        engine.plan(report(1))
    (event,) = server.events("profile.set_aside")
    assert event["level"] == "warning"
    assert event["path"] == str(path)
    assert Path(event["now"]).read_bytes() == data
    assert "checksum: " in event["reason"]
    with pytest.raises(grpc.RpcError) as error:
        got(server, bad)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("setting", ["", "a file"])
def test_without_a_directory_the_rest_works(setting: str, tmp_path: Path) -> None:
    """None set, or one that cannot be used: engines get plans, and profile calls say what is missing."""
    (tmp_path / "a file").write_text("")
    flags = ("--profiles-directory", str(tmp_path / setting)) if setting else ()
    expected = f"{tmp_path / setting}: Not a directory" if setting else "profiles_directory: is not set"
    server = Server(tmp_path, *flags)
    try:
        with EngineStream.connected(server.control) as engine:
            engine.plan(report(1))
        calls = (
            lambda: listed(server),
            lambda: got(server, "0" * 16),
            lambda: imported(server, write_profile(profile())),
        )
        for call in calls:
            with pytest.raises(grpc.RpcError) as error:
                call()
            assert error.value.code() is PRECONDITION
            assert expected in error.value.details()
        warned = server.events("profiles.unavailable")
        assert len(warned) == bool(setting)
        assert all(expected in event["error"] for event in warned)
    finally:
        assert server.stop() == 0


def test_the_token_guards_profiles_too(tmp_path: Path) -> None:
    """Over TCP nobody reads or brings profiles without it."""
    token = tmp_path / "token"
    token.write_text("sesame\n")
    token.chmod(0o600)
    address = ("--operations-address", "127.0.0.1:0", "--operations-token-file", str(token))
    server = Server(tmp_path, *address, "--profiles-directory", str(tmp_path / "profiles"))
    try:
        stub = operations_pb2_grpc.OperationsServiceStub(server.operations_channel)
        for call, request in (
            (stub.ListProfiles, pb.ListProfilesRequest()),
            (stub.GetProfile, pb.GetProfileRequest(profile_id="0" * 16)),
            (stub.ImportProfile, pb.ImportProfileRequest(profile=write_profile(profile()))),
        ):
            with pytest.raises(grpc.RpcError) as error:
                call(request, timeout=PATIENCE_SECONDS)
            assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert not list((tmp_path / "profiles").iterdir())
        command = ("profiles", "list", "--json", "--address", server.operations)
        assert turbospec(*command).returncode == 1
        assert turbospec(*command, "--token-file", str(token)).stdout == "[]\n"
    finally:
        server.stop()


def test_the_setting_is_shown() -> None:
    """`--print-config` says where profiles are kept, and who said so."""
    shown = turbospec("serve", "--print-config", env={"TURBOSPEC_PROFILES_DIRECTORY": "/var/lib/turbospec"})
    line = 'profiles_directory = "/var/lib/turbospec"  # TURBOSPEC_PROFILES_DIRECTORY'
    assert line in shown.stdout.splitlines()
