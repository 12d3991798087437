"""Child processes that never outlive the one that started them, and waiting until they serve."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from turbospec.engines.keeper import GRACE_SECONDS

_TAIL_LINES = 25
_POLL_SECONDS = 0.1


class ProcessFailedError(Exception):
    """A child ended or did not become ready; the message holds the end of its log."""


class Child:
    """One command in a process group of its own, its output in a file."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Starts it with `environment` added to this process's."""
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "turbospec.engines.keeper", *argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def group(self) -> int:
        """Process group id of the command and all it starts."""
        return self._keeper.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Returns once `ready()` holds. Raises ProcessFailedError when the child ends or time is up."""
        end = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise self._failed(f"is not ready after {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def wait_done(self) -> None:
        """Returns once the command has ended well. Raises ProcessFailedError where it has not."""
        if status := self._keeper.wait():
            raise self._failed(f"ended with status {status}")

    def check(self) -> None:
        """Raises ProcessFailedError where the child has ended."""
        if (status := self._keeper.poll()) is not None:
            raise self._failed(f"ended with status {status}")

    def stop(self) -> None:
        """Ends the whole group: SIGTERM, and SIGKILL for what is left after a grace. May be repeated."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(GRACE_SECONDS)
        # The command may have left workers behind; its group exists as long as one of them does.
        self._signal(signal.SIGKILL)
        self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.group, number)

    def _failed(self, what: str) -> ProcessFailedError:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        tail = "\n".join("  " + line for line in lines)
        return ProcessFailedError(f"{self.name} {what}; the end of its log ({self.log}):\n{tail}")


class Children:
    """The children of a `with` block: all are ended with it, last started first.

    Their temporary files are removed with them: engines leave the sockets between their processes behind.
    """

    def __init__(self, logs: Path) -> None:
        """Logs go to the directory `logs`, one file per child."""
        self._logs = logs
        self._started: list[Child] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="turbospec-", ignore_cleanup_errors=True)

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Starts a command; `name` is for people and for its log file."""
        environment = {"TMPDIR": self._temporary.name, **environment}
        child = Child(name, argv, environment, self._logs / f"{name}.log")
        self._started.append(child)
        return child

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not interrupt the ending of children; should this process be killed
        # meanwhile, their keepers end them.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for child in reversed(self._started):
                child.stop()
            self._temporary.cleanup()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def responds(url: str) -> bool:
    """Whether an HTTP GET of `url` answers 200 within a second."""
    # Without a proxy: these are always this machine's own addresses.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A TCP port of the loopback interface that nothing used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
