"""Made profiles, and a store that remembers what it warned of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from turbospec.sidecar.profiles.key import ProfileKey
from turbospec.sidecar.profiles.profile import Cell, Profile, Source
from turbospec.sidecar.profiles.store import Store


def key(**changes: Any) -> ProfileKey:
    """An engine's key, with changes."""
    fields: dict[str, Any] = {
        "hardware": "NVIDIA H200",
        "engine_name": "vllm",
        "engine_version": "0.32.0",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "draft_model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B",
        "method": "eagle3",
        "dtype": "bfloat16",
        "model_parallel_size": 1,
        "max_length": 5,
        "graph_sizes": (1, 2, 4, 8, 16, 32),
        "ragged_breaks_graphs": True,
        "deep_off": True,
        "proposal_saves_draft_cost": True,
    }
    return ProfileKey(**fields | changes)


def cell(requests: int = 4, proposal_length: int = 3, **changes: Any) -> Cell:
    """A cell in which every request carries its whole proposal, with changes."""
    fields: dict[str, Any] = {
        "requests": requests,
        "target_tokens": requests * (1 + proposal_length),
        "context_tokens": 512 * requests,
        "prefill_tokens": 0,
        "proposal_length": proposal_length,
        "ragged": False,
        "drafter_skipped": False,
        "steps": 20,
        "seconds": 0.01 + 0.0003 * requests * (1 + proposal_length),
        "spread_seconds": 0.0004,
    }
    return Cell(**fields | changes)


def profile(cells: tuple[Cell, ...] | None = None, **changes: Any) -> Profile:
    """A profile of 12 cells; `changes` are of its key, but for `measured_at` and `source`."""
    grid = tuple(cell(requests, length) for requests in (1, 4, 16) for length in (0, 1, 3, 5))
    return Profile(
        measured_at=changes.pop("measured_at", datetime(2026, 1, 31, 12, 0, tzinfo=UTC)),
        turbospec_version="0.1.0",
        source=changes.pop("source", Source.SWEEP),
        key=key(**changes),
        cells=grid if cells is None else cells,
    )


class Watched:
    """A store with its warnings, each as (event, context)."""

    def __init__(self, directory: Path) -> None:
        self.warnings: list[tuple[str, dict[str, str]]] = []
        self.store = Store(directory, lambda event, **context: self.warnings.append((event, context)))

    def only_file(self) -> Path:
        """The one document there is."""
        (path,) = self.store.directory.glob("*.profile.json")
        return path
