"""The offline profile that `warm` starts from: measured first, or a stored one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from turbospec.adapters.version import __version__
from turbospec.engines.bench.coldstart.plan import LOADS, PROFILE_CONTEXT, PROFILE_REPEATS
from turbospec.engines.profiling.errors import OptionError
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.plan import Load, PlannedCell, Range, make_grid
from turbospec.engines.profiling.sidecar import Sidecar
from turbospec.engines.profiling.survey import Survey
from turbospec.engines.profiling.target import Target, find_target
from turbospec.engines.stage.controller import Controller
from turbospec.sidecar.profiles.document import MOST_BYTES, loads
from turbospec.sidecar.profiles.key import ProfileKey, differing
from turbospec.sidecar.profiles.profile import Profile, ProfileError, Source

# Weights decide what is accepted, not what a step takes: pairs of one shape share a profile.
_OF_WEIGHTS = ("model", "draft_model")


def read(path: Path) -> Profile:
    """The profile in an exported file. Raises OptionError."""
    try:
        with path.open("rb") as file:
            return loads(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise OptionError(f"--profile: {path}: {error.strerror}") from error
    except ProfileError as error:
        raise OptionError(f"--profile: {path} is no profile that can be used: {error}") from error


def of_engine(profile: Profile, key: ProfileKey) -> Profile:
    """The same cells for the engine with `key`, made of models of the same shape.

    Raises OptionError where the engines differ in more than their models, or where the profile would change
    with what is measured.
    """
    if profile.source is not Source.SWEEP:
        raise OptionError(
            "--profile: is from ordinary traffic; a cold start is compared with a sweep (turbospec profile)"
        )
    others = [name for name in differing(profile.key, key) if name not in _OF_WEIGHTS]
    if others:
        told = (f"{name} {getattr(profile.key, name)!r}, not {getattr(key, name)!r}" for name in others)
        raise OptionError(f"--profile: is of another kind of engine: {', '.join(told)}")
    return replace(profile, key=key)


def target_of(controller: Controller, url: str, engine_id: str) -> Target:
    """What the engine says of itself. Raises ProfilingError where it is not there."""
    with Sidecar(controller.introspection, controller.operations) as sidecar:
        return find_target(sidecar, url, engine_id)


def measure(controller: Controller, target: Target, on_visit: Callable[[int, int], None]) -> Profile:
    """Profiles the engine at the benchmark's loads.

    `on_visit` is told the visits made and how many they will be at most. The engine's policy is then the one
    that was visited last. Raises ProfilingError or LoadError.
    """
    wanted = Range(max(LOADS), (PROFILE_CONTEXT,))
    grid = make_grid(target.capabilities, target.max_context, wanted)
    measured = Measured([cell for cell in grid if cell.load.requests in LOADS])
    with Sidecar(controller.introspection, controller.operations) as sidecar:
        observer = _Observer(measured, on_visit)
        asyncio.run(Survey(target, sidecar, measured, observer).run(PROFILE_REPEATS))
    return Profile(target.key, datetime.now(UTC), __version__, Source.SWEEP, measured.cells())


class _Observer:
    """Counts visits."""

    def __init__(self, measured: Measured, on_visit: Callable[[int, int], None]) -> None:
        self._measured = measured
        self._on_visit = on_visit

    def began(self, repeat: int, load: Load) -> None:
        """A load is about to be run."""

    def visiting(self, cell: PlannedCell) -> None:
        """A cell is about to be visited."""

    def visited(self, _cell: PlannedCell) -> None:
        """A cell was visited."""
        made = sum(map(len, self._measured.visits.values()))
        left = sum(self._measured.missing(cell, PROFILE_REPEATS) for cell in self._measured.planned)
        self._on_visit(made, made + left)
