"""A profile, and what its numbers must satisfy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from turbospec.sidecar.profiles.key import ProfileKey
from turbospec.sidecar.server import limits

MOST_CELLS = 10_000  # several times a fine grid of requests, context and length; about 2 MB as a file
LONGEST_VERSION_BYTES = 64


class ProfileError(ValueError):
    """A profile is impossible. `field` is its path, such as "cells[2].seconds"."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class Source(Enum):
    """How a profile was measured."""

    SWEEP = "sweep"
    ONLINE = "online"


class Coordinates(NamedTuple):
    """Which steps a cell is about; the fields are those of `Cell`."""

    requests: int
    target_tokens: int
    context_tokens: int
    prefill_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """Steps of one kind and how long they took.

    `target_tokens` are all tokens of the target's pass, `prefill_tokens` those of them that are prompts';
    `requests` are those that decode, and `context_tokens` is their total. `ragged`: widths differed.
    `steps` were measured; `seconds` is their robust location and `spread_seconds` their robust spread.
    """

    requests: int
    target_tokens: int
    context_tokens: int
    prefill_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool
    steps: int
    seconds: float
    spread_seconds: float

    @property
    def coordinates(self) -> Coordinates:
        return Coordinates(*(getattr(self, name) for name in Coordinates._fields))


@dataclass(frozen=True, slots=True)
class Summary:
    """A profile with the numbers of its cells and of the steps in them in place of its cells."""

    key: ProfileKey
    measured_at: datetime
    turbospec_version: str
    source: Source
    cells: int
    steps: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Measured cells of the engines with one key. `measured_at` is aware, in UTC; it is never compared with
    another machine's clock, only shown."""

    key: ProfileKey
    measured_at: datetime
    turbospec_version: str
    source: Source
    cells: tuple[Cell, ...]

    @property
    def summary(self) -> Summary:
        return Summary(
            key=self.key,
            measured_at=self.measured_at,
            turbospec_version=self.turbospec_version,
            source=self.source,
            cells=len(self.cells),
            steps=sum(cell.steps for cell in self.cells),
        )


# Without these nothing tells to whom a profile applies.
_NEVER_EMPTY = ("hardware", "engine_name", "model", "method")
_LONGEST_TEXT = {
    "hardware": limits.LONGEST_NAME_BYTES,
    "engine_name": limits.LONGEST_NAME_BYTES,
    "engine_version": limits.LONGEST_NAME_BYTES,
    "model": limits.LONGEST_NAME_BYTES,
    "draft_model": limits.LONGEST_NAME_BYTES,
    "method": limits.LONGEST_NAME_BYTES,
    "dtype": limits.LONGEST_NAME_BYTES,
}
_MOST_TOKENS = 1 << 24  # the largest batch at the longest proposal has a quarter of that
_CELL_BOUNDS: dict[str, tuple[float, float]] = {
    "requests": (1, limits.LARGEST_BATCH),
    "target_tokens": (1, _MOST_TOKENS),
    "context_tokens": (0, 1 << 40),  # the largest batch with 16 million tokens each
    "prefill_tokens": (0, _MOST_TOKENS),
    "proposal_length": (0, limits.LONGEST_PROPOSAL),
    "steps": (1, 1_000_000_000),
    "seconds": (1e-9, limits.LONGEST_STEP_SECONDS),
    "spread_seconds": (0.0, limits.LONGEST_STEP_SECONDS),
}


def check(profile: Profile) -> None:
    """Raises `ProfileError`, naming the field and the limit, where a profile is impossible."""
    _check_key(profile.key)
    _text("turbospec_version", profile.turbospec_version, LONGEST_VERSION_BYTES)
    if profile.measured_at.utcoffset() != timedelta(0):
        raise ProfileError("measured_at", "must be in UTC")
    if not 1 <= len(profile.cells) <= MOST_CELLS:
        raise ProfileError("cells", f"has from 1 to {MOST_CELLS} entries, not {len(profile.cells)}")
    seen: dict[Coordinates, int] = {}
    for i, cell in enumerate(profile.cells):
        _check_cell(f"cells[{i}]", cell, profile.key)
        first = seen.setdefault(cell.coordinates, i)
        if first != i:
            raise ProfileError(f"cells[{i}]", f"is about the same steps as cells[{first}]")


def _check_key(key: ProfileKey) -> None:
    for name, longest in _LONGEST_TEXT.items():
        _text(f"key.{name}", getattr(key, name), longest)
        if name in _NEVER_EMPTY and not getattr(key, name):
            raise ProfileError(f"key.{name}", "must not be empty")
    _within("key.model_parallel_size", key.model_parallel_size, 0, limits.LARGEST_RANK)
    _within("key.max_length", key.max_length, 1, limits.LONGEST_PROPOSAL)
    if len(key.graph_sizes) > limits.MOST_GRAPH_SIZES:
        raise ProfileError(
            "key.graph_sizes",
            f"has at most {limits.MOST_GRAPH_SIZES} entries, not {len(key.graph_sizes)}",
        )
    for i, size in enumerate(key.graph_sizes):
        _within(f"key.graph_sizes[{i}]", size, 0, _MOST_TOKENS)
    if any(after <= before for before, after in pairwise(key.graph_sizes)):
        raise ProfileError("key.graph_sizes", "must be ascending")


def _check_cell(at: str, cell: Cell, key: ProfileKey) -> None:
    for name, (low, high) in _CELL_BOUNDS.items():
        _within(f"{at}.{name}", getattr(cell, name), low, high)
    # Every request of a step computes one token at least.
    _within(f"{at}.requests", cell.requests, 1, cell.target_tokens)
    _within(f"{at}.prefill_tokens", cell.prefill_tokens, 0, cell.target_tokens)
    _within(f"{at}.proposal_length", cell.proposal_length, 0, key.max_length)
    if cell.drafter_skipped and (cell.proposal_length or not key.deep_off):
        raise ProfileError(
            f"{at}.drafter_skipped", "only with proposal_length 0, of an engine that has deep_off"
        )


def _within(field: str, value: float, low: float, high: float) -> None:
    # Not a number fails every comparison, so it is refused too.
    if not (low <= value <= high and math.isfinite(value)):
        raise ProfileError(field, f"must be from {low} to {high}, not {value!r}")


def _text(field: str, value: str, longest: int) -> None:
    # Tables and logs show it: half a surrogate pair or a line break must not get there.
    if not value.isprintable():
        raise ProfileError(field, f"must be printable, not {value!r:.80}")
    if len(value.encode()) > longest:
        raise ProfileError(field, f"has at most {longest} bytes, not {len(value.encode())}")
