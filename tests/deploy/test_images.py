"""The Dockerfiles, as far as they can be judged without building them, and what their containers start."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from support.compose import FOLDER, ROOT, Dockerfile, dockerfiles, documented, services

SCRIPT = FOLDER / "serve_engine.py"
every_image = pytest.mark.parametrize("dockerfile", dockerfiles(), ids=lambda dockerfile: dockerfile.name)


@every_image
def test_an_image_is_described_checked_and_started_without_a_shell(dockerfile: Dockerfile) -> None:
    """Title and licence, a health check, and an entry point in exec form, so that signals arrive."""
    assert "org.opencontainers.image.title" in dockerfile.last_stage("LABEL")[0]
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in dockerfile.last_stage("LABEL")[0]
    for instruction in ("ENTRYPOINT", "HEALTHCHECK"):
        (argument,) = dockerfile.last_stage(instruction)
        command = json.loads(argument[argument.index("[") :])
        assert command[0] != "sh"


@every_image
def test_every_base_can_be_replaced(dockerfile: Dockerfile) -> None:
    """Bases are build arguments with pinned defaults, and no frontend has to be pulled."""
    arguments = dict(argument.split("=", 1) for argument in dockerfile.of("ARG"))
    for base in dockerfile.of("FROM"):
        name = base.split()[0]
        assert name.startswith("${")
        assert arguments[name.strip("${}")].rpartition(":")[2] not in ("", "latest")
    assert "# syntax" not in dockerfile.text


@every_image
def test_what_is_copied_exists_and_reaches_the_builder(dockerfile: Dockerfile) -> None:
    """.dockerignore lets through exactly what the images need, and nothing that a secret could be in."""
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for argument in dockerfile.of("COPY"):
        if argument.startswith("--from"):
            continue
        for source in argument.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == one or source.startswith(f"{one}/") for one in let_through), source


@pytest.mark.parametrize("name", ["sidecar.Dockerfile", "vllm-cpu.Dockerfile"])
def test_images_that_are_ours_do_not_run_as_root(name: str) -> None:
    """Where the base is a bare system; upstream's engine images keep their user."""
    (user,) = Dockerfile(FOLDER / name).last_stage("USER")
    assert user not in ("root", "0")


