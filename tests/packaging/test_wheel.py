"""The built wheel, as a user installs it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The oldest versions that pyproject.toml allows, which are also those the generated code was made with.
FLOORS = ["grpcio==1.71.2", "protobuf==5.29.6"]


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that `make setup` built."""
    wheels = list((ROOT / "dist").glob("turbospec-*.whl"))
    assert len(wheels) == 1, f"run `make setup` first; found {wheels}"
    return wheels[0]


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the base install at its floors: what an engine's image gets."""
    venv = tmp_path_factory.mktemp("base") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([venv / "bin/python", "-m", "pip", "install", "-q", *FLOORS, wheel], check=True)
    return venv / "bin"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    """Everything installed is below `turbospec/`, and is byte for byte what the sources say now."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {n for n in archive.namelist() if not n.split("/")[0].endswith(".dist-info")}
        assert {n.split("/")[0] for n in inside} == {"turbospec"}
        for root in ("proto", "sidecar", "adapters", "engines"):
            for source in (ROOT / root / "turbospec").rglob("*.py"):
                name = str(source.relative_to(ROOT / root))
                assert name in inside, f"{name} is not in the wheel; run `make setup`"
                assert archive.read(name) == source.read_bytes(), f"{name} is stale; run `make setup`"


def test_the_base_install_is_small(base: Path) -> None:
    """An engine's environment gets grpcio and protobuf, nothing else."""
    listed = run(base / "python", "-m", "pip", "list", "--format=freeze").stdout.split()
    names = {line.split("==")[0].lower() for line in listed}
    assert names - {"pip", "setuptools"} == {"turbospec", "grpcio", "protobuf"}


def test_the_generated_code_loads_at_the_floors(base: Path) -> None:
    """The oldest grpcio and protobuf that we allow load the adapters' client and all three services."""
    done = run(
        base / "python",
        "-c",
        "import turbospec.adapters.client; from turbospec.v1 import speculation_pb2_grpc,"
        " introspection_pb2_grpc, operations_pb2_grpc",
    )
    assert done.returncode == 0, done.stderr


def test_the_base_install_runs_the_engine_verb(base: Path) -> None:
    """`turbospec engine` works where only grpcio and protobuf are."""
    done = run(base / "turbospec", "engine", "--help")
    assert done.returncode == 0, done.stderr
    assert "vllm" in done.stdout


@pytest.mark.parametrize(("verb", "extra"), [("serve", "sidecar"), ("demo", "demo")])
def test_other_verbs_name_the_extra_they_need(base: Path, verb: str, extra: str) -> None:
    """A verb whose extra is missing says which one, and how to get it."""
    done = run(base / "turbospec", verb)
    assert done.returncode == 2
    assert f"turbospec[{extra}]" in done.stderr


def test_version(base: Path) -> None:
    """`turbospec --version` says the version of the wheel."""
    done = run(base / "turbospec", "--version")
    assert done.stdout.split() == ["turbospec", "0.1.0"]
