"""How far it is and how long it takes: a bar on a terminal, a line for each load elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.plan import Load, PlannedCell


class VisitProgress:
    """Follows a survey; `save` is called after each visit.

    What is left is at most what is shown: cells that become known early are not visited any more.
    """

    def __init__(
        self, console: Console, measured: Measured, repeats: int, save: Callable[[Measured], None]
    ) -> None:
        self._console = console
        self._measured = measured
        self._repeats = repeats
        self._save = save
        self._done = 0
        self._began_at = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self._missing())

    def began(self, repeat: int, load: Load) -> None:
        """A load is about to be run."""
        if not self._console.is_terminal:
            where = f"visit {self._done + 1} of {self._done + self._missing()}, repeat {repeat}: {load}"
            self._console.print(f"{where}{self._left()}", markup=False, highlight=False, soft_wrap=True)

    def visiting(self, cell: PlannedCell) -> None:
        """A cell is about to be visited."""
        self._progress.update(self._task, description=f"{cell.load}, {cell.mode}{self._left()}")

    def visited(self, _cell: PlannedCell) -> None:
        """A cell was visited."""
        self._done += 1
        self._save(self._measured)
        self._progress.update(self._task, completed=self._done, total=self._done + self._missing())

    def _missing(self) -> int:
        return sum(self._measured.missing(cell, self._repeats) for cell in self._measured.planned)

    def _left(self) -> str:
        if not self._done:
            return ""
        seconds = (time.monotonic() - self._began_at) / self._done * self._missing()
        minutes = seconds / 60
        return f" (at most {minutes:.0f} min left)" if minutes >= 1 else f" (at most {seconds:.0f} s left)"

    def __enter__(self) -> VisitProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
