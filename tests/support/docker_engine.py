"""The docker and compose commands, and what a test run has left in a Docker engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

# The longest is building an image with torch and an engine in it.
LONGEST_SECONDS = 1200.0


def docker(*arguments: str, check: bool = True, stdin: IO[bytes] | None = None) -> str:
    """What `docker ARGUMENTS` prints. Fails with its last words where it does, unless told not to check."""
    return run(["docker", *arguments], check=check, stdin=stdin)


def run(
    command: Sequence[str],
    check: bool = True,
    stdin: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """The same for any command."""
    done = subprocess.run(
        command,
        # Without the plug-in for builds this is the only builder; with it, the one that leaves nothing behind
        # that cannot be found again: a build's layers are those of its images.
        env={**(env or os.environ), "DOCKER_BUILDKIT": "0"},
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{output[-4000:]}"
    return output.strip()


def compose_command() -> list[str] | None:
    """Compose v2 where it is installed, else docker-compose, else None."""
    if _succeeds("docker", "compose", "version"):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def obstacle() -> str | None:
    """Why tests with Docker cannot run here; None where they can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if not _succeeds("docker", "version"):
        return "no Docker engine answers"
    if compose_command() is None:
        return "neither docker compose nor docker-compose is installed"
    return None


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def left(project: str, layers: Sequence[str]) -> dict[str, list[str]]:
    """What there is of a compose project, of images that begin with these layers, and of their containers.

    By kind. Kinds without anything are left out, so that nothing left is an empty dictionary.
    """
    of_project = f"--filter=label=com.docker.compose.project={project}"
    images = images_upon(layers)
    containers: set[str] = set()
    for those in [of_project, *(f"--filter=ancestor={image}" for image in images)]:
        containers |= set(docker("ps", "--all", "--quiet", those).split())
    found = {
        "containers": sorted(containers),
        "volumes": docker("volume", "ls", "--quiet", of_project).split(),
        "networks": docker("network", "ls", "--quiet", of_project).split(),
        "images": images,
    }
    return {kind: names for kind, names in found.items() if names}


def layers_of(image: str) -> list[str]:
    """The digests of an image's layers, from the lowest."""
    return list(json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image)) or [])


def images_upon(layers: Sequence[str]) -> list[str]:
    """The images that begin with these layers, those in between and of builds' stages included."""
    every = sorted(set(docker("images", "--all", "--quiet", "--no-trunc").split()))
    if not every or not layers:
        return []
    told = docker("image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", *every)
    found = [line.split(maxsplit=1) for line in told.splitlines()]
    return [name for name, text in found if (json.loads(text) or [])[: len(layers)] == list(layers)]


def remove_images_upon(layers: Sequence[str]) -> None:
    """Removes them, as long as that makes them fewer: one that another is built on goes after that."""
    found = images_upon(layers)
    while found:
        docker("rmi", "--force", *found, check=False)
        before, found = found, images_upon(layers)
        assert len(found) < len(before), f"images that cannot be removed: {found}"
