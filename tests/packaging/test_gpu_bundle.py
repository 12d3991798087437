"""The bundle for a GPU machine without network: what goes in comes out there, or it says what is wrong."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_SCRIPTS = Path(__file__).parents[2] / "benchmarks/gpu"
_PART_BYTES = 20_000


def _load(name: str) -> ModuleType:
    """A script of the bundle; they are no package, since some of them travel alone."""
    spec = importlib.util.spec_from_file_location(name, _SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scripts() -> Any:
    """`parts`, `thin`, `install`, `check`, `bundle`, as the modules that they are to each other."""
    names = ("parts", "thin", "install", "check", "bundle")
    loaded = {name: _load(name) for name in names}
    yield type("Scripts", (), loaded)
    for name in names:
        del sys.modules[name]


def _make_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A wheel with a module `name` beside `files`, and a RECORD that is true."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n".encode(),
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},"
        f"{len(data)}"
        for path, data in content.items()
    ]
    content[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return wheel


_NOISE = random.Random(7).randbytes(70_000)
_CONTENTS = {
    "python": ".".join(map(str, sys.version_info[:2])),
    "imports": ["bundled_engine", "bundled_helper"],
    "engine": {
        "requirement": "bundled-engine==1.0",
        "drop": ["bundled_engine/_fa2*", "bundled_engine/third_party/*"],
        "keep": ["bundled_engine/_fa3*"],
    },
}


@pytest.fixture
def bundle(tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of two small wheels, in several parts."""
    made = tmp_path / "made"
    made.mkdir()
    engine = _make_wheel(
        made,
        "bundled_engine",
        "1.0",
        {
            "bundled_engine/_fa2.so": b"large" * 999,
            "bundled_engine/_fa3.so": _NOISE,
            "bundled_engine/third_party/deep/x.py": b"",
        },
    )
    helper = _make_wheel(made, "bundled_helper", "0.3", {})
    monkeypatch.setattr(scripts.bundle, "PartWriter", lambda out: scripts.parts.PartWriter(out, _PART_BYTES))
    out = tmp_path / "bundle"
    out.mkdir()
    wheels = [scripts.bundle.thinned(wheel, _CONTENTS, tmp_path) for wheel in (engine, helper)]
    scripts.bundle.pack(wheels, _CONTENTS, out)
    return out


def test_parts_hold_what_was_written(tmp_path: Path, scripts: Any) -> None:
    """Whatever the sizes of writes, parts have the limit's size, and joined they are the stream."""
    with scripts.parts.PartWriter(tmp_path, 1000) as writer:
        for start in range(0, 10_500, 700):
            writer.write(_NOISE[start : start + 700])
    assert [part["bytes"] for part in writer.parts] == [1000] * 10 + [500]
    assert [part["name"] for part in writer.parts][:2] == ["part-000", "part-001"]
    files = scripts.install.check_parts(tmp_path, {"parts": writer.parts})
    assert b"".join(file.read_bytes() for file in files) == _NOISE[:10_500]
    with scripts.install.Joined(files) as joined:
        assert joined.read() == _NOISE[:10_500]


def test_a_stream_that_ends_with_a_part_makes_no_empty_one(tmp_path: Path, scripts: Any) -> None:
    """The number of parts is what the limit asks for."""
    with scripts.parts.PartWriter(tmp_path, 500) as writer:
        writer.write(_NOISE[:1000])
    assert [part["bytes"] for part in writer.parts] == [500, 500]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_thinned_wheel_has_a_true_record(tmp_path: Path, scripts: Any) -> None:
    """What is dropped is gone from files and RECORD, what is kept is unchanged."""
    wheel = _make_wheel(tmp_path, "some", "1", {"some/big.so": b"b" * 99, "some/small.so": b"s"})
    target = tmp_path / "thin.whl"
    assert scripts.thin.thin(wheel, target, drop=["some/big*"], keep=["some/small*"]) == ["some/big.so"]
    with zipfile.ZipFile(target) as archive:
        names = set(archive.namelist())
        record = archive.read("some-1.dist-info/RECORD").decode()
        assert archive.read("some/small.so") == b"s"
    assert "some/big.so" not in names
    assert {row.split(",")[0] for row in record.splitlines()} == names


@pytest.mark.parametrize(
    ("drop", "keep", "message"),
    [
        (["some/none*"], [], "no file that matches 'some/none"),
        ([], ["some/none*"], "no file that matches 'some/none"),
        (["some/*"], ["some/small*"], "is to be kept, and dropped"),
    ],
)
def test_another_wheel_than_expected_is_refused(
    tmp_path: Path, scripts: Any, drop: list[str], keep: list[str], message: str
) -> None:
    """Patterns that match nothing, or that contradict each other, are errors: the version has changed."""
    wheel = _make_wheel(tmp_path, "some", "1", {"some/small.so": b"s"})
    with pytest.raises(scripts.thin.ThinningError, match=message):
        scripts.thin.thin(wheel, tmp_path / "thin.whl", drop=drop, keep=keep)


