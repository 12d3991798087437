"""Costs outlive controllers: engines start from the profile of their kind, and leave theirs behind."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime

from turbospec.adapters.version import __version__
from turbospec.sidecar.core.types import CostCell
from turbospec.sidecar.profiles.key import key_of
from turbospec.sidecar.profiles.profile import Cell, Profile, ProfileError, Source
from turbospec.sidecar.profiles.store import Match, Store, StoreError
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.engine import Engine
from turbospec.sidecar.server.identity import Hello

KEEP_INTERVAL_SECONDS = 60.0
# Below this a profile would say less than the prior that it replaces.
LEAST_STEPS = 100


class ProfileKeeper:
    """Reads and writes the store for engines. Files are read and written in threads: engines do not wait."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._log = logs.get()
        # Of each profile, how many steps it held when it was written last.
        self._kept: dict[str, int] = {}

    async def find(self, hello: Hello) -> Match | None:
        """What is known of engines of this kind."""
        if self._store is None:
            return None
        return await asyncio.to_thread(self._store.find, key_of(hello.identity, hello.capabilities))

    async def keep(self, engine: Engine) -> None:
        """Writes what an engine's ordinary steps took, unless there is little new, or a better profile."""
        if self._store is None:
            return
        cells = tuple(_as_kept(cell) for cell in engine.controller.cost_cells())
        key = key_of(engine.hello.identity, engine.hello.capabilities)
        steps = sum(cell.steps for cell in cells)
        if steps - self._kept.get(key.profile_id, 0) < LEAST_STEPS:
            return
        unique = {cell.coordinates: cell for cell in cells}
        profile = Profile(key, datetime.now(UTC), __version__, Source.ONLINE, tuple(unique.values()))
        try:
            await asyncio.to_thread(_put, self._store, profile)
        except (StoreError, ProfileError) as error:
            self._log.warning("profile.not_kept", engine=str(engine.key), error=str(error))
        self._kept[key.profile_id] = steps


def start_from(engine: Engine, match: Match) -> None:
    """Gives a new engine's controller the costs of `match`."""
    profile = match.profile
    cells = tuple(as_cost(cell) for cell in profile.cells if _decodes(cell))
    if not cells:
        return
    engine.controller.start_from(cells, same_engine=not match.is_prior)
    engine.started_from = match
    logs.get(engine=str(engine.key)).info(
        "profile.used",
        profile=profile.key.profile_id,
        source=profile.source.value,
        cells=len(cells),
        prior=match.is_prior,
        **({"differs_in": list(match.differing)} if match.is_prior else {}),
    )


def _put(store: Store, profile: Profile) -> None:
    # A sweep has visited what ordinary traffic does not.
    known = store.get(profile.key.profile_id)
    if known is None or known.source is not Source.SWEEP:
        store.put(profile)


def _decodes(cell: Cell) -> bool:
    """Whether all requests decode: each computes a token at least, besides those of prompts."""
    return cell.target_tokens - cell.prefill_tokens >= cell.requests


def _as_kept(cell: CostCell) -> Cell:
    fields = asdict(cell)
    prefill = fields.pop("prompt_tokens")
    return Cell(**fields | {"target_tokens": cell.target_tokens + prefill, "prefill_tokens": prefill})


def as_cost(cell: Cell) -> CostCell:
    """A cell as the cost model takes it, which counts prompts apart."""
    return CostCell(
        requests=cell.requests,
        target_tokens=cell.target_tokens - cell.prefill_tokens,
        context_tokens=cell.context_tokens,
        proposal_length=cell.proposal_length,
        ragged=cell.ragged,
        drafter_skipped=cell.drafter_skipped,
        steps=cell.steps,
        seconds=cell.seconds,
        spread_seconds=cell.spread_seconds,
        prompt_tokens=cell.prefill_tokens,
    )
