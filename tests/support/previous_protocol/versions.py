"""Both versions of both sides, as processes, and a version that is broken on purpose."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from support.patience import wait_until
from support.serving import SOURCE_ROOTS, environment

FOLDER = Path(__file__).parent
FIRST = FOLDER / "first.zip"
_GENERATED = "turbospec/v1/speculation_pb2.py"

# What `PYTHONPATH` must be for a version.
PREVIOUS = os.pathsep.join(f"{FIRST}/{root}" for root in ("proto", "sidecar", "adapters", "engines"))
PRESENT = SOURCE_ROOTS


class EngineProcess:
    """`engine.py` under the version of `roots`, until the `with` block is left."""

    def __init__(
        self,
        roots: str,
        address: str,
        engine_id: str,
        directory: Path,
        *,
        protocol_version: int | None = None,
    ) -> None:
        self.engine_id = engine_id
        self._state = directory / f"{engine_id}.json"
        self._log = directory / f"{engine_id}.log"
        said = [] if protocol_version is None else [str(protocol_version)]
        command = [sys.executable, str(FOLDER / "engine.py"), address, engine_id, str(self._state), *said]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, env=environment({"PYTHONPATH": roots}), stderr=log)
        wait_until(lambda: self._state.exists() or self._process.poll() is not None, "making steps")

    def state(self) -> dict[str, Any]:
        """What `engine.py` wrote last. It makes steps all the while, whatever its controller does."""
        assert self._process.poll() is None, f"the engine ended:\n{self.log()}"
        return dict(json.loads(self._state.read_text()))

    def log(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def first_source() -> str:
    """The generated code of the hot protocol's first state."""
    with zipfile.ZipFile(FIRST) as archive:
        return archive.read(f"proto/{_GENERATED}").decode()


def first_messages() -> FileDescriptorProto:
    """The hot protocol's first state, read from its generated code, which cannot be loaded beside today's."""
    return FileDescriptorProto.FromString(_serialized(first_source()).value)


def renumbered(directory: Path, message: str, field: str) -> str:
    """Roots of the previous version with a field of another number, as no version may have it."""
    source = first_source()
    found = first_messages()
    (declared,) = (
        each for of in found.message_type if of.name == message for each in of.field if each.name == field
    )
    declared.number += 100
    literal = ast.get_source_segment(source, _serialized(source))
    assert literal is not None
    path = directory / _GENERATED
    path.parent.mkdir(parents=True)
    path.write_text(source.replace(literal, repr(found.SerializeToString())))
    return os.pathsep.join((str(directory), PREVIOUS))


def _serialized(source: str) -> ast.Constant:
    (literal,) = (
        node.args[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile"
    )
    assert isinstance(literal, ast.Constant)
    return literal
