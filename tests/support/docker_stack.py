"""The shipped compose file's CPU profile, up with real containers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from support.compose import COMPOSE, ENV_EXAMPLE, ROOT, defaults, services
from support.docker_engine import LONGEST_SECONDS, compose_command, docker, run
from support.patience import PATIENCE_SECONDS, wait_until
from support.vllm_server import complete
from turbospec.engines.processes import free_port
from turbospec.v1 import introspection_pb2 as ipb
from turbospec.v1 import introspection_pb2_grpc

# Engines that are run on a CPU for tests only, so that what builds their images is not shipped.
TESTS_ONLY = {"sglang": "tests/docker/sglang-cpu.Dockerfile"}

# Loading the engine on a machine that does other things too.
START_SECONDS = 400.0


def wait(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """As `wait_until`, without taking the machine from the engine by asking."""
    wait_until(condition, what, seconds, every=0.5)


class Stack:
    """A compose project of its own: images `project-…`, and ports that are free on this machine's loopback.

    `variables` are those of .env.example. What this process's environment has of them is not passed on.
    """

    MODEL = "made"
    ENGINE_ID = "engine-0"

    def __init__(self, project: str, python_base: str) -> None:
        self.project = project
        self.port = free_port()
        self.introspection = f"127.0.0.1:{free_port()}"
        self.variables = {
            "IMAGES": project,
            "PYTHON_BASE": python_base,
            "PORT": str(self.port),
            "INTROSPECTION_PORT": self.introspection.rpartition(":")[2],
        }

    def compose(self, *arguments: str, check: bool = True) -> str:
        """What compose prints, with the documented variables and ours."""
        command = compose_command()
        assert command is not None
        environ = {name: value for name, value in os.environ.items() if name not in defaults()}
        return run(
            [
                *command,
                *("--project-name", self.project, "--file", str(COMPOSE), "--env-file", str(ENV_EXAMPLE)),
                *("--profile", "cpu", *arguments),
            ],
            check=check,
            # docker-compose itself gives a call of Docker's a minute, which is short for a start.
            env={**environ, **self.variables, "COMPOSE_HTTP_TIMEOUT": f"{LONGEST_SECONDS:.0f}"},
        )

    def build(self, service: str, engine: str = "vllm") -> str:
        """Builds a service's image as the compose file has it, and returns its name.

        Not by compose itself: that has no way to build on the host's network, which a mirror may need.
        """
        told = services({**self.variables, "ENGINE": engine})[service]
        dockerfile = TESTS_ONLY.get(engine) or told["build"]["dockerfile"]
        build_image(told["image"], dockerfile, told["build"]["args"])
        return str(told["image"])

    def up(self, engine: str = "vllm") -> None:
        """Starts all of it, or swaps the engine of what runs, and waits until requests are answered."""
        self.variables["ENGINE"] = engine
        self.compose("up", "--detach", "--no-build", "engine-cpu")
        self.wait_until_healthy("engine-cpu")

    def wait_until_healthy(self, service: str) -> None:
        def healthy() -> bool:
            state = self.inspect(service)["State"]
            assert state["Running"] or state["Restarting"], f"{service} stopped:\n{self.log(service)}"
            return bool(state["Health"]["Status"] == "healthy")

        wait(healthy, f"{service} healthy", START_SECONDS)

    def container(self, service: str) -> str:
        """The id of a service's one container, running or not."""
        labels = {"project": self.project, "service": service}
        filters = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        (found,) = docker("ps", "--all", "--quiet", *filters).split()
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """What the Docker engine tells of a service's container."""
        (found,) = json.loads(docker("inspect", self.container(service)))
        told: dict[str, Any] = found
        return told

    def log(self, service: str) -> str:
        """The last lines of a service's container."""
        return docker("logs", "--tail", "40", self.container(service))

    def execute(self, service: str, *command: str, check: bool = True) -> str:
        """What a command prints in a service's container."""
        return docker("exec", self.container(service), *command, check=check)

    def running(self, service: str) -> bool:
        return bool(self.inspect(service)["State"]["Running"])

    def kill(self, service: str) -> None:
        """As a crash does, but for good: what is killed on purpose is not restarted."""
        docker("kill", self.container(service))

    def start(self, service: str) -> None:
        docker("start", self.container(service))

    def complete(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> int:
        """One request over the published port; see `vllm_server.complete`."""
        return complete(f"http://127.0.0.1:{self.port}", self.MODEL, prompt, max_tokens, timeout, name)

    def engine(self) -> ipb.EngineSummary | None:
        """What introspection tells of the engine, over the published port; None where it tells of none."""
        with grpc.insecure_channel(self.introspection) as channel:
            stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
            try:
                answer = stub.ListEngines(ipb.ListEnginesRequest(), timeout=PATIENCE_SECONDS)
            except grpc.RpcError:
                return None
        return next((engine for engine in answer.engines if engine.engine_id == self.ENGINE_ID), None)

    def engine_name(self) -> str:
        """What the engine says that it is."""
        with grpc.insecure_channel(self.introspection) as channel:
            stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
            request = ipb.GetEngineRequest(engine_id=self.ENGINE_ID)
            return str(stub.GetEngine(request, timeout=PATIENCE_SECONDS).identity.engine_name)

    def controlled(self) -> bool:
        """Whether the engine's newest step ran under a plan."""
        engine = self.engine()
        return engine is not None and engine.connected and engine.controlled

    def down(self) -> None:
        """Ends and removes all but images."""
        self.compose("down", "--volumes", "--remove-orphans")


def build_image(name: str, dockerfile: str, arguments: Mapping[str, str], context: Path = ROOT) -> None:
    """Builds an image on the host's network and leaves no container. A failure shows the log's end."""
    given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    path = str(context / dockerfile)
    docker("build", "--force-rm", "--network", "host", "--file", path, *given, "--tag", name, str(context))
