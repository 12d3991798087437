"""What docs/deployment.md has a newcomer type exists, and the answers that it shows are the services' own."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from support.compose import COMPOSE, FOLDER, ROOT, documented, services
from turbospec.cli.main import build_parser
from turbospec.v1 import introspection_pb2

TEXT = (ROOT / "docs" / "deployment.md").read_text()
KUBERNETES = FOLDER / "kubernetes"


def typed() -> list[list[str]]:
    """Every command, in blocks and within sentences, as a shell splits it, without variables before it."""
    shell = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL).replace("\\\n", " ")
    blocks = re.findall(r"^ {4}(\S.*)$", shell, re.MULTILINE)
    within = re.findall(r"`((?:docker compose|kubectl) [^`]+)`", TEXT)
    split = [shlex.split(line, comments=True) for line in (*blocks, *within)]
    assert all(word.split("=")[0] in documented() for words in split for word in words[:1] if "=" in word)
    return [words[1:] if "=" in words[0] else words for words in split]


def typed_of(*program: str) -> list[list[str]]:
    """The arguments of all commands of that program."""
    found = [words[len(program) :] for words in typed() if tuple(words[: len(program)]) == program]
    assert found
    return found


def test_every_command_is_one_that_is_checked_here() -> None:
    """None is left out by the tests below."""
    assert {words[0] for words in typed()} == {"cp", "curl", "docker", "grpcurl", "kubectl"}
    for words in typed_of("cp"):
        assert (ROOT / words[0]).exists()
        assert (ROOT / words[1]).parent == FOLDER


@pytest.mark.parametrize("words", typed_of("docker", "compose"), ids=" ".join)
def test_compose_has_what_it_is_asked_for(words: list[str]) -> None:
    """The file, profiles and services; and what is run in a container is a command of ours."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-f", type=Path)
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("verb", choices=("up", "ps", "exec", "build"))
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    asked = parser.parse_args(words)
    assert ROOT / asked.f == COMPOSE
    named = [word for word in asked.rest if not word.startswith("-")]
    if asked.verb == "exec":
        service, program, *arguments = asked.rest
        assert program == "turbospec"
        build_parser().parse_args(arguments)
        named = [service]
    for name in named:
        assert set(services({})[name].get("profiles", asked.profile)) <= set(asked.profile), name


def test_requests_go_where_the_engine_listens_to_the_model_it_serves() -> None:
    """To the default port, with the default model or the made one."""
    arguments = services({})["engine-cpu"]["environment"]["ENGINE_ARGS"]
    (made,) = re.findall(r"--served-model-name (\S+)", arguments)
    asked = []
    for words in typed_of("curl"):
        assert words[0] == f"http://{documented()['LISTEN']}:{documented()['PORT']}/v1/completions"
        asked.append(json.loads(words[words.index("-d") + 1])["model"])
    assert asked == [documented()["MODEL"], made]


def method(name: str) -> MethodDescriptor:
    found: MethodDescriptor = introspection_pb2.DESCRIPTOR.services_by_name[
        "IntrospectionService"
    ].methods_by_name[name]
    return found


@pytest.mark.parametrize("words", typed_of("grpcurl"), ids=" ".join)
def test_what_looks_in_is_in_the_protocol(words: list[str]) -> None:
    """Service, method and the request's fields; at the port that is published."""
    *options, address, call = words
    assert address == f"127.0.0.1:{documented()['INTROSPECTION_PORT']}"
    service, _, name = call.partition("/")
    assert service == method(name).containing_service.full_name
    request = options[options.index("-d") + 1] if "-d" in options else "{}"
    json_format.Parse(request, GetMessageClass(method(name).input_type)())
    assert json.loads(request).get("engine_id", documented()["ENGINE_ID"]) == documented()["ENGINE_ID"]


def shown() -> list[tuple[str, str]]:
    """Method and answer of every example."""
    found = re.findall(r"<!-- (?:part of the )?answer of (\w+) -->\n```json\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == TEXT.count("```json")
    return found


def parsed(name: str, answer: str) -> Message:
    return json_format.Parse(answer, GetMessageClass(method(name).output_type)())


@pytest.mark.parametrize(("name", "answer"), shown(), ids=[name for name, _ in shown()])
def test_answers_that_are_shown_are_the_services_own(name: str, answer: str) -> None:
    """By the names that JSON has; and a field that there is not would be found."""
    parsed(name, answer)
    field = next(key for key in re.findall(r'"(\w+)":', answer) if re.search("[A-Z]", key))
    assert "_" not in "".join(re.findall(r'"(\w+)":', answer))
    with pytest.raises(json_format.ParseError):
        parsed(name, answer.replace(f'"{field}":', f'"{field}s":'))


def test_each_of_the_three_looks_is_shown() -> None:
    """And fields that sentences speak of are named as they are printed."""
    assert [name for name, _ in shown()] == [words[-1].rpartition("/")[2] for words in typed_of("grpcurl")]
    fields = introspection_pb2.EngineSummary.DESCRIPTOR.fields
    spoken_of = re.findall(r'`"?([a-z]+[A-Z]\w+)"?[`:]', TEXT.partition("## How it")[0])
    assert spoken_of
    assert set(spoken_of) <= {field.json_name for field in fields}


def test_kubectl_is_given_what_there_is() -> None:
    """Folders, the deployment's name, its container and its secret."""
    pod = yaml.safe_load((KUBERNETES / "base" / "deployment.yaml").read_text())
    containers = pod["spec"]["template"]["spec"]
    (token,) = [v for v in containers["containers"][0]["env"] if v["name"] == "HF_TOKEN"]
    secret = token["valueFrom"]["secretKeyRef"]
    for words in typed_of("kubectl"):
        match words:
            case ["apply", "-k", folder]:
                assert (ROOT / folder / "kustomization.yaml").exists()
            case ["exec", where, "-c", container, "--", "turbospec", *arguments]:
                assert where == f"deploy/{pod['metadata']['name']}"
                assert container in [each["name"] for each in containers["initContainers"]]
                build_parser().parse_args(arguments)
            case ["create", "secret", "generic", name, literal]:
                assert (name, literal.split("=")[1]) == (secret["name"], secret["key"])
            case ["port-forward", "POD", port]:
                assert port == documented()["INTROSPECTION_PORT"]
            case _:
                raise AssertionError(words)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_overlay_that_is_shown_puts_images_and_model_in(tmp_path: Path) -> None:
    """By kustomize itself, beside a copy of what is shipped."""
    (overlay,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    shutil.copytree(KUBERNETES, tmp_path / KUBERNETES.relative_to(ROOT))
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(overlay)
    told = yaml.safe_load(overlay)
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / "overlay")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    pod = rendered["Deployment"]["spec"]["template"]["spec"]
    images = [container["image"] for container in (*pod["initContainers"], *pod["containers"])]
    assert images == [f"{image['newName']}:{image['newTag']}" for image in told["images"]]
    given = dict(literal.split("=", 1) for literal in told["configMapGenerator"][0]["literals"])
    assert rendered["ConfigMap"]["data"].items() >= {**given, "METHOD": documented()["METHOD"]}.items()
    (engine,) = pod["containers"]
    assert engine["envFrom"][0]["configMapRef"]["name"] == rendered["ConfigMap"]["metadata"]["name"]
