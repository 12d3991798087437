"""Progress: a bar on a terminal, one line per step elsewhere."""

from __future__ import annotations

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


class Display:
    """Says what goes on. `steps` is how many times `begin` will be called."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._begun = 0
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
        self._task = self._progress.add_task("", total=steps)

    def begin(self, what: str) -> None:
        """A step begins; the one before has ended."""
        self._progress.update(self._task, completed=self._begun, description=what)
        self._begun += 1
        if not self._console.is_terminal:
            self.say(f"[{self._begun}/{self._steps}] {what}")

    def detail(self, what: str) -> None:
        """Another name for the step that goes on, where there is a terminal to show it."""
        self._progress.update(self._task, description=what)

    def say(self, text: str) -> None:
        """A line that stays."""
        # Text, not markup; and commands must stay in one line to be copied.
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
