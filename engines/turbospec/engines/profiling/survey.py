"""Measuring: requests are kept in flight, lengths are set, and the engine's steps tell the times."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import aiohttp
from turbospec.engines.load import open_session
from turbospec.engines.profiling.errors import ProfilingError
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.patience import Patience
from turbospec.engines.profiling.plan import RESERVED_TOKENS, VISIT_STEPS, Load, PlannedCell, room, waves
from turbospec.engines.profiling.sidecar import Sidecar, Steps
from turbospec.engines.profiling.sorting import Sorter, Step, Verdict
from turbospec.engines.profiling.target import Target
from turbospec.engines.profiling.wave import Wave

# A wave's requests get tokens for a visit to each of several cells, and then others follow: their context
# should not outgrow what the cells are called after.
_LEAST_OUTPUT = 256
_OUTPUT_PER_CONTEXT = 4
# A prompt comes when the one before it was answered: in every second or third step.
_STEPS_PER_PROMPT = 3
# A visit is given up after so many steps with requests of others, the run after so many at another length.
_FOREIGN_PATIENCE = 25 * VISIT_STEPS
_LENGTH_PATIENCE = 12 * VISIT_STEPS
# So many visits given up one after the other, and there is too much other traffic to measure at all.
_SPOILED_PATIENCE = 8
# The longest silence between two reports is a step with a long prompt.
_SILENCE_SECONDS = 60.0
_TELLTALE_SECONDS = 10.0
_LOOK_SECONDS = 1.0
# A visit is given up after so many waves of requests in a row that ended without a step to measure.
_VAIN_WAVES = 3
# Between two waves: until a step without our requests, or silence for as long as a few steps.
_LEAVING_SECONDS, _LEAVING_STEPS = 0.2, 4


class Ending(Enum):
    """How a visit ended."""

    MEASURED = "measured"
    SPOILED = "spoiled"
    NO_PLACE = "no place"
    REQUESTS_ENDED = "requests ended"


class Observer(Protocol):
    """Is told what goes on."""

    def began(self, repeat: int, load: Load) -> None:
        """A load is about to be run."""

    def visiting(self, cell: PlannedCell) -> None:
        """A cell is about to be visited."""

    def visited(self, cell: PlannedCell) -> None:
        """A cell was visited, and something measured."""


class Survey:
    """Visits cells of one engine. Everything that is found out is in `measured`."""

    def __init__(self, target: Target, sidecar: Sidecar, measured: Measured, observer: Observer) -> None:
        self._target = target
        self._sidecar = sidecar
        self._measured = measured
        self._observer = observer
        self._label = f"turbospec-profile-{secrets.token_hex(4)}"
        self._longest = max(target.capabilities.candidate_lengths)
        self._policy: str | None = None
        self._seen_ours = False
        self._spoiled = 0

    async def run(self, repeats: int) -> None:
        """Visits every cell until it is known, up to `repeats` times.

        Raises ProfilingError or LoadError where it cannot go on. The engine's policy is then the last one
        visited.
        """
        target = self._target
        watch = self._sidecar.watch(target.engine_id, target.rank, self._label)
        async with watch as steps, open_session() as session:
            for repeat in range(1, repeats + 1):
                for load, cells in waves(self._measured.planned, repeat):
                    due = [cell for cell in cells if self._measured.due(cell, repeat)]
                    if due:
                        self._observer.began(repeat, load)
                        await self._run_load(session, steps, repeat, load, due)
            self._measured.lost_steps += steps.lost

    async def _run_load(
        self,
        session: aiohttp.ClientSession,
        steps: Steps,
        repeat: int,
        load: Load,
        cells: Sequence[PlannedCell],
    ) -> None:
        left = [Sorter(cell, proposal_settable=self._target.capabilities.proposal_settable) for cell in cells]
        made = 0
        vain_waves = 0
        while left and self._measured.reachable(load):
            visit = left[0]
            had = visit.counts[Verdict.MEASURED]
            self._set_policy(visit.cell)
            # Every wave has prompts of its own: the engine's cache must not know them.
            async with self._wave(session, load, f"{self._label}/{repeat}/{load}/{made}") as wave:
                ending = await self._run_wave(steps, wave, left)
            made += 1
            await self._left_alone(steps)
            vain = ending is Ending.REQUESTS_ENDED and visit is left[0]
            vain_waves = vain_waves + 1 if vain and visit.counts[Verdict.MEASURED] == had else 0
            if vain_waves == _VAIN_WAVES:
                ending = Ending.SPOILED if visit.counts[Verdict.FOREIGN] else Ending.NO_PLACE
                self._finish(left.pop(0), ending)
                vain_waves = 0

    async def _run_wave(self, steps: Steps, wave: Wave, left: list[Sorter]) -> Ending:
        """Makes visits, taken off `left`, until one does not come to its end; how the last one ended.

        Where the requests end too soon the rest is for the next ones.
        """
        ending = Ending.MEASURED
        while left and wave.tokens_left >= room(left[0].cell.mode.length):
            ending = await self._visit(steps, wave, left[0])
            if ending is Ending.REQUESTS_ENDED:
                break
            self._finish(left.pop(0), ending)
            if ending is Ending.NO_PLACE:
                break
        return ending

    def _finish(self, visit: Sorter, ending: Ending) -> None:
        if ending is Ending.NO_PLACE:
            self._measured.unreachable.add(visit.cell.load)
        elif ending is Ending.MEASURED:
            self._spoiled = 0
            self._measured.add(visit.cell, visit.groups())
            self._observer.visited(visit.cell)
        else:
            self._spoiled += 1
            if self._spoiled == _SPOILED_PATIENCE:
                raise ProfilingError(
                    f"engine {self._target.engine_id!r} has too much other traffic: the last {self._spoiled} "
                    "visits saw next to no step without it"
                )

    def _wave(self, session: aiohttp.ClientSession, load: Load, seed: str) -> Wave:
        steps = _STEPS_PER_PROMPT if load.prefill else 1
        output = max(_LEAST_OUTPUT, load.context // _OUTPUT_PER_CONTEXT, steps * room(self._longest))
        return Wave(
            session,
            self._target.url,
            self._target.served_model,
            load,
            min(output, self._target.max_context - RESERVED_TOKENS - load.context),
            label=self._label,
            intent_field=self._target.intent_field,
            longest=self._longest,
            seed=seed,
        )

    def _set_policy(self, cell: PlannedCell) -> None:
        if cell.mode.policy != self._policy:
            self._sidecar.set_policy(self._target.engine_id, self._target.rank, cell.mode.policy)
            self._policy = cell.mode.policy

    async def _visit(self, steps: Steps, wave: Wave, sorter: Sorter) -> Ending:
        """Goes on with a visit while the requests of `wave` run; what they give adds up in `sorter`."""
        self._observer.visiting(sorter.cell)
        self._set_policy(sorter.cell)
        steps.forget()
        sorter.pause()
        patience = Patience(wave)
        ending = None
        while ending is None:
            wave.check()
            step = await self._next(steps, wave)
            verdict = sorter.add(step)
            self._measured.steps[verdict] += step.steps
            patience.add(step)
            self._seen_ours = self._seen_ours or step.labelled_requests > 0
            # Requests that were admitted before the drafter ran again never speculate: others must follow.
            unready = verdict is Verdict.UNREADY
            ending = Ending.REQUESTS_ENDED if unready else self._ending(sorter, wave, patience, step)
        return ending

    def _ending(self, sorter: Sorter, wave: Wave, patience: Patience, step: Step) -> Ending | None:
        if sorter.counts[Verdict.MEASURED] >= VISIT_STEPS:
            return Ending.MEASURED
        if wave.ended:
            return Ending.REQUESTS_ENDED
        if patience.no_place:
            return Ending.NO_PLACE
        if sorter.counts[Verdict.OTHER_LENGTH] >= _LENGTH_PATIENCE:
            raise ProfilingError(
                f"engine {self._target.engine_id!r} ran at length {step.proposal_length} where policy "
                f"{sorter.cell.mode.policy!r} was set: is there a cap on its lengths, or does somebody else "
                "set policies?"
            )
        if sorter.counts[Verdict.FOREIGN] >= _FOREIGN_PATIENCE:
            if wave.began and not self._seen_ours:
                raise self._elsewhere()
            return Ending.SPOILED
        return None

    async def _next(self, steps: Steps, wave: Wave) -> Step:
        # Added up look by look: time in which this process stood still itself is no silence of the engine's.
        silence = 0.0
        while silence < _SILENCE_SECONDS:
            if (step := await steps.next(_LOOK_SECONDS)) is not None:
                return step
            wave.check()
            silence += _LOOK_SECONDS
            if wave.began and not self._seen_ours and silence > _TELLTALE_SECONDS:
                raise self._elsewhere()
        raise ProfilingError(
            f"engine {self._target.engine_id!r} has reported no step for {_SILENCE_SECONDS:.0f} s, while "
            "requests were waiting"
        )

    def _elsewhere(self) -> ProfilingError:
        return ProfilingError(
            f"--engine-url: requests that {self._target.url} answers are not in the steps of engine "
            f"{self._target.engine_id!r}: it is another engine"
        )

    async def _left_alone(self, steps: Steps) -> None:
        """Waits until the requests of the last wave have left the engine."""
        until = time.monotonic() + _SILENCE_SECONDS
        silence = _LEAVING_SECONDS
        steps.forget()
        while time.monotonic() < until:
            step = await steps.next(silence)
            if step is None or not step.labelled_requests:
                return
            silence = max(silence, _LEAVING_STEPS * (step.seconds or 0.0))
