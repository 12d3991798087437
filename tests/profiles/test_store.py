"""The store: what it keeps, what it sets aside, and what it leaves alone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.profiles import Watched, cell, key, profile
from support.serving import environment
from turbospec.sidecar.profiles import document
from turbospec.sidecar.profiles.key import KEY_FIELDS, ProfileKey, canonical
from turbospec.sidecar.profiles.profile import ProfileError
from turbospec.sidecar.profiles.store import (
    MOST_PROFILES,
    REQUIRED,
    TOLERATED,
    Store,
    StoreError,
    StoreFullError,
)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "volume" / "profiles")


def test_what_is_put_is_found(watched: Watched) -> None:
    """By key, by id and in the list, by another process too; a second one of the key replaces it."""
    first, second = profile(), profile((cell(seconds=0.5),))
    assert watched.store.put(first) is False
    assert watched.store.put(second) is True
    assert watched.store.put(profile(dtype="float16")) is False
    other = Watched(watched.store.directory)
    match = other.store.find(first.key)
    assert match is not None
    assert (match.profile, match.differing, match.is_prior) == (second, (), False)
    assert other.store.get(first.key.profile_id) == second
    assert other.store.get("0" * 16) is None
    assert {found.key.dtype for found in other.store.profiles()} == {"bfloat16", "float16"}
    assert not watched.warnings
    assert not other.warnings


def test_files_are_named_for_people_and_closed_to_strangers(watched: Watched) -> None:
    """The name says which engine; 0640 in a 0750 directory, whatever the umask; nothing else is left."""
    before = os.umask(0o000)
    try:
        watched.store.put(profile())
    finally:
        os.umask(before)
    path = watched.only_file()
    assert path.name == f"nvidia-h200_vllm_llama-3.1-8b-instruct_eagle3-{key().profile_id}.profile.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert list(path.parent.iterdir()) == [path]


def test_names_of_any_engine_make_a_file_name(watched: Watched) -> None:
    """Paths, other alphabets, names of any length."""
    for model in ("/models/../x/", "模型", "." * 300, "a" * 1000, "-"):
        watched.store.put(profile(model=model))
        match = watched.store.find(key(model=model))
        assert match is not None
        assert not match.is_prior
    assert len(list(watched.store.directory.iterdir())) == 5


def _foreign(_: bytes) -> bytes:
    return b'{"policy": "goodput"}'


def _flipped(data: bytes) -> bytes:
    at = data.index(b'"seconds":0.') + len(b'"seconds":0.') + 1
    return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]


def _old_schema(data: bytes) -> bytes:
    return data.replace(b'"schema_version":1', b'"schema_version":0')


def _of_another_key(_: bytes) -> bytes:
    return document.dumps(profile(dtype="float16"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_flipped, "checksum: "),
        (lambda data: data[: len(data) // 2], "document: is not JSON"),
        (lambda _: b"", "document: is not JSON"),
        (_foreign, "format: is not"),
        (_old_schema, "schema_version: must be"),
        (_of_another_key, "key: belongs into nvidia-h200_vllm_"),
        (lambda _: b" " * (document.MOST_BYTES + 2), "document: has at most"),
    ],
    ids=["flipped", "cut", "empty", "foreign", "old-schema", "renamed", "too-long"],
)
def test_a_bad_file_is_set_aside(watched: Watched, spoil: Callable[[bytes], bytes], reason: str) -> None:
    """Renamed, never deleted, with one warning; everything else goes on, and measuring again works."""
    other = profile(draft_model="another")
    watched.store.put(profile())
    path = watched.only_file()
    watched.store.put(other)
    bad = spoil(path.read_bytes())
    path.write_bytes(bad)
    match = watched.store.find(key())
    assert match is not None  # the other one, as a prior
    assert (match.profile, match.differing) == (other, ("draft_model",))
    assert watched.store.profiles() == [other]
    ((event, context),) = watched.warnings
    assert event == "profile.set_aside"
    assert context["path"] == str(path)
    assert context["reason"].startswith(reason)
    assert context["now"].startswith(f"{path}.set-aside-")
    assert Path(context["now"]).read_bytes() == bad
    assert watched.store.put(profile()) is False
    assert watched.store.find(key()) is not None
    assert Path(context["now"]).read_bytes() == bad


def test_a_bad_file_is_set_aside_before_it_is_replaced(watched: Watched) -> None:
    """Also by a writer that never read it; two of them are both kept."""
    watched.store.put(profile())
    path = watched.only_file()
    for content in (b"first", b"second"):
        path.write_bytes(content)
        watched.store.put(profile())
    kept = {Path(context["now"]).read_bytes() for _, context in watched.warnings}
    assert kept == {b"first", b"second"}


def test_a_file_of_a_later_version_is_left(watched: Watched) -> None:
    """Neither used, renamed nor replaced; said once. The later TurboSpec finds it as it was."""
    watched.store.put(profile())
    path = watched.only_file()
    later = canonical({"format": document.FORMAT, "schema_version": 2, "all": "different"})
    path.write_bytes(later)
    for _ in range(3):
        assert watched.store.find(key()) is None
        assert watched.store.profiles() == []
    with pytest.raises(StoreError, match=f"cannot replace {path}"):
        watched.store.put(profile())
    assert path.read_bytes() == later
    ((event, context),) = watched.warnings
    assert event == "profile.newer"
    assert context["reason"].startswith("schema_version: 2 is newer than 1")


def test_other_files_are_nobodys_business(watched: Watched) -> None:
    """The wrong directory may be given: what is not named like a profile is neither read nor renamed."""
    watched.store.put(profile())
    directory = watched.store.directory
    names = ("package.json", "notes.profile.json", f"x-{'0' * 15}.profile.json", f".{'0' * 16}.json")
    for name in names:
        (directory / name).write_text("mine")
    assert len(watched.store.profiles()) == 1
    assert {name: (directory / name).read_text() for name in names} == dict.fromkeys(names, "mine")
    assert not watched.warnings


def test_what_is_no_file_is_left(watched: Watched) -> None:
    """A directory or a pipe of that name, which would block its reader: said once, and nothing waits."""
    watched.store.put(profile())
    path = watched.only_file()
    path.unlink()
    os.mkfifo(path)
    assert watched.store.find(key()) is None
    assert watched.store.find(key()) is None
    assert [event for event, _ in watched.warnings] == ["profile.unreadable"]
    path.unlink()
    path.mkdir()
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert watched.store.find(key()) is None
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_store_holds_a_bounded_number(watched: Watched) -> None:
    """One more is refused by name; those that are there can still be measured again."""
    watched.store.prepare()
    for number in range(MOST_PROFILES):
        (watched.store.directory / f"x-{number:016x}.profile.json").touch()
    with pytest.raises(StoreFullError, match=f"holds {MOST_PROFILES} profiles"):
        watched.store.put(profile())
    (watched.store.directory / f"x-{0:016x}.profile.json").unlink()
    watched.store.put(profile())
    assert watched.store.put(profile()) is True


def test_an_impossible_profile_is_not_stored(watched: Watched) -> None:
    """Nor does it harm the one that is there."""
    watched.store.put(profile())
    with pytest.raises(ProfileError, match=r"cells\[0\]\.steps"):
        watched.store.put(profile((cell(steps=0),)))
    assert watched.store.get(key().profile_id) == profile()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file in its place, and one where nobody may write: an error with the path, and finding goes on."""
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/self")):
        watched = Watched(directory)
        for use in (watched.store.prepare, lambda: watched.store.put(profile())):  # noqa: B023
            with pytest.raises(StoreError, match=f"cannot write (to )?{directory}"):
                use()
        assert watched.store.find(key()) is None
    missing = Watched(tmp_path / "missing")
    assert missing.store.find(key()) is None
    assert missing.store.find(key()) is None
    assert [event for event, _ in missing.warnings] == ["profiles.unavailable"]
    with pytest.raises(StoreError, match=f"cannot read {tmp_path}"):
        missing.store.profiles()


