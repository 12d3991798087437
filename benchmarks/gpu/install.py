"""Installs a bundle that `bundle.py` made, without network: `python install.py`, in the bundle's folder.

Needs this Python's standard library and pip, nothing else. Parts may come one after the other: it says
which are missing or damaged, and installs nothing until all are there. At the end it runs the bundle's
self-check, whose exit status it returns.
"""
# ruff: noqa: T201 - a script prints

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_READ_BYTES = 1 << 20


class BundleError(Exception):
    """The bundle is incomplete or damaged; the message names the files."""


class Joined(io.RawIOBase):
    """Parts, one after the other, as one file to read."""

    def __init__(self, parts: list[Path]) -> None:
        self._left = list(parts)
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._file is None:
                if not self._left:
                    return 0
                self._file = self._left.pop(0).open("rb")
            if count := self._file.readinto(buffer):
                return count
            self._file.close()
            self._file = None


def read_manifest(folder: Path) -> dict:
    """The bundle's contents. Raises BundleError where there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"manifest.json: {error}") from error
    if manifest.get("format") != "turbospec.gpu_bundle":
        raise BundleError("manifest.json is not a bundle's")
    return manifest


def check_parts(folder: Path, manifest: dict) -> list[Path]:
    """The parts' files, in order. Raises BundleError, naming all that are missing or damaged."""
    missing, damaged = [], []
    for part in manifest["parts"]:
        path = folder / part["name"]
        if not path.exists():
            missing.append(part["name"])
        elif path.stat().st_size != part["bytes"] or _sha256(path) != part["sha256"]:
            damaged.append(part["name"])
    problems = [
        f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("damaged", damaged)) if names
    ]
    if problems:
        raise BundleError("; ".join(problems))
    return [folder / part["name"] for part in manifest["parts"]]


def unpack(parts: list[Path], manifest: dict, target: Path) -> list[Path]:
    """The wheels of the bundle, in `target`. Raises BundleError where one is not the manifest's."""
    with tarfile.open(fileobj=io.BufferedReader(Joined(parts), _READ_BYTES), mode="r|xz") as archive:
        archive.extractall(target, filter="data")
    wheels = []
    for wheel in manifest["wheels"]:
        path = target / wheel["name"]
        if not path.exists() or _sha256(path) != wheel["sha256"]:
            raise BundleError(f"{wheel['name']} is not in the parts as the manifest says")
        wheels.append(path)
    return wheels


def install(wheels: list[Path]) -> None:
    """Into the environment of the Python that runs this. Raises CalledProcessError where pip fails."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--no-deps", "--no-cache-dir", "--no-compile", *map(str, wheels)], check=True)


def main(folder: Path) -> int:
    """Returns 0 where all is there and works; 1 where not, with the reasons printed."""
    try:
        manifest = read_manifest(folder)
        parts = check_parts(folder, manifest)
        print(f"{len(parts)} parts are there and whole", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wheels = unpack(parts, manifest, Path(scratch))
            install(wheels)
    except BundleError as error:
        print(f"install.py: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"install.py: pip ended with status {error.returncode}", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, str(folder / "check.py")], check=False).returncode


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
