"""What makes a test's surroundings the same everywhere."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, so that a test that passes goes on passing; generating them may take a
# busy machine as long as it likes.
settings.register_profile(
    "turbospec", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("turbospec")


def pytest_configure(config: pytest.Config) -> None:
    """Before the first test, and in pytest-xdist's workers too: what tests and their processes inherit."""
    # Started in the background, a shell's child ignores these, and so would every process of a test.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    for name in [name for name in os.environ if name.startswith("TURBOSPEC_") or name == "FORCE_COLOR"]:
        del os.environ[name]
    # Servers under test are this machine's own, whatever proxy leads to the package index.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))
    # A socket's path has at most 107 bytes, and pytest's own folder begins with TMPDIR and the user's name.
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="ts-", dir="/tmp")
        config.stash[_OWN_FOLDER] = Path(config.option.basetemp)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What failed can be looked at; what passed is not left behind."""
    folder = session.config.stash.get(_OWN_FOLDER, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)


_OWN_FOLDER = pytest.StashKey[Path]()
