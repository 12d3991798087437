"""The protocol's files and the code made from them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.buf import buf, needs_buf

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def protoc() -> Path:
    """The pinned toolchain, in an environment of its own: its protobuf is older than the engines'."""
    done = subprocess.run(
        ["make", "build/protoc/.ready", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ROOT / "build/protoc/bin/python"


def generate(protoc: Path, source: Path, out: Path) -> dict[str, bytes]:
    files = sorted(str(p.relative_to(source)) for p in source.glob("turbospec/v1/*.proto"))
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "pyi")]
    subprocess.run(
        [protoc, "-m", "grpc_tools.protoc", f"-I{source}", *outputs, *files], check=True, cwd=source
    )
    return {p.name: p.read_bytes() for p in (out / "turbospec/v1").iterdir()}


def test_generated_code_is_fresh(protoc: Path, tmp_path: Path) -> None:
    """The checked-in code is, byte for byte, what the pinned toolchain makes of the .proto files."""
    made = generate(protoc, ROOT / "proto", tmp_path)
    folder = ROOT / "proto/turbospec/v1"
    checked_in = {p.name: p.read_bytes() for p in folder.iterdir() if "_pb2" in p.name and p.is_file()}
    assert made == checked_in


def test_a_changed_protocol_is_noticed(protoc: Path, tmp_path: Path) -> None:
    """Negative control: one more field in the .proto files changes the generated code."""
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    shutil.copytree(ROOT / "proto", source)
    proto = source / "turbospec/v1/speculation.proto"
    proto.write_text(proto.read_text().replace("message Drain {", "message Drain {\n  uint32 more = 9;"))
    name = "speculation_pb2.py"
    assert generate(protoc, source, out)[name] != (ROOT / "proto/turbospec/v1" / name).read_bytes()


@needs_buf
def test_buf_lint() -> None:
    """The protocol is clean under buf's STANDARD rules."""
    buf("lint")


def test_every_field_is_documented() -> None:
    """Each message, field, enum value and call has a comment of its own right above it."""
    bare = []
    for path in (ROOT / "proto/turbospec/v1").glob("*.proto"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        for number, line in enumerate(lines):
            declares = line.endswith(";") and ("=" in line or line.startswith("rpc "))
            opens = line.startswith(("message ", "enum ", "service ", "oneof "))
            if (declares and not line.startswith(("syntax", "option"))) or opens:
                above = lines[number - 1]
                if not above.startswith("//"):
                    bare.append(f"{path.name}:{number + 1}: {line}")
    assert not bare
