"""The manifests of ``examples/kubernetes``: valid by Kubernetes' own schemas, and in agreement with our settings."""

import functools
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from tests.conftest import ROOT
from wsgicluster.admin.metrics import METRICS
from wsgicluster.settings import Settings, load

validator = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
yaml = pytest.importorskip("yaml")

FOLDER = ROOT / "examples" / "kubernetes"
VARIANTS = ("base", "overlays/small", "overlays/production")
VERSIONS = ("1.30", "1.37")
"""The oldest and the newest that the schemas are looked up for."""
KUBECTL = shutil.which("kubectl") or shutil.which("kustomize")


@functools.cache
def manifests(variant: str) -> dict[str, dict[str, Any]]:
    """What would be applied, by kind. Only the base can be read without kustomize."""
    if KUBECTL is None and variant == "base":
        names = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())["resources"]
        text = "\n---\n".join((FOLDER / "base" / name).read_text() for name in names)
    elif KUBECTL is None:
        pytest.skip("needs kubectl or kustomize")
    else:
        verb = "kustomize" if pathlib.Path(KUBECTL).name == "kubectl" else "build"
        command = [KUBECTL, verb, str(FOLDER / variant)]
        text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def container(variant: str) -> dict[str, Any]:
    found: dict[str, Any] = manifests(variant)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


def settings_of(variant: str, folder: pathlib.Path) -> Settings:
    """What the server makes of the variables; values that only a cluster knows are ``x``."""
    given = {each["name"]: each.get("value", "x") for each in container(variant)["env"]}
    loaded = load(["app"], given, str(folder))
    assert loaded.remarks == ()
    return loaded.settings


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_manifests_are_valid(variant: str, version: str) -> None:
    for each in manifests(variant).values():
        validator.validate(each, version, strict=True)


def test_a_wrong_manifest_is_found() -> None:
    wrong = {**manifests("base")["Service"], "spec": {"ports": [{"prot": 80}]}}
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_times_of_a_stop_fit_into_the_grace_period(variant: str, tmp_path: pathlib.Path) -> None:
    settings = settings_of(variant, tmp_path)
    pod = manifests(variant)["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.drain_delay + settings.graceful_timeout
    # One of the two: they would add up.
    assert settings.drain_delay > 0
    assert "lifecycle" not in container(variant)
    probe = container(variant)["readinessProbe"]
    assert settings.drain_delay > probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_ports_and_labels_agree(variant: str, tmp_path: pathlib.Path) -> None:
    settings = settings_of(variant, tmp_path)
    ports = {each["name"]: each["containerPort"] for each in container(variant)["ports"]}
    assert ports == {"http": 8000, "admin": getattr(settings.admin, "port", None)}
    every = manifests(variant)
    labels = every["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        every["Deployment"]["spec"]["selector"]["matchLabels"],
        every["Service"]["spec"]["selector"],
        every["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        every["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(each == labels for each in selectors)
    for name, path in {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}.items():
        assert container(variant)[name]["httpGet"] == {"path": path, "port": "admin"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pod_has_few_rights(variant: str) -> None:
    pod, context = manifests(variant)["Deployment"]["spec"]["template"]["spec"], container(variant)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_autoscaler_asks_for_a_metric_that_there_is() -> None:
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
    wanted = manifests("overlays/production")["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]
    assert adapter["name"]["as"] == wanted["metric"]["name"]
    exported = {f"wsgicluster_{metric.name}" for metric in METRICS}
    assert any(adapter["seriesQuery"].startswith(f"{name}_sum{{") for name in exported)
    variables = {each["name"]: each.get("value") for each in container("overlays/production")["env"]}
    threads = int(variables["WSGICLUSTER_WORKERS"]) * int(variables["WSGICLUSTER_THREADS"])
    assert 0 < int(wanted["target"]["averageValue"]) < threads
    assert "replicas" not in manifests("overlays/production")["Deployment"]["spec"]
