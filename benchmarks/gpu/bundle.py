"""Makes a bundle of all that the GPU benchmark needs on a machine without network.

    python benchmarks/gpu/bundle.py OUT [--wheel dist/turbospec-….whl]

OUT then holds parts of at most 55 MiB, their manifest, `install.py` and `check.py`: copy it there, as a whole
or part by part, and run `python install.py`. What goes in is in `contents.toml`. Needs Python's standard
library, pip and a package index. Downloads are kept in OUT/downloads for the next time, and not to be copied.
"""
# ruff: noqa: T201 - a script prints

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from parts import PartWriter
from thin import thin

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
# Higher presets take minutes more and save no part.
_XZ_PRESET = 1


def main(arguments: list[str] | None = None) -> int:
    """Makes the bundle; says what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the bundle's folder")
    parser.add_argument(
        "--wheel", type=Path, metavar="FILE", help="turbospec's wheel (default: that in dist/)"
    )
    args = parser.parse_args(arguments)
    contents = tomllib.loads((_HERE / "contents.toml").read_text())
    ours = args.wheel or built_wheel(_ROOT / "dist")
    downloads = args.out / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    download(contents, downloads)
    with tempfile.TemporaryDirectory(dir=args.out) as scratch:
        wheels = [ours]
        for wheel in sorted(downloads.glob("*.whl")):
            wheels.append(thinned(wheel, contents, Path(scratch)))
        manifest = pack(wheels, contents, args.out)
    total = sum(part["bytes"] for part in manifest["parts"])
    print(f"{len(wheels)} wheels, {total / 2**20:.0f} MiB in {len(manifest['parts'])} parts: {args.out}")
    return 0


def built_wheel(folder: Path) -> Path:
    """The one wheel of turbospec in `folder`. Exits where there is none, or more than one."""
    found = sorted(folder.glob("turbospec-*.whl"))
    if len(found) != 1:
        sys.exit(f"bundle.py: {len(found)} wheels of turbospec in {folder}, not 1: name one with --wheel")
    return found[0]


def download(contents: dict[str, Any], folder: Path) -> None:
    """Every wheel of the contents, unless it is in `folder` already. Raises CalledProcessError."""
    wanted = [contents["engine"]["requirement"], *contents["wheels"]]
    missing = [requirement for requirement in wanted if not _downloaded(requirement, folder)]
    if not missing:
        return
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", contents["python"], "--implementation", "cp", "--dest", str(folder)]
    for platform in contents["platforms"]:
        command += ["--platform", platform]
    subprocess.run([*command, *missing], check=True)


def thinned(wheel: Path, contents: dict[str, Any], scratch: Path) -> Path:
    """The wheel as it goes into the bundle: without the files that its package's thinning drops."""
    engine = contents["engine"]
    if not _is_of(wheel, engine["requirement"]):
        return wheel
    target = scratch / wheel.name
    dropped = thin(wheel, target, drop=engine["drop"], keep=engine["keep"])
    print(f"{wheel.name}: {len(dropped)} files left out")
    return target


def pack(wheels: list[Path], contents: dict[str, Any], out: Path) -> dict[str, Any]:
    """Writes parts, manifest, installer and self-check to `out`; the manifest."""
    for old in out.glob("part-*"):
        old.unlink()
    with (
        PartWriter(out) as writer,
        lzma.open(writer, "wb", preset=_XZ_PRESET) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        for wheel in wheels:
            archive.add(wheel, arcname=wheel.name, filter=_anonymous)
    manifest = {
        "format": "turbospec.gpu_bundle",
        "python": contents["python"],
        "imports": contents["imports"],
        "parts": writer.parts,
        "wheels": [{"name": wheel.name, "sha256": _sha256(wheel)} for wheel in wheels],
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for script in ("install.py", "check.py"):
        shutil.copy(_HERE / script, out / script)
    return manifest


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Equal wheels give equal parts."""
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _downloaded(requirement: str, folder: Path) -> bool:
    return any(_is_of(wheel, requirement) for wheel in folder.glob("*.whl"))


def _is_of(wheel: Path, requirement: str) -> bool:
    """Whether a wheel is the pinned version that a requirement names."""
    name, _, version = requirement.partition("==")
    found = wheel.name.split("-")
    return (found[0].lower().replace("_", "-"), found[1]) == (name.lower().replace("_", "-"), version)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