def test_the_bundle_is_small_parts_with_what_installs_them(bundle: Path) -> None:
    """No part is above the limit, and everything that is needed there lies beside them."""
    parts = sorted(bundle.glob("part-*"))
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) == _PART_BYTES
    assert {path.name for path in bundle.iterdir() if path not in parts} == {
        "manifest.json",
        "install.py",
        "check.py",
    }


def test_missing_and_damaged_parts_are_all_named(bundle: Path, scripts: Any) -> None:
    """Somebody who copies parts one by one learns which are missing, and nothing is installed before."""
    (bundle / "part-000").unlink()
    damaged = bytearray((bundle / "part-001").read_bytes())
    damaged[100] ^= 1
    (bundle / "part-001").write_bytes(damaged)
    (bundle / "part-002").write_bytes(b"short")
    manifest = scripts.install.read_manifest(bundle)
    with pytest.raises(scripts.install.BundleError) as caught:
        scripts.install.check_parts(bundle, manifest)
    assert str(caught.value) == "missing: part-000; damaged: part-001, part-002"
    assert scripts.install.main(bundle) == 1


def test_a_wheel_that_is_not_the_manifests_is_refused(bundle: Path, scripts: Any, tmp_path: Path) -> None:
    """Parts of two bundles do not mix, even where each part is whole."""
    manifest = scripts.install.read_manifest(bundle)
    manifest["wheels"][1]["sha256"] = "0" * 64
    parts = scripts.install.check_parts(bundle, manifest)
    with pytest.raises(scripts.install.BundleError, match="bundled_helper"):
        scripts.install.unpack(parts, manifest, tmp_path / "unpacked")


def test_it_installs_where_there_is_nothing(bundle: Path, tmp_path: Path) -> None:
    """In a bare environment without network: wheels are installed; the check says what is missing."""
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=True)
    python = bare / "bin/python"
    ended = subprocess.run(
        [python, bundle / "install.py"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_NO_INPUT": "1"},
        timeout=400,
        check=False,
    )
    lines = ended.stdout.splitlines()
    assert "ok   import bundled_engine: 1.0" in lines, ended.stdout + ended.stderr
    assert "ok   import bundled_helper: 0.3" in lines
    assert any(line.startswith("MISS CUDA: ModuleNotFoundError") for line in lines)
    assert any(line.startswith("MISS vLLM's command: ModuleNotFoundError") for line in lines)
    assert any(line.startswith("MISS adapter's hooks") for line in lines)
    assert ended.returncode == 1
    site = next(bare.glob("lib/python*/site-packages"))
    assert (site / "bundled_engine/_fa3.so").read_bytes() == _NOISE
    assert not (site / "bundled_engine/_fa2.so").exists()
    assert not [path for path in bundle.iterdir() if path.is_dir()], "scratch is left behind"


def test_a_machine_without_a_compiler_is_told_so(
    tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are compiled when they first run: without compiler or headers that would end an engine."""
    programs, headers = tmp_path / "bin", tmp_path / "include"
    for folder in (programs, headers):
        folder.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(scripts.check.sysconfig, "get_path", lambda _: str(headers))
    assert scripts.check._compiler()[0] is False
    assert scripts.check._program("gcc") == (False, "not in PATH")
    (programs / "gcc").touch(0o755)
    assert scripts.check._compiler() == (False, f"{headers / 'Python.h'} is missing")
    (headers / "Python.h").touch()
    assert scripts.check._compiler()[0] is True
    monkeypatch.setenv("CC", "another")
    assert scripts.check._compiler()[0] is False


def test_the_contents_file_is_complete() -> None:
    """Every wheel is pinned, and every platform is one that pip knows."""
    import tomllib

    contents = tomllib.loads((_SCRIPTS / "contents.toml").read_text())
    assert {"python", "platforms", "imports", "engine", "wheels"} == contents.keys()
    for requirement in (contents["engine"]["requirement"], *contents["wheels"]):
        name, equals, version = requirement.partition("==")
        assert name, requirement
        assert equals, requirement
        assert version, requirement
    assert len({w.partition("==")[0] for w in contents["wheels"]}) == len(contents["wheels"])
    assert all(platform.endswith("x86_64") for platform in contents["platforms"])


def test_downloads_are_recognised_by_version(tmp_path: Path, scripts: Any) -> None:
    """A second run downloads only what is missing; another version is not taken for the wanted one."""
    _make_wheel(tmp_path, "bundled_helper", "0.3", {})
    assert scripts.bundle._downloaded("bundled-helper==0.3", tmp_path)
    assert not scripts.bundle._downloaded("bundled-helper==0.4", tmp_path)
    assert not scripts.bundle._downloaded("bundled==0.3", tmp_path)


def test_the_manifest_is_plain_json(bundle: Path) -> None:
    """Whoever copies the parts can read what they are."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["format"] == "turbospec.gpu_bundle"
    assert [wheel["name"].split("-")[0] for wheel in manifest["wheels"]] == [
        "bundled_engine",
        "bundled_helper",
    ]
