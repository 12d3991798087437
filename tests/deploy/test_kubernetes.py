"""The kustomize base: valid, and an engine in it serves whatever becomes of the sidecar."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.compose import FOLDER, documented, services
from support.observability import rules
from turbospec.sidecar.server.settings import load

BASE = FOLDER / "kubernetes" / "base"
MONITORED = FOLDER / "kubernetes" / "monitored"
# The first with native sidecars switched on, and the newest whose schemas the library has.
VERSIONS = ("1.29", "1.37")


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    """What a folder's kustomization names, by kind."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = [folder / name for name in kustomization["resources"] if name.endswith(".yaml")]
    assert {path.name for path in named} == {path.name for path in folder.glob("*.yaml")} - {
        "kustomization.yaml"
    }
    loaded = [yaml.safe_load(path.read_text()) for path in named]
    return {document["kind"]: document for document in loaded}


@pytest.fixture(scope="module")
def pod() -> Mapping[str, Any]:
    spec: Mapping[str, Any] = documents(BASE)["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["Deployment", "Service", "NetworkPolicy"])
def test_manifests_are_valid(kind: str, version: str) -> None:
    """By the schemas of Kubernetes, strictly: no field that it would ignore."""
    library = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    library.validate(documents(BASE)[kind], version, strict=True)


def test_an_invalid_manifest_is_found() -> None:
    """The check above can fail: on a missing field, a wrong type and a name that is misspelt."""
    library = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for change in (
        lambda spec: spec.pop("selector"),
        lambda spec: spec.update(replicas="one"),
        lambda spec: spec["template"]["spec"].update(initContainer=[]),
    ):
        broken = deepcopy(documents(BASE)["Deployment"])
        change(broken["spec"])
        with pytest.raises(library.ValidationError):
            library.validate(broken, VERSIONS[0], strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders_both() -> None:
    """With the configuration's name and the images put in."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(MONITORED)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert rendered.keys() == {"Deployment", "Service", "NetworkPolicy", "ConfigMap", "PodMonitor"}
    (engine,) = rendered["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert engine["envFrom"][0]["configMapRef"]["name"] == rendered["ConfigMap"]["metadata"]["name"]
    assert engine["image"] == "turbospec-vllm:latest"


def test_the_sidecar_is_a_native_one_that_never_stops_the_engine(pod: Mapping[str, Any]) -> None:
    """It starts first and is restarted alone; neither the engine nor the pod's readiness waits for it."""
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" not in sidecar
    assert "readinessProbe" not in sidecar
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert sidecar["livenessProbe"]["grpc"]["port"] == ports["introspection"]


def test_the_sidecars_settings_are_valid_and_fit_its_ports(pod: Mapping[str, Any]) -> None:
    """The server itself reads them."""
    (sidecar,) = pod["initContainers"]
    settings = load({}, {variable["name"]: variable["value"] for variable in sidecar["env"]}).settings
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert settings.introspection_address == f"0.0.0.0:{ports['introspection']}"
    assert settings.metrics_address == f"0.0.0.0:{ports['metrics']}"
    assert settings.shutdown_grace_seconds < pod["terminationGracePeriodSeconds"]


def test_the_sidecar_can_do_little(pod: Mapping[str, Any]) -> None:
    """Not root, a read-only root, no capabilities, bounded memory."""
    (sidecar,) = pod["initContainers"]
    context = sidecar["securityContext"]
    assert (context["runAsNonRoot"], context["readOnlyRootFilesystem"]) == (True, True)
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert sidecar["resources"]["limits"]["memory"]


def test_both_share_the_socket_and_its_group(pod: Mapping[str, Any]) -> None:
    """An emptyDir in memory that belongs to the sidecar's group, which every container of the pod is in."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["sockets"]["emptyDir"]["medium"] == "Memory"
    assert pod["securityContext"]["fsGroup"] == pod["initContainers"][0]["securityContext"]["runAsGroup"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {"name": "sockets", "mountPath": "/run/turbospec"} in container["volumeMounts"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    (engine,) = pod["containers"]
    addresses = [v["value"] for v in engine["env"] if v["name"] == "TURBOSPEC_CONTROL_ADDRESS"]
    assert addresses == [services({})["engine"]["environment"]["TURBOSPEC_CONTROL_ADDRESS"]]


def test_the_engine_is_configured_as_under_compose() -> None:
    """The same variables with the same defaults."""
    (generated,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["configMapGenerator"]
    literals = dict(literal.split("=", 1) for literal in generated["literals"])
    assert literals == {name: documented()[name] for name in literals}
    assert {"MODEL", "METHOD", "DRAFT_MODEL", "LENGTH", "ENGINE_ARGS"} == literals.keys()


def test_services_policies_and_monitors_find_the_pods() -> None:
    """Selectors match the pods' labels, ports exist, introspection is not among those that others reach."""
    found = documents(BASE)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    pod = found["Deployment"]["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    ports = {port["name"]: port["containerPort"] for container in containers for port in container["ports"]}
    monitor = documents(MONITORED)["PodMonitor"]["spec"]
    for selector in (
        found["Service"]["spec"]["selector"],
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        monitor["selector"]["matchLabels"],
    ):
        assert selector == labels
    assert found["Service"]["spec"]["ports"][0]["targetPort"] in ports
    (rule,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {ports["http"], ports["metrics"]}
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    (down,) = [rule["expr"] for rule in rules() if rule["alert"] == "TurboSpecSidecarDown"]
    assert f'job="{endpoint["relabelings"][0]["replacement"]}"' in down
