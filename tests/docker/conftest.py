"""Images built once, and one compose project that the tests share; all of it is removed in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.compose import documented
from support.docker_base import NoBaseError, Workshop, find_base, make_workshop
from support.docker_engine import docker, obstacle
from support.docker_stack import Stack


@pytest.fixture(scope="session")
def workshop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """The base, which every image is built on."""
    if why := obstacle():
        pytest.skip(why)
    project = f"turbospec-test-{os.getpid()}"
    try:
        found = find_base(f"{project}-debian", documented()["PYTHON_BASE"], tmp_path_factory.mktemp("debian"))
    except NoBaseError as error:
        pytest.skip(str(error))
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        plugins.getplugin("terminalreporter").write_line(f"base image: {found.origin}")
    workshop = make_workshop(project, found.name, tmp_path_factory.mktemp("base"))
    yield workshop
    workshop.remove_images()
    if found.ours:
        docker("rmi", found.name)


@pytest.fixture(scope="session")
def stack(workshop: Workshop) -> Iterator[Stack]:
    """The compose project, of which nothing runs yet."""
    stack = Stack(workshop.project, workshop.base)
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def sidecar_image(stack: Stack) -> str:
    return stack.build("sidecar")


@pytest.fixture(scope="session")
def vllm_image(stack: Stack) -> str:
    return stack.build("engine-cpu")


@pytest.fixture(scope="session")
def sglang_image(stack: Stack) -> str:
    return stack.build("engine-cpu", "sglang")


@pytest.fixture(scope="session")
def up(stack: Stack, sidecar_image: str, vllm_image: str) -> Stack:
    """Sidecar and vLLM, serving."""
    assert sidecar_image
    assert vllm_image
    stack.up("vllm")
    return stack
