"""A profile as a file's content: nothing is lost, nothing wrong is read."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.profiles import cell, key, profile
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles import document
from turbospec.sidecar.profiles.key import KEY_FIELDS, canonical, key_of
from turbospec.sidecar.profiles.profile import MOST_CELLS, Cell, Profile, ProfileError, check
from turbospec.sidecar.server.identity import Identity

times = st.floats(1e-9, 3600.0, allow_nan=False)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Any profile that may be."""
    text = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40)
    named = text.filter(bool)
    sizes = draw(st.sets(st.integers(1, 10_000), max_size=20))
    lengths = st.integers(0, 5)
    cells = draw(
        st.lists(
            st.builds(
                cell,
                st.integers(1, 512),
                lengths,
                context_tokens=st.integers(0, 1 << 40),
                ragged=st.booleans(),
                steps=st.integers(1, 1_000_000_000),
                seconds=times,
                spread_seconds=st.floats(0.0, 3600.0),
            ),
            min_size=1,
            max_size=10,
            unique_by=lambda made: made.coordinates,
        )
    )
    return profile(
        tuple(cells),
        hardware=draw(named),
        model=draw(named),
        draft_model=draw(text),
        engine_version=draw(text),
        deep_off=draw(st.booleans()),
        graph_sizes=tuple(sorted(sizes)),
        measured_at=draw(st.datetimes(timezones=st.just(UTC))),
    )


@given(profiles())
def test_what_is_written_is_read_again(made: Profile) -> None:
    """Every field, to the last bit; formatting it for reading changes nothing."""
    data = document.dumps(made)
    assert document.loads(data) == made
    assert document.loads(json.dumps(json.loads(data), indent=2).encode()) == made
    assert document.dumps(document.loads(data)) == data


def test_no_flipped_byte_is_read_as_something_else() -> None:
    """At every position, one bit and all bits: refused, or (1e-05 against 1E-05) it means the same."""
    made = profile((cell(seconds=1e-5), cell(2)))
    data = document.dumps(made)
    refused = 0
    for position in range(len(data)):
        for mask in (0x01, 0x20, 0xFF):
            flipped = bytearray(data)
            flipped[position] ^= mask
            try:
                assert document.loads(bytes(flipped)) == made
            except ProfileError:
                refused += 1
    assert refused > 2.9 * len(data)


def test_the_checksum_is_what_refuses_a_changed_number() -> None:
    """Negative control of the test above: with the checksum made again, another number is read as such."""
    content = json.loads(document.dumps(profile()))
    content["profile"]["cells"][0]["seconds"] = 0.5
    with pytest.raises(ProfileError, match="checksum: "):
        document.loads(canonical(content))
    assert document.loads(signed(content)).cells[0].seconds == 0.5


def test_a_cut_document_is_refused() -> None:
    """Whatever its length: what a writer that is not atomic leaves."""
    data = document.dumps(profile())
    for length in range(len(data) - 1):
        with pytest.raises(ProfileError):
            document.loads(data[:length])


