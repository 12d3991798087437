"""The store: a directory, usually a volume, with one document per key. Several processes may share it.

Methods read and write files, so an event loop calls them in a thread; they may run at the same time.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from turbospec.sidecar.profiles import files
from turbospec.sidecar.profiles.document import MOST_BYTES, NewerSchemaError, dumps, loads
from turbospec.sidecar.profiles.key import ID, ProfileKey, differing
from turbospec.sidecar.profiles.profile import Profile, ProfileError

SUFFIX = ".profile.json"
# Only files named so are ours to read or to set aside: the directory may hold what belongs to others.
_NAME = re.compile(rf"(?P<slug>.+)-(?P<id>{ID.pattern}){re.escape(SUFFIX)}")
MOST_PROFILES = 256  # more kinds of engines than share a volume; bounds what a listing reads
_DIRECTORY_MODE = 0o750
_PART_LIFE_SECONDS = 3600.0  # no write takes an hour: its writer is dead

# What must be equal for a profile to say anything about another engine: step times of another accelerator or
# model are unrelated numbers, another method drafts in another way, and another engine does other work in a
# step of the same length.
REQUIRED = ("hardware", "engine_name", "model", "method")
# What may differ in a prior, by how much it changes step times, most first.
TOLERATED = (
    "model_parallel_size",
    "dtype",
    "draft_model",
    "proposal_saves_draft_cost",
    "ragged_breaks_graphs",
    "graph_sizes",
    "deep_off",
    "max_length",
    "engine_version",
)


class StoreError(Exception):
    """The directory cannot be read or written; the message names the path and why."""


class StoreFullError(StoreError):
    """The store holds as many profiles as it may."""


class Warn(Protocol):
    """Takes an event and its context, as a structlog logger's `warning` does."""

    def __call__(self, event: str, **context: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Match:
    """What a store knows for a key. `differing`: the key's fields that are not as asked for."""

    profile: Profile
    differing: tuple[str, ...]

    @property
    def is_prior(self) -> bool:
        """Measured on a similar engine, not on such a one: to start from, not to rely on."""
        return bool(self.differing)


class Store:
    """Profiles in a directory.

    A file that is corrupt or foreign is renamed, reported as `profile.set_aside`, and everything goes on
    without it. One that cannot be read now, or only by a later TurboSpec, is left, and reported once.
    """

    def __init__(self, directory: Path, warn: Warn) -> None:
        self.directory = directory
        self._warn = warn
        self._told: set[str] = set()

    def prepare(self) -> None:
        """Creates the directory where it is missing. Raises `StoreError` where profiles cannot be written."""
        self._make_directory()
        try:
            probe = self.directory / ".writable"
            files.write(probe, b"")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write to {self.directory}: {error.strerror}") from error

    def profiles(self) -> list[Profile]:
        """All profiles, by the names of their files. Raises `StoreError`."""
        found = (self._read(self.directory / name[0]) for name in self._names())
        return [profile for profile in found if profile is not None]

    def get(self, profile_id: str) -> Profile | None:
        """The profile with that id. Raises `StoreError`."""
        for name in self._names():
            if name["id"] == profile_id:
                return self._read(self.directory / name[0])
        return None

    def find(self, key: ProfileKey) -> Match | None:
        """The profile of `key`, else the closest of a similar engine, else None; never raises.

        Closest: what differs (see `TOLERATED`) matters least; of equally close ones the newest. A directory
        that cannot be read has none, and is reported once as `profiles.unavailable`.
        """
        if (profile := self._read(self._path(key))) is not None:
            return Match(profile, ())
        try:
            names = self._names()
        except StoreError as error:
            self._tell_once("profiles.unavailable", self.directory, str(error))
            return None
        similar: list[Match] = []
        for name in names:
            if name["slug"] != key.slug or name["id"] == key.profile_id:
                continue  # the names save reading files that cannot match
            if (profile := self._read(self.directory / name[0])) is not None:
                match = Match(profile, differing(profile.key, key))
                if not set(match.differing) & set(REQUIRED):
                    similar.append(match)
        similar.sort(key=lambda match: match.profile.measured_at, reverse=True)
        return min(similar, key=_distance, default=None)

    def put(self, profile: Profile) -> bool:
        """Stores a profile in place of one with the same key; whether there was one.

        Raises `ProfileError` where it is impossible, `StoreError` where it cannot be written: then what was
        there before is still there.
        """
        data = dumps(profile)
        path = self._path(profile.key)
        self._make_directory()
        try:
            before = self._read(path)  # sets aside what would be lost
            if before is None:
                self._check_room(path)
            files.write(path, data)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        files.remove_parts(path, _PART_LIFE_SECONDS)
        return before is not None

    def _make_directory(self) -> None:
        try:
            if self.directory.is_dir():
                return
            if self.directory.exists():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write to {self.directory}: {error.strerror}") from error

    def _check_room(self, path: Path) -> None:
        if path.exists():
            raise StoreError(f"cannot replace {path}: it cannot be read here, and may be good; move it away")
        if len(self._names()) >= MOST_PROFILES:
            raise StoreFullError(f"{self.directory} holds {MOST_PROFILES} profiles, the most it may")

    def _path(self, key: ProfileKey) -> Path:
        return self.directory / f"{key.slug}-{key.profile_id}{SUFFIX}"

    def _names(self) -> list[re.Match[str]]:
        """The names of our files, in order."""
        try:
            names = sorted(os.listdir(self.directory))
        except OSError as error:
            raise StoreError(f"cannot read {self.directory}: {error.strerror}") from error
        return [match for name in names if (match := _NAME.fullmatch(name))]

    def _read(self, path: Path) -> Profile | None:
        """The profile in a file; None: there is none, or none that can be used."""
        try:
            data, found = files.read(path, MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell_once("profile.unreadable", path, str(error.strerror))
            return None
        try:
            profile = loads(data)
            if self._path(profile.key) != path:
                raise ProfileError("key", f"belongs into {self._path(profile.key).name}")
        except NewerSchemaError as error:
            self._tell_once("profile.newer", path, str(error))
        except ProfileError as error:
            self._set_aside(path, found, str(error))
        else:
            return profile
        return None

    def _set_aside(self, path: Path, found: os.stat_result, reason: str) -> None:
        try:
            aside = files.set_aside(path, found)
        except OSError as error:  # a directory that is not ours to write
            self._tell_once("profile.unusable", path, f"{reason}; not set aside: {error.strerror}")
            return
        if aside is not None:
            self._warn("profile.set_aside", path=str(path), now=str(aside), reason=reason)

    def _tell_once(self, event: str, path: Path, reason: str) -> None:
        told = f"{event} {path} {reason}"
        if told not in self._told:
            self._told.add(told)
            self._warn(event, path=str(path), reason=reason)


def _distance(match: Match) -> tuple[bool, ...]:
    """Compares as the first, most telling difference does."""
    return tuple(name in match.differing for name in TOLERATED)
