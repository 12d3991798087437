"""Starts controllers as processes and stops them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.patience import wait_until

_ROOT = Path(__file__).parents[2]


class ControllerProcess:
    """A scripted controller (`support/controller.py`) at `address`."""

    def __init__(self, address: str, behaviour: str, journal: Path) -> None:
        self._journal = journal
        if journal.exists():
            # A killed predecessor may have left half a line.
            written = journal.read_bytes()
            journal.write_bytes(written[: written.rfind(b"\n") + 1])
        served = len(self.received("serving"))
        script = Path(__file__).with_name("controller.py")
        roots = os.pathsep.join(str(_ROOT / root) for root in ("proto", "sidecar", "adapters", "engines"))
        self.process = subprocess.Popen(
            [sys.executable, str(script), address, behaviour, str(journal)],
            env={**os.environ, "PYTHONPATH": roots},
        )

        def serving() -> bool:
            assert self.process.poll() is None, "the controller did not start"
            return len(self.received("serving")) > served

        wait_until(serving, "serving")

    def received(self, kind: str) -> list[dict[str, Any]]:
        """What it wrote down so far, oldest first."""
        return [entry["content"] for entry in self._entries() if entry["kind"] == kind]

    def times(self, kind: str) -> list[float]:
        """When it wrote that down, in seconds of the monotonic clock."""
        return [entry["at"] for entry in self._entries() if entry["kind"] == kind]

    def _entries(self) -> list[dict[str, Any]]:
        if not self._journal.exists():
            return []
        # The last piece may be half a line.
        return [json.loads(line) for line in self._journal.read_text().split("\n")[:-1]]

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
