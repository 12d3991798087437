"""Files that are written whole or not at all, by several processes at once."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o640
PART_SUFFIX = ".part"


def write(path: Path, data: bytes) -> None:
    """Puts `data` at `path` at once: who reads finds the old content or the new, also after a loss of power.

    Raises OSError: the old content stands or, where only flushing the directory failed, the new.
    """
    # In the same directory, for a rename is at once only within a file system.
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, FILE_MODE)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    # The rename is an entry of the directory, which is written to disk on its own.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """The content, of which at most `most` + 1 bytes, and which file it was. Raises OSError."""
    # Should somebody have put a pipe there, opening it would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most + 1), found
    finally:
        os.close(descriptor)


def set_aside(path: Path, found: os.stat_result) -> Path | None:
    """Renames what was `found` at `path`, and returns its new path; None: another process was faster.

    Nothing is deleted: the new name is one that nobody has. Raises OSError.
    """
    try:
        now = os.stat(path)
        # Somebody may have put a good file there meanwhile. Between this look and the rename it can still
        # happen; then that file is set aside, which costs a measurement and no more.
        if (now.st_ino, now.st_mtime_ns) != (found.st_ino, found.st_mtime_ns):
            return None
        aside = path.with_name(f"{path.name}.set-aside-{secrets.token_hex(4)}")
        os.rename(path, aside)
    except FileNotFoundError:
        return None
    return aside


def remove_parts(written: Path, older_by: float) -> None:
    """Removes what killed writers left beside a file just written: parts `older_by` so many seconds.

    By the file system's own times, which are the same for all who share it.
    """
    with suppress(OSError):  # another process may be faster, and a part costs only space
        newest = written.stat().st_mtime
        for part in written.parent.glob(f".*{PART_SUFFIX}"):
            if part.stat().st_mtime < newest - older_by:
                part.unlink()
