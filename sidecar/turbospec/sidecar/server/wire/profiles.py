"""Latency profiles as messages. What they may hold is checked where profiles are stored."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from turbospec.sidecar.profiles.key import KEY_FIELDS, ProfileKey
from turbospec.sidecar.profiles.profile import Cell, Profile, ProfileError, Source, Summary
from turbospec.v1 import operations_pb2 as pb

_SOURCES = {
    Source.SWEEP: pb.PROFILE_SOURCE_SWEEP,
    Source.ONLINE: pb.PROFILE_SOURCE_ONLINE,
}
_SOURCE_OF: dict[int, Source] = {number: source for source, number in _SOURCES.items()}
_CELL_FIELDS = tuple(f.name for f in fields(Cell))


def write_profile(profile: Profile) -> pb.Profile:
    """The message of a profile."""
    return pb.Profile(
        key=_key(profile.key),
        measured_at=_timestamp(profile.measured_at),
        turbospec_version=profile.turbospec_version,
        source=_SOURCES[profile.source],
        cells=[pb.ProfileCell(**asdict(cell)) for cell in profile.cells],
    )


def write_source(source: Source) -> pb.ProfileSource:
    """The protocol's word for it."""
    return _SOURCES[source]


def write_summary(summary: Summary) -> pb.ProfileSummary:
    """The message of a summary."""
    return pb.ProfileSummary(
        profile_id=summary.key.profile_id,
        key=_key(summary.key),
        measured_at=_timestamp(summary.measured_at),
        turbospec_version=summary.turbospec_version,
        source=_SOURCES[summary.source],
        cells=summary.cells,
        steps=summary.steps,
    )


def read_summary(message: pb.ProfileSummary) -> Summary:
    """The summary of a message. Raises `ProfileError`."""
    return Summary(
        key=_read_key(message.key),
        measured_at=_read_time(message.measured_at),
        turbospec_version=message.turbospec_version,
        source=_read_source(message.source),
        cells=message.cells,
        steps=message.steps,
    )


def read_profile(message: pb.Profile) -> Profile:
    """The profile of a message; its numbers are not checked yet. Raises `ProfileError`."""
    return Profile(
        key=_read_key(message.key),
        measured_at=_read_time(message.measured_at),
        turbospec_version=message.turbospec_version,
        source=_read_source(message.source),
        cells=tuple(Cell(**{name: getattr(cell, name) for name in _CELL_FIELDS}) for cell in message.cells),
    )


def _read_key(message: pb.ProfileKey) -> ProfileKey:
    found = {name: getattr(message, name) for name in KEY_FIELDS}
    return ProfileKey(**found | {"graph_sizes": tuple(message.graph_sizes)})


def _read_time(message: Timestamp) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ProfileError("measured_at", f"is not a time: {error}") from None


def _read_source(number: int) -> Source:
    try:
        return _SOURCE_OF[number]
    except KeyError:
        valid = ", ".join(pb.ProfileSource.Name(valid) for valid in _SOURCES.values())
        raise ProfileError("source", f"must be one of {valid}, not {number}") from None


def _key(key: ProfileKey) -> pb.ProfileKey:
    return pb.ProfileKey(**asdict(key))


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
