"""Where measured cells come from: latency profiles, and tables that others have published."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from turbospec.engines.profiling.errors import OptionError
from turbospec.sidecar.core.latency import KNOWN_STEPS
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles.document import MOST_BYTES, loads
from turbospec.sidecar.profiles.key import ProfileKey
from turbospec.sidecar.profiles.profile import Cell, Profile, ProfileError
from turbospec.sidecar.profiles.store import SUFFIX

_COMMENT = "#"
_COLUMNS = ("requests", "proposal_length", "drafter_skipped", "context_tokens", "milliseconds")


@dataclass(frozen=True, slots=True)
class Source:
    """Cells of one kind of engine, and what of that engine the forms need to know.

    Either all are of decode steps, or all of steps with prompts beside decoding: these have a model of their
    own.
    """

    name: str
    engine: Capabilities
    cells: tuple[Cell, ...]


def read(path: Path) -> list[Source]:
    """A profile, a directory of profiles, or a published table (.csv). Raises OptionError."""
    try:
        if path.is_dir():
            found = sorted(path.glob(f"*{SUFFIX}"))
            if not found:
                raise OptionError(f"--profile: no profile (*{SUFFIX}) in {path}")
            return [source for file in found for source in _of_profile(file)]
        return [_of_table(path)] if path.suffix == ".csv" else _of_profile(path)
    except OSError as error:
        raise OptionError(f"--profile: {path}: {error.strerror}") from error


def of_profile(profile: Profile) -> list[Source]:
    """Its decode cells, and those with prompts, where it has such."""
    name, engine = f"{profile.key.slug}-{profile.key.profile_id}", _engine(profile.key)
    decode = tuple(cell for cell in profile.cells if not cell.prefill_tokens)
    mixed = tuple(cell for cell in profile.cells if cell.prefill_tokens)
    found = [Source(name, engine, decode), Source(f"{name}, with prompts", engine, mixed)]
    return [source for source in found if source.cells]


def _of_profile(path: Path) -> list[Source]:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    try:
        return of_profile(loads(data))
    except ProfileError as error:
        raise OptionError(f"--profile: {path} is no profile that can be used: {error}") from error


def _of_table(path: Path) -> Source:
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in file if not line.startswith(_COMMENT)]
    reader = csv.DictReader(lines)
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise OptionError(f"--profile: {path}: the columns must be {','.join(_COLUMNS)}")
    try:
        cells = tuple(_cell({name: float(row[name]) for name in _COLUMNS}) for row in reader)
    except (TypeError, ValueError) as error:
        raise OptionError(f"--profile: {path}: {error}") from error
    longest = max((cell.proposal_length for cell in cells), default=0)
    skips = any(cell.drafter_skipped for cell in cells)
    return Source(path.stem, _capabilities(longest, deep_off=skips), cells)


def _cell(row: dict[str, float]) -> Cell:
    """What was published rests on many steps, and is believed; how far these spread is not said."""
    requests, length = int(row["requests"]), int(row["proposal_length"])
    return Cell(
        requests=requests,
        target_tokens=requests * (1 + length),
        context_tokens=int(row["context_tokens"]),
        prefill_tokens=0,
        proposal_length=length,
        ragged=False,
        drafter_skipped=bool(row["drafter_skipped"]),
        steps=KNOWN_STEPS,
        seconds=1e-3 * row["milliseconds"],
        spread_seconds=0.0,
    )


def _engine(key: ProfileKey) -> Capabilities:
    return _capabilities(
        key.max_length,
        deep_off=key.deep_off,
        proposal_saves_draft_cost=key.proposal_saves_draft_cost,
        ragged_breaks_graphs=key.ragged_breaks_graphs,
        graph_sizes=key.graph_sizes,
    )


def _capabilities(
    longest: int,
    *,
    deep_off: bool,
    proposal_saves_draft_cost: bool = True,
    ragged_breaks_graphs: bool = False,
    graph_sizes: tuple[int, ...] = (),
) -> Capabilities:
    return Capabilities(
        max_length=longest,
        static_length=longest,
        candidate_lengths=tuple(range(longest + 1)),
        deep_off=deep_off,
        proposal_saves_draft_cost=proposal_saves_draft_cost,
        ragged_breaks_graphs=ragged_breaks_graphs,
        graph_sizes=graph_sizes,
    )
