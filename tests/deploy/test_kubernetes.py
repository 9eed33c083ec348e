"""The manifests: valid for several versions of Kubernetes, and what they promise of a pod."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from commands import DEPLOY, parse

FOLDER = DEPLOY / "kubernetes"
NAMES = {"app.kubernetes.io/name": "vea"}
PAUSE, REQUESTS, TORCHSERVE = 10, 20, 15  # seconds of preStop, of the gateway, of TorchServe


def manifests() -> dict[str, dict[str, Any]]:
    """The resources by kind; each file holds one."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    found = [yaml.safe_load((FOLDER / name).read_text()) for name in listed]
    return {manifest["kind"]: manifest for manifest in found}


def pod() -> dict[str, Any]:
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return found


@pytest.mark.parametrize("version", ["1.27", "1.30", "1.33"])
def test_every_manifest_is_valid(version: str) -> None:
    found = manifests()
    assert set(found) == {
        "Deployment",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    }
    for manifest in found.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_with_a_key_that_does_not_exist_would_be_noticed() -> None:
    manifest = manifests()["Deployment"]
    manifest["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.30", strict=True)


@pytest.mark.integration
def test_all_files_are_in_the_kustomization(tmp_path: Path) -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in FOLDER.iterdir()}
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl to build it with")
    built = subprocess.run(
        [kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=True
    )
    kinds = {manifest["kind"] for manifest in yaml.safe_load_all(built.stdout)}
    assert kinds == set(manifests())


def test_everything_is_about_the_same_pods() -> None:
    found = manifests()
    template = found["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"] == NAMES
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == NAMES
    assert found["Service"]["spec"]["selector"] == NAMES
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == NAMES
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == NAMES
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "vea")


def test_the_container_runs_a_command_that_vea_understands() -> None:
    name, values = parse(container()["args"])
    assert name == "web"
    (port,) = container()["ports"]
    assert values["port"] == port["containerPort"]
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container()["volumeMounts"]}
    assert values["api_keys"].parent == mounts["api-keys"]
    assert mounts["scratch"] in values["state"].parents
    assert set(mounts) == {volume["name"] for volume in pod()["volumes"]}
    assert not any("subPath" in mount for mount in container()["volumeMounts"])


def test_a_pod_is_ready_by_a_prediction_and_alive_without_one() -> None:
    paths = {
        kind: container()[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    # The gateway gives the model 20 seconds for it.
    for kind in ("startup", "readiness"):
        assert container()[f"{kind}Probe"]["timeoutSeconds"] > 20
    startup = container()["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 180


def test_an_update_takes_no_pod_away_before_its_successor_answers() -> None:
    deployment = manifests()["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert container()["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(PAUSE)]
    assert pod()["terminationGracePeriodSeconds"] > PAUSE + REQUESTS + TORCHSERVE
    assert manifests()["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert manifests()["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2


@pytest.mark.threat("T8")
def test_a_pod_may_do_little() -> None:
    context = container()["securityContext"]
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod()["automountServiceAccountToken"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert set(container()["resources"]["limits"]) == {"cpu", "memory"}
    policy = manifests()["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http"]
    (service,) = manifests()["Service"]["spec"]["ports"]
    assert service["targetPort"] == "http"
