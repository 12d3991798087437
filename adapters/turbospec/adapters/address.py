"""Where the controller listens, and how an address is written.

An address is `unix:/absolute/path`, `host:port` or `[ipv6]:port`: the forms that gRPC itself reads, and
no others, so that a typing mistake is found at the start and not as a name that never resolves.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

CONTROL_ADDRESS_VARIABLE = "TURBOSPEC_CONTROL_ADDRESS"
OPERATIONS_ADDRESS_VARIABLE = "TURBOSPEC_OPERATIONS_ADDRESS"
INTROSPECTION_ADDRESS_VARIABLE = "TURBOSPEC_INTROSPECTION_ADDRESS"

# sockaddr_un.sun_path holds 108 bytes on Linux, of which the last is the terminating zero.
_MAX_UNIX_PATH_BYTES = 107
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})", re.ASCII)


class AddressError(ValueError):
    """An address that no listener can have; the message names it and the forms that are valid."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. Either `path` is set (Unix socket), or `host` and `port` are."""

    path: str | None = None
    host: str = ""
    port: int = 0

    @property
    def target(self) -> str:
        """As gRPC wants it, for listening and for connecting."""
        return f"unix:{self.path}" if self.path is not None else f"{self._bracketed_host}:{self.port}"

    @property
    def is_unix(self) -> bool:
        return self.path is not None

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can reach it: a Unix socket or a loopback address."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def _bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_address(text: str) -> Address:
    """Reads an address. Raises `AddressError` for anything that is not one."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):  # gRPC also writes unix:///absolute/path
            path = path[2:]
        if not path.startswith("/"):
            raise AddressError(
                f"address {text!r}: the socket's path must be absolute, as in unix:/run/x.sock"
            )
        if len(os.fsencode(path)) > _MAX_UNIX_PATH_BYTES:
            raise AddressError(f"address {text!r}: a socket's path has at most {_MAX_UNIX_PATH_BYTES} bytes")
        return Address(path=path)
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise AddressError(f"address {text!r}: expected unix:/absolute/path, host:port or [ipv6]:port")
    port = int(match["port"])
    if port > 65535:
        raise AddressError(f"address {text!r}: the port is at most 65535")
    return Address(host=match["host"].strip("[]"), port=port)


def runtime_directory(environ: Mapping[str, str] = os.environ) -> PurePosixPath:
    """The folder that holds the sockets.

    `$XDG_RUNTIME_DIR/turbospec` where that is set, `/run/turbospec` for root, else
    `/tmp/turbospec-<uid>/turbospec`. Engine and controller find each other without settings when the same
    user runs both.
    """
    base = environ.get("XDG_RUNTIME_DIR")
    if not base:
        uid = os.getuid()
        base = "/run" if uid == 0 else f"/tmp/turbospec-{uid}"
    return PurePosixPath(base) / "turbospec"


def default_control_address(environ: Mapping[str, str] = os.environ) -> str:
    """Where adapters connect when nothing is set."""
    return f"unix:{runtime_directory(environ) / 'control.sock'}"


def default_operations_address(environ: Mapping[str, str] = os.environ) -> str:
    """Where mutating calls are taken when nothing is set: the socket's permissions are the credential."""
    return f"unix:{runtime_directory(environ) / 'operations.sock'}"


def default_introspection_address() -> str:
    """Where people look when nothing is set."""
    return "127.0.0.1:50052"


def control_address(environ: Mapping[str, str] = os.environ) -> str:
    """What `TURBOSPEC_CONTROL_ADDRESS` says, else the default."""
    return environ.get(CONTROL_ADDRESS_VARIABLE) or default_control_address(environ)


def operations_address(environ: Mapping[str, str] = os.environ) -> str:
    """What `TURBOSPEC_OPERATIONS_ADDRESS` says, else the default."""
    return environ.get(OPERATIONS_ADDRESS_VARIABLE) or default_operations_address(environ)


def introspection_address(environ: Mapping[str, str] = os.environ) -> str:
    """What `TURBOSPEC_INTROSPECTION_ADDRESS` says, else the default."""
    return environ.get(INTROSPECTION_ADDRESS_VARIABLE) or default_introspection_address()