def signed(content: dict[str, Any]) -> bytes:
    """The document with the checksum that belongs to it."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return canonical({**rest, "checksum": f"sha256:{hashlib.sha256(canonical(rest)).hexdigest()}"})


def changed(path: str, value: object) -> bytes:
    """A signed document in which one field is another. "-" removes it."""
    content = json.loads(document.dumps(profile()))
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = content
    for parent in parents:
        place = place[parent]
    if value == "-":
        del place[last]
    else:
        place[last] = value
    return signed(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "other", "format: is not 'turbospec.latency_profile'"),
        ("schema_version", 0, "schema_version: must be a whole number from 1, not 0"),
        ("schema_version", True, "schema_version: must be a whole number"),
        ("schema_version", 2, "schema_version: 2 is newer than 1"),
        ("more", 1, "document: has other fields than it should"),
        ("profile", [], "profile: must have exactly the fields"),
        ("profile.cells", {}, "cells: must be a list"),
        ("profile.cells", [], f"cells: has from 1 to {MOST_CELLS} entries, not 0"),
        ("profile.cells", [1] * (MOST_CELLS + 1), f"cells: must be a list of at most {MOST_CELLS}"),
        ("profile.cells.2", 3, "cells[2]: must have exactly the fields requests, "),
        ("profile.cells.2.steps", "-", "cells[2]: must have exactly the fields requests, "),
        ("profile.cells.2.steps", 0, "cells[2].steps: must be from 1 to 1000000000, not 0"),
        ("profile.cells.2.steps", 1.5, "cells[2].steps: must be a whole number, not 1.5"),
        ("profile.cells.2.ragged", 1, "cells[2].ragged: must be true or false, not 1"),
        ("profile.cells.2.requests", 70_000, "cells[2].requests: must be from 1 to 65536, not 70000"),
        ("profile.cells.2.requests", True, "cells[2].requests: must be a whole number, not True"),
        ("profile.cells.2.seconds", 0, "cells[2].seconds: must be from 1e-09 to 3600.0, not 0.0"),
        ("profile.cells.2.seconds", 3601.0, "cells[2].seconds: must be from 1e-09 to 3600.0, not 3601.0"),
        ("profile.cells.2.seconds", "fast", "cells[2].seconds: must be a number, not 'fast'"),
        ("profile.cells.2.spread_seconds", -1.0, "cells[2].spread_seconds: must be from 0.0 to 3600.0"),
        ("profile.cells.2.prefill_tokens", 5, "cells[2].prefill_tokens: must be from 0 to 4, not 5"),
        ("profile.cells.2.proposal_length", 6, "cells[2].proposal_length: must be from 0 to 5, not 6"),
        ("profile.cells.2.drafter_skipped", True, "cells[2].drafter_skipped: only with proposal_length 0"),
        ("profile.key.hardware", "", "key.hardware: must not be empty"),
        ("profile.key.model", "a\nb", "key.model: must be printable, not 'a\\nb'"),
        ("profile.key.model", "\ud800", "key.model: must be printable"),
        ("profile.key.dtype", "x" * 1025, "key.dtype: has at most 1024 bytes, not 1025"),
        ("profile.key.dtype", None, "key.dtype: must be text, not None"),
        ("profile.key.max_length", 65, "key.max_length: must be from 1 to 64, not 65"),
        ("profile.key.graph_sizes", [4, 4], "key.graph_sizes: must be ascending"),
        ("profile.key.graph_sizes", [1, "2"], "key.graph_sizes: must be a list of whole numbers"),
        ("profile.key.graph_sizes", list(range(4097)), "key.graph_sizes: has at most 4096 entries"),
        ("profile.measured_at", "yesterday", "measured_at: must be a time such as"),
        ("profile.measured_at", "2026-01-31T12:00:00+01:00", "measured_at: must be in UTC"),
        ("profile.measured_at", "2026-01-31T12:00:00", "measured_at: must be in UTC"),
        ("profile.source", "guess", "source: must be one of sweep, online, not 'guess'"),
        ("profile.turbospec_version", 1, "turbospec_version: must be text"),
    ],
)
def test_what_is_wrong_is_named_with_its_limit(path: str, value: object, message: str) -> None:
    """Each refusal says which field and what may be there, also where the checksum is right."""
    with pytest.raises(ProfileError) as error:
        document.loads(changed(path, value))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"format": NaN}',
        b"[" * 100_000,
        b'{"a": ' + b"1" * 10_000 + b"}",
        b'{"format": "turbospec.latency_profile", "schema_version": 1, "profile": 1e999}',
        b'{"format": "turbospec.latency_profile", "format": "turbospec.latency_profile"}',
        b" " * (document.MOST_BYTES + 1),
    ],
    ids=["empty", "list", "not-utf8", "nan", "deep", "long-number", "infinite", "twice", "too-long"],
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    """As a `ProfileError`, whatever it is."""
    with pytest.raises(ProfileError):
        document.loads(data)


def test_two_cells_about_the_same_steps_are_refused() -> None:
    """Which of them would be true?"""
    with pytest.raises(ProfileError, match=r"cells\[2\]: is about the same steps as cells\[0\]"):
        check(profile((cell(1), cell(2), cell(1, seconds=0.5))))


def test_not_a_number_is_refused_before_it_is_written() -> None:
    """A profile that could not be read again is never stored."""
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ProfileError, match=r"cells\[0\]\.seconds"):
            document.dumps(profile((cell(seconds=bad),)))


def test_as_many_cells_as_may_be_fit_a_document() -> None:
    """With the longest numbers, formatted for reading: the two limits agree."""
    cells = tuple(
        Cell(
            65_536, 1 << 24, (1 << 40) - i, 1 << 24, 5, False, False, 1_000_000_000, 0.1 + 1e-16, 1 / 3 * 1e-5
        )
        for i in range(MOST_CELLS)
    )
    data = document.dumps(profile(cells))
    assert len(json.dumps(json.loads(data), indent=2)) < document.MOST_BYTES


def test_the_time_zone_must_be_utc() -> None:
    """Not only in documents."""
    elsewhere = timezone(timedelta(hours=1))
    with pytest.raises(ProfileError, match="measured_at: must be in UTC"):
        check(profile(measured_at=datetime(2026, 1, 1, tzinfo=elsewhere)))


def test_the_key_is_made_of_what_the_engine_says() -> None:
    """Everything but what does not change step times: another adapter or context limit is the same key."""
    identity = Identity(
        engine_name="vllm",
        engine_version="0.32.0",
        adapter_version="0.1.0",
        model="m",
        draft_model="d",
        method="eagle",
        hardware="cpu",
        dtype="float32",
        model_parallel_size=2,
        max_context=4096,
        max_tokens_per_step=8192,
    )
    capabilities = Capabilities(4, 2, (0, 1, 2, 3, 4), deep_off=True, graph_sizes=(1, 2))
    made = key_of(identity, capabilities)
    assert made == key(
        hardware="cpu",
        model="m",
        draft_model="d",
        method="eagle",
        dtype="float32",
        model_parallel_size=2,
        max_length=4,
        graph_sizes=(1, 2),
        ragged_breaks_graphs=False,
    )


def test_the_id_depends_on_every_field_and_stays_the_same() -> None:
    """Across processes and releases: it names files."""
    assert key().profile_id == "5b1ca26fd709be64"
    others = {key(**{name: _another(getattr(key(), name))}).profile_id for name in KEY_FIELDS} | {
        key().profile_id
    }
    assert len(others) == len(KEY_FIELDS) + 1


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else (*value, 64) if isinstance(value, tuple) else value + 1
