"""The control core is a pure function of its observations."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import turbospec.sidecar.core.types as core_types

CORE = Path(core_types.__file__).parent
MODULES = sorted(CORE.rglob("*.py"))
IMPURE = {
    "asyncio", "datetime", "google", "grpc", "logging", "os", "random", "secrets", "socket", "structlog",
    "subprocess", "threading", "time",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_the_core_was_found() -> None:
    """The checks below look at something."""
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_no_clock_no_threads_no_wire(path: Path) -> None:
    """No module of the core imports a clock, threads, logging, gRPC or protobuf, nor the server."""
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & IMPURE
    for name in names:
        if name.startswith("turbospec"):
            assert name.startswith("turbospec.sidecar.core")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_randomness_has_a_seed(path: Path) -> None:
    """The only randomness is numpy's generator, made from an explicit seed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr == "default_rng"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
            assert node.args, "default_rng without a seed"
