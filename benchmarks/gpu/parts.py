"""A stream of bytes as numbered files of limited size, each with its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import IO

MOST_BYTES = 55 * 1024 * 1024
"""Of one part: what may be carried at once is often limited to 64 MiB, and more must fit in beside it."""


class PartWriter:
    """Writes `part-000`, `part-001`, … into a folder; use it in a `with` block, as tarfile's `fileobj`."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.parts: list[dict[str, str | int]] = []
        """Name, bytes and SHA-256 of each part; complete after the `with` block."""
        self._folder = folder
        self._most = most_bytes
        self._file: IO[bytes] | None = None
        self._bytes = 0
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Appends; begins another part where one is full."""
        view = memoryview(data)
        while view:
            if self._file is None:
                self._begin()
            assert self._file is not None
            piece = view[: self._most - self._bytes]
            self._file.write(piece)
            self._digest.update(piece)
            self._bytes += len(piece)
            view = view[len(piece) :]
            if self._bytes == self._most:
                self._end()
        return len(data)

    def _begin(self) -> None:
        self._file = (self._folder / f"part-{len(self.parts):03d}").open("wb")
        self._bytes = 0
        self._digest = hashlib.sha256()

    def _end(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self.parts.append(
            {"name": Path(self._file.name).name, "bytes": self._bytes, "sha256": self._digest.hexdigest()}
        )
        self._file = None

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
