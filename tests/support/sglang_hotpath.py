"""A short `turbospec bench hotpath --engine sglang` in a process of its own: SETTINGS NOTES.

NOTES gets a JSON array: at each coming and going of the adapter whether it comes, and how many steps it has
reported so far.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from turbospec.engines.bench.hotpath import process, sglang, worker
from turbospec.engines.bench.hotpath.plan import SGLANG, STAGES, Cell, Stage

STEPS = 12


class Noted(sglang.Engine):
    """Notes what `set_adapter` is told."""

    notes: list[tuple[bool, int]] = []

    def set_adapter(self, present: bool) -> None:
        client = self.control._controller
        with client._lock:
            reported = client._backlog.sequence + len(client._exchange.queue)
        self.notes.append((present, reported))
        super().set_adapter(present)


if __name__ == "__main__":
    STAGES[SGLANG] = (Stage("tiny", 512, STEPS, (Cell(2, 2 * STEPS, dilation=True),)),)  # type: ignore[index]
    worker.BLOCKS = 4
    process.ENGINES[SGLANG] = Noted  # type: ignore[index]
    status = process.main(SGLANG, sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps(Noted.notes))
    sys.exit(status)
