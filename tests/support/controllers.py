"""Starts controllers as processes and stops them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


class ControllerProcess:
    """A scripted controller (`support/controller.py`) at `address`."""

    def __init__(self, address: str, behaviour: str, journal: Path) -> None:
        self._journal = journal
        served = len(self.received("serving"))
        script = Path(__file__).with_name("controller.py")
        roots = os.pathsep.join(str(_ROOT / root) for root in ("proto", "sidecar", "adapters", "engines"))
        self.process = subprocess.Popen(
            [sys.executable, str(script), address, behaviour, str(journal)],
            env={**os.environ, "PYTHONPATH": roots},
        )
        deadline = time.monotonic() + 20
        while len(self.received("serving")) == served:
            assert self.process.poll() is None, "the controller did not start"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def received(self, kind: str) -> list[dict[str, Any]]:
        """What it wrote down so far, oldest first."""
        if not self._journal.exists():
            return []
        # The last piece may be half a line.
        lines = self._journal.read_text().split("\n")[:-1]
        return [entry["content"] for entry in map(json.loads, lines) if entry["kind"] == kind]

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