_PUT = """
import resource
import sys
from pathlib import Path
from support.profiles import Watched, profile
from turbospec.sidecar.profiles.store import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    Watched(Path(sys.argv[1])).store.put(profile(dtype=sys.argv[2]))
except StoreError as error:
    sys.exit(str(error))
"""


def put_elsewhere(directory: Path, dtype: str, most_bytes: int) -> subprocess.CompletedProcess[str]:
    """Stores a profile in a process whose files may have at most so many bytes, as on a full volume."""
    environ = environment()
    environ["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[1])
    # It limits itself: code between fork and exec runs beside gRPC's handlers of a fork, which can abort.
    return subprocess.run(
        [sys.executable, "-B", "-c", _PUT, str(directory), dtype, str(most_bytes)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_volume_costs_the_new_profile_only(watched: Watched) -> None:
    """A write that fails half way names the path; the profile before it stays and no half file is left."""
    watched.store.put(profile())
    before = watched.only_file().read_bytes()
    full = put_elsewhere(watched.store.directory, "bfloat16", most_bytes=1000)
    assert full.returncode == 1
    assert full.stderr.startswith(f"cannot write {watched.only_file()}: File too large")
    assert list(watched.store.directory.iterdir()) == [watched.only_file()]
    assert watched.only_file().read_bytes() == before
    assert put_elsewhere(watched.store.directory, "float16", most_bytes=1 << 20).returncode == 0
    assert len(watched.store.profiles()) == 2


def test_the_closest_prior_is_chosen_and_labelled(watched: Watched) -> None:
    """By what differs, the most telling first; the newest of equally close ones; never another machine's."""
    asked = key(engine_version="0.33.0")
    assert _prior(watched.store, asked) is None
    for changes in (
        {"hardware": "NVIDIA H100"},
        {"model": "meta-llama/Llama-3.1-70B-Instruct"},
        {"model": "elsewhere/Llama-3.1-8B-Instruct"},
        {"method": "ngram"},
        {"engine_name": "sglang"},
    ):
        watched.store.put(profile(**changes))
    assert _prior(watched.store, asked) is None
    farther_first: list[dict[str, Any]] = [
        {"model_parallel_size": 2},
        {"dtype": "float8"},
        {"draft_model": "another"},
        {"graph_sizes": (1, 2), "max_length": 6},
        {"graph_sizes": (1, 2)},
        {"deep_off": False},
        {"max_length": 6},
        {},
    ]
    for changes in farther_first:
        watched.store.put(profile(**changes))
        assert _prior(watched.store, asked) == {*changes, "engine_version"}
    earlier = profile().measured_at.replace(year=2025)
    later = profile().measured_at.replace(year=2027)
    watched.store.put(profile(engine_version="0.31.0", measured_at=earlier))
    assert _found_version(watched.store, asked) == "0.32.0"
    watched.store.put(profile(engine_version="0.30.0", measured_at=later))
    assert _found_version(watched.store, asked) == "0.30.0"
    watched.store.put(profile(engine_version="0.33.0"))
    assert _prior(watched.store, asked) == set()


def _prior(store: Store, asked: ProfileKey) -> set[str] | None:
    match = store.find(asked)
    if match is None:
        return None
    assert match.is_prior == bool(match.differing)
    return set(match.differing)


def _found_version(store: Store, asked: ProfileKey) -> str:
    match = store.find(asked)
    assert match is not None
    return match.profile.key.engine_version


def test_every_field_of_the_key_is_required_or_tolerated() -> None:
    """A field that were neither would be ignored by the distance."""
    assert sorted((*REQUIRED, *TOLERATED)) == sorted(KEY_FIELDS)


def test_the_file_is_json_that_says_what_it_is(watched: Watched) -> None:
    """What docs/profiles.md says of the format."""
    watched.store.put(profile())
    content = json.loads(watched.only_file().read_text())
    assert content["format"] == "turbospec.latency_profile"
    assert content["schema_version"] == 1
    assert content["profile"]["measured_at"] == "2026-01-31T12:00:00+00:00"
    assert content["profile"]["cells"][0]["proposal_length"] == 0
