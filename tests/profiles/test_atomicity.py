"""Writers are killed in the middle, and readers read all the while: nobody ever sees half a profile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.patience import PATIENCE_SECONDS, wait_until
from support.profiles import Watched, cell, key, profile
from support.serving import environment
from turbospec.sidecar.profiles import document
from turbospec.sidecar.profiles.profile import Profile

# Writes two contents in turn, until it is killed. `write` is the store's, or one that truncates and fills.
_WRITER = """
import sys
from pathlib import Path
from turbospec.sidecar.profiles import files
write = {"store": files.write, "in place": Path.write_bytes}[sys.argv[1]]
path = Path(sys.argv[2])
contents = [Path(name).read_bytes() for name in sys.argv[3:]]
while True:
    for content in contents:
        write(path, content)
"""

ROUNDS = 25
READS = 100


@pytest.fixture(scope="module")
def contents() -> tuple[Profile, Profile]:
    """Two large profiles of one key."""
    requests = range(1, 3001)
    first, second = ((cell(n, 3, seconds=seconds) for n in requests) for seconds in (0.01, 0.02))
    return profile(tuple(first)), profile(tuple(second))


class Volume:
    """A store with the first of two contents, and processes that write both in turn."""

    def __init__(self, folder: Path, contents: tuple[Profile, Profile]) -> None:
        self.watched = Watched(folder / "profiles")
        self.watched.store.put(contents[0])
        self.path = self.watched.only_file()
        self.contents = contents
        self._documents = [document.dumps(content) for content in contents]
        self._sources = [folder / "first", folder / "second"]
        for source, data in zip(self._sources, self._documents, strict=True):
            source.write_bytes(data)

    def writing(self, writer: str) -> subprocess.Popen[bytes]:
        """A process that writes, and has begun."""
        before = self.path.stat().st_mtime_ns
        command = [sys.executable, "-B", "-c", _WRITER, writer, str(self.path), *map(str, self._sources)]
        process = subprocess.Popen(command, env=environment())
        wait_until(lambda: self.path.stat().st_mtime_ns != before, "written")
        return process

    def torn(self) -> bool:
        """Whether a reader sees something else than one of the contents."""
        return self.path.read_bytes() not in self._documents

    def holds_a_content(self) -> bool:
        """What the store finds, without complaint."""
        match = self.watched.store.find(key())
        return match is not None and match.profile in self.contents and not self.watched.warnings


def torn_by_kills(volume: Volume, writer: str, *, rounds: int, reads: int) -> bool:
    """Whether a reader saw a torn file: in `reads` looks while a writer wrote, or after it was killed."""
    for _ in range(rounds):
        process = volume.writing(writer)
        try:
            if any(volume.torn() for _ in range(reads)):
                return True
        finally:
            process.kill()
            process.wait(PATIENCE_SECONDS)
        if volume.torn():
            return True
    return False


def test_killed_writers_leave_whole_profiles(tmp_path: Path, contents: tuple[Profile, Profile]) -> None:
    """SIGKILL at any moment, again and again."""
    volume = Volume(tmp_path, contents)
    assert not torn_by_kills(volume, "store", rounds=ROUNDS, reads=READS)
    assert volume.holds_a_content()


@pytest.mark.parametrize("reads", [0, READS], ids=["by the kill", "by readers"])
def test_a_writer_that_is_not_atomic_is_caught(
    reads: int, tmp_path: Path, contents: tuple[Profile, Profile]
) -> None:
    """Negative control: truncating the file and filling it again is seen, after a kill and while it lasts."""
    volume = Volume(tmp_path, contents)
    assert torn_by_kills(volume, "in place", rounds=50 * ROUNDS, reads=reads)


_KILLED_BEFORE_RENAME = """
import os, sys
from pathlib import Path
from turbospec.sidecar.profiles import files
os.replace = lambda *_: os.kill(os.getpid(), 9)
files.write(Path(sys.argv[1]), b"new")
"""


def test_a_killed_writers_part_is_removed_later(tmp_path: Path) -> None:
    """Killed between writing and renaming: the old profile stands, and a later write clears what is left."""
    watched = Watched(tmp_path)
    watched.store.put(profile())
    path = watched.only_file()
    command = [sys.executable, "-B", "-c", _KILLED_BEFORE_RENAME, str(path)]
    done = subprocess.run(command, env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    (part,) = tmp_path.glob(".*.part")
    assert part.read_bytes() == b"new"
    assert watched.store.get(key().profile_id) == profile()
    watched.store.put(profile())
    assert part.exists()  # it could be a living writer's
    two_hours_ago = time.time() - 7200
    os.utime(part, (two_hours_ago, two_hours_ago))
    watched.store.put(profile())
    assert list(tmp_path.iterdir()) == [path]


def test_several_writers_share_a_volume(tmp_path: Path, contents: tuple[Profile, Profile]) -> None:
    """Three processes write the same key at once; what is found is always one of their profiles, whole."""
    volume = Volume(tmp_path, contents)
    writers = [volume.writing("store") for _ in range(3)]
    try:
        assert not any(volume.torn() for _ in range(3 * READS))
        assert all(volume.holds_a_content() for _ in range(5))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(PATIENCE_SECONDS)
