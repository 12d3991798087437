"""A wheel without some of its files."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

_COPY_BYTES = 1 << 20


class ThinningError(ValueError):
    """A wheel is not what the patterns expect."""


def thin(wheel: Path, target: Path, *, drop: Sequence[str], keep: Sequence[str]) -> list[str]:
    """Writes `wheel` to `target` without the files that match a pattern of `drop`; their names.

    Patterns are those of fnmatch, over whole paths. What is left is stored, not compressed: the bundle is
    compressed as a whole. RECORD is written anew, so that pip installs and uninstalls what is there.
    Raises ThinningError where a pattern of `drop` or `keep` matches nothing, or where `keep` matches what
    `drop` takes: the wheel is then another than the patterns were made for.
    """
    with zipfile.ZipFile(wheel) as source:
        names = [info.filename for info in source.infolist()]
        for pattern in (*drop, *keep):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ThinningError(f"{wheel.name} has no file that matches {pattern!r}")
        dropped = {name for name in names if _matches(name, drop)}
        if lost := sorted(name for name in dropped if _matches(name, keep)):
            raise ThinningError(f"{wheel.name}: {lost[0]} is to be kept, and dropped")
        (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
            for info in source.infolist():
                if info.filename in dropped or info.is_dir():
                    continue
                if info.filename == record:
                    text = _without(source.read(info).decode(), dropped)
                    written.writestr(_like(info), text)
                    continue
                with source.open(info) as origin, written.open(_like(info), "w", force_zip64=True) as copy:
                    while data := origin.read(_COPY_BYTES):
                        copy.write(data)
    return sorted(dropped)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _like(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The same name, time and mode, stored."""
    made = zipfile.ZipInfo(info.filename, info.date_time)
    made.external_attr = info.external_attr
    return made


def _without(record: str, dropped: set[str]) -> str:
    rows = [row for row in csv.reader(record.splitlines()) if row and row[0] not in dropped]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
