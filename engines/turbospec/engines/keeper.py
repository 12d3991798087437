"""Runs one command and takes it along when the process that asked for it is gone, however it went.

Started as `python -m turbospec.engines.keeper COMMAND…` in a session of its own, with standard input a
pipe whose other end only the asking process holds. That pipe closing is the one sign of its end that
even SIGKILL gives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

# An engine needs a few seconds to release its workers; after that it is stuck.
GRACE_SECONDS = 10.0


def main(argv: list[str]) -> int:
    """Runs `argv`; the exit status is the command's."""
    # A handler, not SIG_IGN: exec resets handlers, so the command itself still ends at SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_asker, args=(child,), daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


def _end_with_asker(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