def test_the_sidecars_lock_has_what_it_needs_and_nothing_of_an_engine() -> None:
    """Every need of the wheel and its sidecar extra is pinned at a version that pyproject.toml allows."""
    locked = dict(
        line.split("==")
        for line in (ROOT / "requirements" / "sidecar.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    pins = {name.lower().replace("_", "-"): Version(version) for name, version in locked.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["sidecar"]):
        need = Requirement(text)
        assert pins[need.name.lower().replace("_", "-")] in need.specifier, text
    assert not {"torch", "vllm", "sglang", "aiohttp"} & pins.keys()


def command(engine: str, more: Sequence[str] = (), **variables: str) -> list[str]:
    module: dict[str, Any] = runpy.run_path(str(SCRIPT))
    found: list[str] = module["command"](engine, variables, more)
    return found


def config_of(vllm: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(vllm[vllm.index("--speculative-config") + 1])
    return config


def printed(engine: str, made: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """What `turbospec engine` would start for such a command."""
    return subprocess.run(
        [sys.executable, "-m", "turbospec.cli.main", "engine", engine, "--print", *made[3:]],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TURBOSPEC_CONTROL_ADDRESS": f"unix:{directory}/c",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_set_of_variables_serves_both_engines() -> None:
    """Model, draft, method and length in each engine's own words; further arguments come last."""
    variables = {
        "MODEL": "m",
        "DRAFT_MODEL": "d",
        "METHOD": "eagle3",
        "LENGTH": "3",
        "ENGINE_ARGS": "--seed '1 2'",
    }
    vllm, sglang = command("vllm", **variables), command("sglang", **variables)
    assert vllm[:5] == ["turbospec", "engine", "vllm", "--", "m"]
    assert config_of(vllm) == {"method": "eagle3", "num_speculative_tokens": 3, "model": "d"}
    assert sglang[:6] == ["turbospec", "engine", "sglang", "--", "--model-path", "m"]
    text = " ".join(sglang)
    for part in (
        "algorithm EAGLE3",
        "draft-model-path d",
        "num-steps 3",
        "num-draft-tokens 4",
        "eagle-topk 1",
    ):
        assert f"--speculative-{part}" in text
    for made in (vllm, sglang):
        assert made[-2:] == ["--seed", "1 2"]
        assert made[made.index("--port") + 1] == "8000"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_shipped_defaults_serve_both_engines(engine: str, tmp_path: Path) -> None:
    """So that swapping the engine by its one variable needs no other."""
    environment = services({})["engine"]["environment"]
    made = command(engine, **{name: str(value or "") for name, value in environment.items()})
    assert printed(engine, made, tmp_path).returncode == 0
    variables = documented()
    assert variables["MODEL"] in made
    assert variables["DRAFT_MODEL"] in " ".join(made)


def test_the_operators_arguments_come_after_the_images() -> None:
    """So that they win, as a repeated argument's last value does."""
    made = command("vllm", ["--seed", "1"], MODEL="m", ENGINE_ARGS="--seed 2")
    assert made[-4:] == ["--seed", "1", "--seed", "2"]


def test_a_method_without_a_draft_needs_none() -> None:
    """Nor is it given one, whatever the variable says; a target's own draft needs none either."""
    ngram = {"method": "ngram", "num_speculative_tokens": 5}
    assert config_of(command("vllm", MODEL="m")) == ngram
    assert config_of(command("vllm", MODEL="m", METHOD="ngram", DRAFT_MODEL="d")) == ngram
    gpu = command("vllm", MODEL="m", METHOD="ngram_gpu", DRAFT_MODEL="")
    assert config_of(gpu) == {**ngram, "method": "ngram_gpu"}
    assert config_of(command("vllm", MODEL="m", METHOD="mtp", DRAFT_MODEL=""))["method"] == "mtp"
    assert "--speculative-draft-model-path" not in command("sglang", MODEL="m", METHOD="mtp", DRAFT_MODEL="")


@pytest.mark.parametrize(
    ("engine", "shown"), [("vllm", "--scheduler-cls turbospec"), ("sglang", "--speculative-num-steps 5")]
)
@pytest.mark.parametrize("method", ["draft_model", "eagle", "eagle3"])
def test_the_launcher_takes_what_it_is_given(engine: str, shown: str, method: str, tmp_path: Path) -> None:
    """The command passes `turbospec engine` as it would start it."""
    done = printed(engine, command(engine, MODEL="m", METHOD=method, DRAFT_MODEL="d"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_sglang_has_no_ngram_that_could_be_controlled() -> None:
    """What to choose instead is said."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "sglang"],
        env={"MODEL": "m", "METHOD": "ngram"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "serve_engine: METHOD 'ngram' with SGLang: choose from draft_model, eagle, eagle3, mtp\n"
    )


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "MODEL is not set: a path or a name on the Hugging Face hub"),
        ({"MODEL": "m", "METHOD": "eagle3"}, "METHOD 'eagle3' needs DRAFT_MODEL"),
        ({"MODEL": "m", "LENGTH": "many"}, "LENGTH must be from 1 to 64, not 'many'"),
        ({"MODEL": "m", "LENGTH": "0"}, "LENGTH must be from 1 to 64, not '0'"),
        ({"MODEL": "m", "ENGINE_ARGS": "'"}, "ENGINE_ARGS: No closing quotation"),
    ],
)
def test_a_bad_variable_stops_the_container_and_is_named(variables: dict[str, str], problem: str) -> None:
    """One line in the container's log, and not a traceback."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "vllm"], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"serve_engine: {problem}\n"


class Answering(BaseHTTPRequestHandler):
    """An engine whose health is `status`."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_an_engine_is_healthy_that_answers_so(
    status: int | None, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that starts or has failed says 503; one that is gone nothing."""
    monkeypatch.setattr(Answering, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever)
        if status is None:
            server.server_close()
        else:
            thread.start()
        text = SCRIPT.read_text()
        assert 'PORT = "8000"' in text
        here = text.replace('PORT = "8000"', f'PORT = "{server.server_port}"')
        done = subprocess.run(
            [sys.executable, "-c", here, "--healthy"], capture_output=True, text=True, check=False
        )
        if status is not None:
            server.shutdown()
            thread.join()
    assert (done.returncode == 0, done.stdout, done.stderr) == (healthy, "", "")
