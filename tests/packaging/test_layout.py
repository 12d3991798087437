"""The layout that the project promises its readers, held by looking at the tree."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("proto", "sidecar", "adapters", "engines")
MOST_LINES = 400


def modules(*folders: str) -> list[Path]:
    """Hand-written modules below the folders."""
    found = [p for f in folders for p in (ROOT / f).rglob("*.py") if "_pb2" not in p.name]
    assert found, f"no modules below {folders}"
    return found


def imported(module: Path) -> set[str]:
    """Full names of all that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where a thing lives"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def test_no_init_file_breaks_the_namespace() -> None:
    """`turbospec` stays a namespace package: one stray __init__.py would hide the other roots."""
    assert not [p for root in SOURCE_ROOTS for p in (ROOT / root).glob("turbospec/__init__.py")]
    assert not [p for root in SOURCE_ROOTS for p in (ROOT / root).glob("__init__.py")]


def test_modules_are_short() -> None:
    """No module is longer than a reader can hold in the head."""
    long = {
        str(p.relative_to(ROOT)): n
        for p in modules(*SOURCE_ROOTS, "tests")
        if (n := len(p.read_text().splitlines())) > MOST_LINES
    }
    assert not long


ADAPTER_NEEDS = ("grpc", "google", "turbospec.v1", "turbospec.adapters")
ENGINES = ("vllm", "sglang")


def test_adapters_depend_on_nothing_an_engine_lacks() -> None:
    """Adapters import the standard library, grpcio, protobuf and their own engine, nothing else."""
    for module in modules("adapters"):
        engine = module.relative_to(ROOT / "adapters/turbospec/adapters").parts[0]
        allowed = (*ADAPTER_NEEDS, engine, "numpy", "torch") if engine in ENGINES else ADAPTER_NEEDS
        for name in imported(module) - {"turbospec"}:
            known = name.split(".")[0] in sys.stdlib_module_names
            ours = any(f"{name}.".startswith(f"{package}.") for package in allowed)
            assert known or ours, f"{module.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("folder", ["sidecar", "adapters"])
def test_nothing_depends_on_the_engines_package(folder: str) -> None:
    """The launchers and the command line may import everything; nothing imports them."""
    for module in modules(folder):
        upward = {n for n in imported(module) if n.startswith(("turbospec.engines", "turbospec.cli"))}
        assert not upward, f"{module.relative_to(ROOT)} imports {upward}"
