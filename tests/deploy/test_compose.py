"""The compose file: one variable swaps the engine, and nothing is open that need not be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.compose import COMPOSE, FOLDER, defaults, documented, services
from support.observability import FOLDER as OBSERVABILITY
from turbospec.sidecar.server.settings import ENVIRONMENT_PREFIX, load

# The reading of 1.29 is the stricter one, and its format is a part of what Compose v2 reads.
COMPOSES = (["docker-compose"], ["docker", "compose"])
ENGINES = ("vllm", "sglang")


@pytest.fixture(params=COMPOSES, ids=" ".join)
def compose(request: pytest.FixtureRequest) -> list[str]:
    """The command of 1.29, and that of v2."""
    command: list[str] = request.param
    try:
        subprocess.run([*command, "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{' '.join(command)} is not installed (Debian's package docker-compose)")
    return command


def as_compose_reads_it(
    compose: list[str], *arguments: str, file: Path = COMPOSE, **variables: str
) -> dict[str, Any]:
    done = subprocess.run(
        [*compose, "-f", str(file), *arguments, "config"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


@pytest.mark.parametrize("engine", ENGINES)
def test_compose_takes_it(compose: list[str], engine: str) -> None:
    """As shipped, and with the documented variables; both read the same."""
    bare = as_compose_reads_it(compose, ENGINE=engine)
    assert as_compose_reads_it(compose, "--env-file", str(FOLDER / ".env.example"), ENGINE=engine) == bare
    assert bare["services"]["engine"]["image"] == f"turbospec-{engine}:latest"
    (device,) = bare["services"]["engine"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"]) in (("nvidia", "all"), ("nvidia", -1))


def test_the_variables_file_is_found_beside_the_compose_file(compose: list[str], tmp_path: Path) -> None:
    """Wherever compose is called; and what may be empty can be emptied in it."""
    shutil.copyfile(COMPOSE, tmp_path / "compose.yaml")
    changed = documented() | {
        "MODEL": "another",
        "DRAFT_MODEL": "",
        "ENGINE_ARGS": "--seed 1 --max-num-seqs 4",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in changed.items()))
    engine = as_compose_reads_it(compose, file=tmp_path / "compose.yaml")["services"]["engine"]
    read = engine["environment"]
    assert (read["MODEL"], read["DRAFT_MODEL"] or "") == ("another", "")
    assert read["ENGINE_ARGS"] == "--seed 1 --max-num-seqs 4"


def test_one_variable_swaps_the_engine_and_nothing_else() -> None:
    """Only image and Dockerfile of the engine's services differ."""
    one, other = (services({"ENGINE": engine}) for engine in ENGINES)
    for name in ("engine", "engine-cpu", "models"):
        for service in (one[name], other[name]):
            del service["image"]
            service.get("build", {}).pop("dockerfile", None)
    assert one == other


def test_every_engine_has_its_dockerfile() -> None:
    """On GPUs both; on the CPU vLLM."""
    for service in [services({"ENGINE": engine})["engine"] for engine in ENGINES] + [
        services({})["engine-cpu"]
    ]:
        assert (FOLDER.parents[1] / service["build"]["dockerfile"]).exists()


def test_every_variable_is_documented_with_its_default() -> None:
    """.env.example, copied, changes nothing; and it names nothing that is not read."""
    assert {name: {value} for name, value in documented().items()} == defaults()


def test_what_is_published_is_the_hosts_loopback() -> None:
    """The engine's API as well, unless the operator opens it; metrics are not published at all."""
    opened = services({"LISTEN": "0.0.0.0"})
    for name, service in services({}).items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
            assert "50053" not in port
        if not name.startswith("engine"):
            assert service.get("ports") == opened[name].get("ports")
    assert opened["engine"]["ports"] == ["0.0.0.0:8000:8000"]


def test_the_sidecars_settings_are_valid_and_its_allowance_explicit() -> None:
    """The server itself reads them; without the allowance it would refuse."""
    environment = services({})["sidecar"]["environment"]
    assert all(name.startswith(ENVIRONMENT_PREFIX) for name in environment)
    settings = load({}, environment).settings
    assert settings.introspection_address == "0.0.0.0:50052"
    assert settings.allow_plaintext_network
    refused = {name: value for name, value in environment.items() if "PLAINTEXT" not in name}
    with pytest.raises(ValueError, match="can be reached from other machines"):
        load({}, refused)


def test_the_sidecar_can_do_little() -> None:
    """A read-only root, no capabilities, no new privileges, bounded memory, CPU and processes."""
    sidecar = services({})["sidecar"]
    assert sidecar["read_only"] is True
    assert sidecar["cap_drop"] == ["ALL"]
    assert sidecar["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "mem_limit", "pids_limit"} <= sidecar.keys()
    assert "devices" not in str(sidecar)


def test_engine_and_sidecar_share_the_socket_and_its_group() -> None:
    """The volume belongs to the sidecar's user and group, and every engine is in that group."""
    told = yaml.safe_load(COMPOSE.read_text())
    assert told["volumes"]["sockets"]["driver_opts"]["o"].startswith("uid=10001,gid=10001,mode=0750")
    found = services({})
    for name in ("sidecar", "engine", "engine-cpu"):
        assert "sockets:/run/turbospec" in found[name]["volumes"]
    for name in ("engine", "engine-cpu"):
        assert found[name]["group_add"] == ["10001"]
        address = found[name]["environment"]["TURBOSPEC_CONTROL_ADDRESS"]
        assert address == "unix:/run/turbospec/control.sock"


def test_an_engine_does_not_wait_for_a_healthy_sidecar() -> None:
    """It serves without one."""
    found = services({})
    assert found["engine"]["depends_on"] == ["sidecar"]
    assert found["engine-cpu"]["depends_on"]["sidecar"] == {"condition": "service_started"}


def test_what_runs_for_long_is_restarted_and_checked() -> None:
    """All but the making of models."""
    for name, service in services({}).items():
        if name != "models":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_observability_is_a_profile_with_files_that_exist() -> None:
    """Prometheus and Grafana start only when asked for, with what is shipped."""
    found = services({})
    for name in ("prometheus", "grafana"):
        assert found[name]["profiles"] == ["observability"]
        for volume in found[name]["volumes"]:
            if volume.startswith("./"):
                assert (FOLDER / volume.split(":")[0]).exists(), volume
    (job,) = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())["scrape_configs"]
    metrics = load({}, found["sidecar"]["environment"]).settings.metrics_address
    assert job["static_configs"] == [{"targets": [f"sidecar:{metrics.rpartition(':')[2]}"]}]


def test_the_cpu_profile_serves_the_models_that_it_makes() -> None:
    """Their paths are those that `turbospec engine make-models` writes."""
    from turbospec.engines.models import made_models

    found = services({})
    directory, _, size = found["models"]["entrypoint"][-3:]
    made = made_models(FOLDER.__class__(directory), "high", size=size)
    environment = found["engine-cpu"]["environment"]
    assert (environment["MODEL"], environment["DRAFT_MODEL"]) == (str(made.target), str(made.draft))
