"""The working file: what was measured, kept after each visit, so that an interrupted run can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from turbospec.engines.profiling.errors import ProfilingError
from turbospec.engines.profiling.measured import Measured, Visit
from turbospec.engines.profiling.plan import Load, Mode, PlannedCell
from turbospec.sidecar.profiles import files
from turbospec.sidecar.profiles.key import ProfileKey
from turbospec.sidecar.profiles.profile import Cell

_FORMAT = "turbospec.profiling"
_VERSION = 2
_MOST_BYTES = 64 * 1024 * 1024


class WorkingFile:
    """Visits to one engine's cells, in a file of its own in `directory`."""

    def __init__(self, directory: Path, key: ProfileKey) -> None:
        self.path = directory / f"{key.slug}-{key.profile_id}.profiling.json"

    def load(self, planned: Sequence[PlannedCell]) -> Measured:
        """What is known of the cells `planned` now. Raises ProfilingError where it cannot be read."""
        measured = Measured(planned)
        try:
            data, _ = files.read(self.path, _MOST_BYTES)
        except FileNotFoundError:
            return measured
        except OSError as error:
            raise ProfilingError(f"{self.path}: {error.strerror}; --restart begins anew") from error
        try:
            content = json.loads(data)
            if (content["format"], content["version"]) != (_FORMAT, _VERSION):
                raise ValueError("of another format")
            for entry in content["cells"]:
                cell = PlannedCell(Load(**entry["load"]), Mode(**entry["mode"]))
                if cell in measured.visits:
                    measured.visits[cell] = [_visit(visit) for visit in entry["visits"]]
        except (ValueError, LookupError, TypeError) as error:
            raise ProfilingError(
                f"{self.path} cannot be gone on from: {error}; --restart begins anew"
            ) from error
        return measured

    def save(self, measured: Measured) -> None:
        """Writes it whole or not at all. Raises ProfilingError."""
        cells = [
            {
                "load": asdict(cell.load),
                "mode": asdict(cell.mode),
                "visits": [[asdict(group) for group in visit] for visit in visits],
            }
            for cell, visits in measured.visits.items()
            if visits
        ]
        content = {"format": _FORMAT, "version": _VERSION, "cells": cells}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.write(self.path, json.dumps(content).encode())
        except OSError as error:
            raise ProfilingError(f"cannot write {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """Begins anew."""
        self.path.unlink(missing_ok=True)


def _visit(groups: Any) -> Visit:
    visit = tuple(Cell(**group) for group in groups)
    if not any(group.steps > 0 and group.seconds > 0 for group in visit):
        raise ValueError("a visit without steps")
    return visit
