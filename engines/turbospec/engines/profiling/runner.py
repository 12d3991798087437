"""The whole command: find the engine, measure, restore its policy, report, and put the profile away."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from turbospec.adapters.version import __version__
from turbospec.engines.load import LoadError
from turbospec.engines.profiling import document, table
from turbospec.engines.profiling.errors import OptionError, ProfilingError
from turbospec.engines.profiling.fit import evaluate
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.plan import VISIT_STEPS, Range, make_grid
from turbospec.engines.profiling.progress import VisitProgress
from turbospec.engines.profiling.sidecar import Sidecar
from turbospec.engines.profiling.statistics import KNOWN_WITHIN, LEAST_VISITS
from turbospec.engines.profiling.survey import Survey
from turbospec.engines.profiling.target import Target, find_target
from turbospec.engines.profiling.working import WorkingFile
from turbospec.sidecar.profiles.document import dumps
from turbospec.sidecar.profiles.profile import Profile, Source


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses. `engine_id` None: the only one; files None: not written."""

    url: str
    engine_id: str | None
    range: Range
    repeats: int
    restart: bool
    directory: Path
    output: Path | None = None
    json: Path | None = None
    picture: Path | None = None


def run(options: Options, sidecar: Sidecar, console: Console) -> Profile:
    """Profiles an engine. Raises ProfilingError or LoadError; whatever happens, its policy is restored."""
    began = time.monotonic()
    target = find_target(sidecar, options.url, options.engine_id)
    keeps = sidecar.keeps_profiles()
    if not keeps and options.output is None:
        raise OptionError(
            "--output: is needed, for this sidecar keeps no profiles (turbospec serve --profiles-directory)"
        )
    grid = make_grid(target.capabilities, target.max_context, options.range, target.step_tokens)
    working = WorkingFile(options.directory, target.key)
    if options.restart:
        working.remove()
    measured = working.load(grid)
    _announce(console, target, measured, options.repeats)
    try:
        with _policy_restored(target, sidecar, console):
            _measure(target, sidecar, measured, options.repeats, working, console)
    except (ProfilingError, LoadError) as error:
        raise type(error)(f"{error}{_kept(measured, working)}") from error
    except KeyboardInterrupt:
        console.print(f"Interrupted{_kept(measured, working)}.", markup=False, soft_wrap=True)
        raise
    cells = measured.cells()
    if not any(not cell.prefill_tokens for cell in cells):
        raise ProfilingError("nothing could be measured: no step was without requests of others")
    profile = Profile(target.key, datetime.now(UTC), __version__, Source.SWEEP, cells)
    if options.output is not None:
        options.output.write_bytes(dumps(profile))
    _report(profile, target, measured, options, console, time.monotonic() - began)
    if keeps:
        replaced = sidecar.import_profile(profile)
        verb = "replaces the one before" if replaced else "is new"
        _say(
            console, f"Profile {target.key.profile_id} with {len(cells)} cells {verb} in the sidecar's store."
        )
    if options.output is not None:
        _say(console, f"Profile {target.key.profile_id} is in {options.output}.")
    working.remove()
    return profile


def _announce(console: Console, target: Target, measured: Measured, repeats: int) -> None:
    done = sum(map(len, measured.visits.values()))
    cells = len(measured.planned)
    _say(
        console,
        f"Profiling engine {target.engine_id!r}: {cells} cells, each visited {LEAST_VISITS} to {repeats} "
        f"times, {VISIT_STEPS} steps a visit, until it is known to {KNOWN_WITHIN:.0%}; at most "
        f"{cells * repeats} visits"
        + (f". {done} of them were made before; --restart begins anew." if done else "."),
    )


def _measure(
    target: Target, sidecar: Sidecar, measured: Measured, repeats: int, working: WorkingFile, console: Console
) -> None:
    with VisitProgress(console, measured, repeats, working.save) as progress:
        asyncio.run(Survey(target, sidecar, measured, progress).run(repeats))


@contextmanager
def _policy_restored(target: Target, sidecar: Sidecar, console: Console) -> Iterator[None]:
    """Sets the engine's policy back after the block, also where it is interrupted or fails."""
    try:
        yield
    finally:
        # A second Ctrl-C must not leave the engine at whatever length was measured last.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            sidecar.set_policy(target.engine_id, target.rank, target.policy)
            _say(console, f"Engine {target.engine_id!r} is under policy {target.policy!r} again.")
        except ProfilingError as error:
            _say(
                console,
                f"The policy of engine {target.engine_id!r} could not be restored: {error}. Then do it by "
                f"hand: turbospec set-policy {target.policy} --engine {target.engine_id}",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _report(
    profile: Profile, target: Target, measured: Measured, options: Options, console: Console, seconds: float
) -> None:
    report = evaluate(profile.cells, target.capabilities, target.max_context)
    if options.json is not None:
        content = document.as_json(profile, report, measured, seconds)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.picture is not None:
        from turbospec.engines.profiling.picture import draw

        draw(profile.cells, report, target.capabilities, options.picture)
    for line in table.render(report, measured):
        console.print(line, highlight=False)
    _say(console, f"Took {seconds / 60:.1f} min.")


def _kept(measured: Measured, working: WorkingFile) -> str:
    """What becomes of what was measured before the end."""
    if not any(measured.visits.values()):
        return ""
    return f"; what was measured is kept in {working.path}: the same command goes on from there"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
