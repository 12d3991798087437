"""A profile as a file's content: versioned JSON with a checksum.

    {"format": "turbospec.latency_profile", "schema_version": 1, "checksum": "sha256:...", "profile": {...}}

The checksum is over the canonical JSON (keys sorted, no white space) of the document without it: a document
may be formatted for reading and is still the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from turbospec.sidecar.profiles.key import ProfileKey, canonical
from turbospec.sidecar.profiles.profile import MOST_CELLS, Cell, Profile, ProfileError, Source, check

FORMAT = "turbospec.latency_profile"
SCHEMA_VERSION = 1
MOST_BYTES = 8 * 1024 * 1024  # of a document; as many cells as may be, formatted for reading, are below it

_Class = TypeVar("_Class")


class NewerSchemaError(ProfileError):
    """A document of a later TurboSpec: nothing is wrong with it, but it cannot be read here."""


def dumps(profile: Profile) -> bytes:
    """The document, one line. Raises `ProfileError` where `check` does."""
    check(profile)
    content = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "profile": as_json(profile)}
    return canonical({**content, "checksum": _checksum(content)}) + b"\n"


def loads(data: bytes) -> Profile:
    """The profile of a document. Raises `ProfileError`, naming the field at fault."""
    if len(data) > MOST_BYTES:
        raise ProfileError("document", f"has at most {MOST_BYTES} bytes")
    content = _parsed(data)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ProfileError("format", f"is not {FORMAT!r}")
    version = content.get("schema_version")
    if type(version) is not int or version < 1:
        raise ProfileError("schema_version", f"must be a whole number from 1, not {version!r:.80}")
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            "schema_version",
            f"{version!r:.80} is newer than {SCHEMA_VERSION}, the newest known here",
        )
    given = content.pop("checksum", None)
    if given != (computed := _checksum(content)):
        raise ProfileError("checksum", f"{given!r:.80} is not that of the content, {computed!r}")
    if content.keys() != {"format", "schema_version", "profile"}:
        raise ProfileError("document", f"has other fields than it should: {', '.join(sorted(content))}")
    profile = _profile(content["profile"])
    check(profile)
    return profile


def as_json(profile: Profile) -> dict[str, Any]:
    """The profile as JSON's types."""
    return {
        "key": asdict(profile.key),
        "measured_at": profile.measured_at.isoformat(),
        "turbospec_version": profile.turbospec_version,
        "source": profile.source.value,
        "cells": [asdict(cell) for cell in profile.cells],
    }


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and absurdly long numbers too
        raise ProfileError("document", f"is not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is named twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _checksum(content: dict[str, Any]) -> str:
    try:
        return f"sha256:{hashlib.sha256(canonical(content)).hexdigest()}"
    except ValueError as error:  # 1e999 is read as infinity
        raise ProfileError("document", f"a number is not finite: {error}") from None


def _profile(raw: Any) -> Profile:
    names = {"key", "measured_at", "turbospec_version", "source", "cells"}
    if not isinstance(raw, dict) or raw.keys() != names:
        raise ProfileError("profile", f"must have exactly the fields {', '.join(sorted(names))}")
    if not isinstance(raw["turbospec_version"], str):
        raise ProfileError("turbospec_version", "must be text")
    cells = raw["cells"]
    if not isinstance(cells, list) or len(cells) > MOST_CELLS:
        raise ProfileError("cells", f"must be a list of at most {MOST_CELLS}")
    return Profile(
        key=_record("key", ProfileKey, raw["key"]),
        measured_at=_time(raw["measured_at"]),
        turbospec_version=raw["turbospec_version"],
        source=_source(raw["source"]),
        cells=tuple(_record(f"cells[{i}]", Cell, cell) for i, cell in enumerate(cells)),
    )


def _time(raw: Any) -> datetime:
    try:
        return datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        raise ProfileError(
            "measured_at", f"must be a time such as 2026-01-31T12:00:00+00:00, not {raw!r:.80}"
        ) from None


def _source(raw: Any) -> Source:
    try:
        return Source(raw)
    except ValueError:
        valid = ", ".join(source.value for source in Source)
        raise ProfileError("source", f"must be one of {valid}, not {raw!r:.80}") from None


def _record(at: str, cls: type[_Class], raw: Any) -> _Class:
    """A data class of plain fields from JSON's object with exactly these."""
    names = _FIELDS[cls]
    if not isinstance(raw, dict) or raw.keys() != names.keys():
        raise ProfileError(at, f"must have exactly the fields {', '.join(names)}")
    return cls(**{name: _value(at, name, kind, raw[name]) for name, kind in names.items()})


_FIELDS: dict[type, dict[str, str]] = {
    cls: {f.name: str(f.type) for f in fields(cls)} for cls in (ProfileKey, Cell)
}
_KINDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def _value(at: str, name: str, kind: str, raw: Any) -> Any:
    if kind == "tuple[int, ...]":
        if isinstance(raw, list) and all(type(item) is int for item in raw):
            return tuple(raw)
        raise ProfileError(f"{at}.{name}", "must be a list of whole numbers")
    # JSON writes 2.0 as 2, and True is an int to isinstance.
    if kind == "float" and type(raw) is int and abs(raw) < 1 << 53:
        return float(raw)
    if type(raw).__name__ != kind:
        raise ProfileError(f"{at}.{name}", f"must be {_KINDS[kind]}, not {raw!r:.80}")
    return raw
