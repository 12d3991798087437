"""Where the server listens: binding that neither takes a living server's place nor fails on a dead one's.

gRPC removes whatever socket is at a path before it binds there, and again when it stops. So a lock beside
the socket decides who may use the path, and it is taken first.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from turbospec.adapters.address import Address

_DIRECTORY_MODE = 0o750
# Without SO_REUSEPORT: with it a second server would share the port and silently get half of the engines.
TCP_OPTIONS = (("grpc.so_reuseport", 0),)


class ListenError(Exception):
    """An address cannot be listened on; the message names it, why, and what to do."""


@dataclass(slots=True)
class Bound:
    """An address that this process listens on. `lock` is held until the process ends or `release`."""

    address: Address
    inode: int | None = None
    lock: int | None = None

    def intact(self) -> bool:
        """Whether the socket's path still leads here. Always true for TCP."""
        if self.address.path is None:
            return True
        try:
            return os.stat(self.address.path).st_ino == self.inode
        except OSError:  # gone, or something on the way to it is
            return False

    def release(self) -> None:
        """Gives the path up. The lock's file stays: removing it would race with the next owner."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


def bind(server: grpc.aio.Server, address: Address, *, mode: int = 0o660) -> Bound:
    """Binds the server, and returns the address with the port that port 0 became.

    `mode` is a Unix socket's permissions. Raises `ListenError`.
    """
    if address.path is None:
        port = _add(server, address.target)
        return Bound(Address(host=address.host, port=port))
    path = Path(address.path)
    _make_directory(path.parent)
    lock = _take_lock(path)
    try:
        _remove_stale(path)
        # The permissions must hold from the first moment on, so they cannot be set after binding.
        before = os.umask(0o777 & ~mode)
        try:
            _add(server, address.target)
        finally:
            os.umask(before)
        return Bound(address, os.stat(path).st_ino, lock)
    except BaseException:
        os.close(lock)
        raise


def _add(server: grpc.aio.Server, target: str) -> int:
    try:
        return server.add_insecure_port(target)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {target}: {error}. Is another server there?") from error


def _make_directory(directory: Path) -> None:
    """Creates the folder for this user and group. One that exists is left as its owner made it."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=_DIRECTORY_MODE)
            directory.chmod(_DIRECTORY_MODE)  # whatever the umask took away
    except OSError as error:
        raise ListenError(f"cannot create {directory} for a socket: {error.strerror}") from error
    if not directory.is_dir():
        raise ListenError(f"{directory} is not a directory")


def _take_lock(path: Path) -> int:
    """Locks `path` for this process. The kernel frees the lock when the process ends, however it ends."""
    name = f"{path}.lock"
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise ListenError(f"cannot open {name}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise ListenError(
            f"another server (process {holder}) listens on unix:{path}; stop it or choose another address"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _remove_stale(path: Path) -> None:
    """Removes the socket that a killed server left. Whatever else is there is somebody's and stays."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{path} exists and is not a socket; remove it or choose another address")
    path.unlink()
