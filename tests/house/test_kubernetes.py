"""deploy/kubernetes/: each object fits the schemas of Kubernetes, and all of them fit each other and the service."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

import run
from referral.app import create_app
from referral.config import ROOT, ConfigError, load_config
from tests.conftest import MakeConfig
from tests.support.manifests import SECRETS, VERSIONS, Object, built, containers, documents, faults, named

EXAMPLES = ("secrets.example.yaml", "ingress.example.yaml")


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the dialect."""
    return "sqlite"


@pytest.fixture
def app(make_config: MakeConfig) -> web.Application:
    return create_app(make_config())


@pytest.fixture
def objects() -> list[Object]:
    """What an installation has."""
    return [*built(), *(document for name in EXAMPLES for document in documents(name))]


def test_the_objects_fit_kubernetes_and_each_other_and_the_service(objects: list[Object], app: web.Application) -> None:
    assert [item["kind"] for item in objects] == [
        "Job",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "ConfigMap",
        "Secret",
        "Secret",
        "Ingress",
    ]
    assert len(set(VERSIONS)) > 1
    assert faults(objects, app) == []


SERVER = "spec/template/spec"
CONTAINER = f"{SERVER}/containers/0"
# What is changed, and what must then be said of it.
BROKEN: dict[str, tuple[str, str, Any, str]] = {
    "a slip in a word": ("Deployment", f"{CONTAINER}/readinesProbe", {}, "Additional properties are not allowed"),
    "a text for a number": (
        "Deployment",
        f"{SERVER}/terminationGracePeriodSeconds",
        "40s",
        "'40s' is not of type 'integer'",
    ),
    "a member in the wrong place": ("Service", "spec/template", {}, "Additional properties are not allowed"),
    "an unknown setting": ("ConfigMap", "data/REFERRAL_SERVER_PROT", "1", "REFERRAL_SERVER_PROT: is no setting"),
    "a setting out of its range": ("ConfigMap", "data/REFERRAL_SERVER_WORKERS", "0", "server.workers: must be between"),
    "a ConfigMap that is not there": (
        "Deployment",
        f"{CONTAINER}/envFrom/0/configMapRef/name",
        "other",
        "no ConfigMap other",
    ),
    "a Secret that is not there": ("Job", f"{SERVER}/volumes/0/secret/secretName", "other", "no Secret other"),
    "a secret that is not mounted": ("Job", f"{CONTAINER}/env/0/value", "/secrets/other", "no secret is mounted at"),
    "a Service of no pods": ("Service", "spec/selector", {"a": "b"}, "selects the pods of []"),
    "a Service of the Job's, too": (
        "Service",
        "spec/selector",
        {"app.kubernetes.io/name": "referral"},
        "selects the pods of ['Job', 'Deployment']",
    ),
    "a budget of other pods": ("PodDisruptionBudget", "spec/selector/matchLabels", {"a": "b"}, "selects the pods of []"),
    "pods spread by others": (
        "Deployment",
        f"{SERVER}/topologySpreadConstraints/1/labelSelector/matchLabels",
        {"a": "b"},
        "selects the pods of []",
    ),
    "a port that is not there": ("Service", "spec/ports/0/targetPort", "web", "no port web"),
    "another port": ("Deployment", f"{CONTAINER}/ports/0/containerPort", 8080, "the service listens on 8000"),
    "a probe of a path that is not there": (
        "Deployment",
        f"{CONTAINER}/livenessProbe/httpGet/path",
        "/healthz",
        "livenessProbe asks for what is not there",
    ),
    "metrics elsewhere": (
        "Deployment",
        "spec/template/metadata/annotations",
        {"prometheus.io/path": "/prometheus", "prometheus.io/port": "8000"},
        "metrics are elsewhere",
    ),
    "too little time": ("Deployment", f"{SERVER}/terminationGracePeriodSeconds", 40, "is killed before it has stopped"),
    "no time to leave": ("ConfigMap", "data/REFERRAL_SERVER_DRAIN", "0", "is killed before it has stopped"),
    "a command that nobody knows": ("Job", f"{CONTAINER}/args", ["migrates"], "run.py says: "),
    "an option that nobody knows": ("Deployment", f"{CONTAINER}/args", ["serve", "--fast"], "run.py says: "),
    "any version": ("Deployment", f"{CONTAINER}/image", "registry.example.com/referral:latest", "is not of one version"),
    "a root": ("Job", f"{SERVER}/securityContext/runAsNonRoot", False, "must run as any user but root"),
    "one user": ("Deployment", f"{SERVER}/securityContext/runAsUser", 10001, "must run as any user but root"),
    "a token": ("Deployment", f"{SERVER}/automountServiceAccountToken", True, "gets what it has no use for"),
    "a root file system": (
        "Deployment",
        f"{CONTAINER}/securityContext/readOnlyRootFilesystem",
        False,
        "may write or become more",
    ),
    "a capability": ("Job", f"{CONTAINER}/securityContext/capabilities", {"add": ["NET_ADMIN"]}, "has capabilities"),
    "as much memory as there is": ("Deployment", f"{CONTAINER}/resources/limits", {}, "no resources"),
    "a fixed number of pods": ("Deployment", "spec/replicas", 2, "does not say that there are two pods"),
    "one pod": ("HorizontalPodAutoscaler", "spec/minReplicas", 1, "does not say that there are two pods"),
    "another Deployment scaled": ("HorizontalPodAutoscaler", "spec/scaleTargetRef/name", "other", "nobody scales it"),
    "fewer pods meanwhile": ("Deployment", "spec/strategy/rollingUpdate/maxUnavailable", 1, "fewer pods serve"),
    "too many connections": ("HorizontalPodAutoscaler", "spec/maxReplicas", 9, "110 connections to PostgreSQL"),
    "too many workers": ("ConfigMap", "data/REFERRAL_SERVER_WORKERS", "2", "147 connections to PostgreSQL"),
    "an Ingress to nobody": (
        "Ingress",
        "spec/rules/0/http/paths/4/backend/service/name",
        "other",
        "/r leads to no service",
    ),
    "a path that is left out": ("Ingress", "spec/rules/0/http/paths/0/path", "/apis", "/api/v1/codes is not reached"),
    "metrics for all": ("Ingress", "spec/rules/0/http/paths/0/path", "/", "/metrics is reached from outside"),
}


@pytest.mark.parametrize(("kind", "path", "value", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_noticed(
    objects: list[Object], app: web.Application, kind: str, path: str, value: Any, said: str
) -> None:
    place: Any = next(item for item in objects if item["kind"] == kind)
    *folders, last = path.split("/")
    for part in folders:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    found = faults(objects, app)
    assert [line for line in found if said in line], found


@pytest.mark.parametrize("name", ["referral", "referral-owner"])
def test_the_service_does_not_start_with_any_secret_of_the_example(name: str) -> None:
    secret = named(documents("secrets.example.yaml"), "Secret", name)
    assert secret
    for key, value in secret["stringData"].items():
        setting = f"REFERRAL_{key.upper()}"
        load_config(environ={setting: SECRETS[key]})
        with pytest.raises(ConfigError):
            load_config(environ={setting: value})
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/deploy/kubernetes/secrets.yaml" in ignored


def test_only_the_job_has_the_owner_s_secret(objects: list[Object]) -> None:
    done = {}
    for item in objects:
        for container in containers(item):
            volumes = item["spec"]["template"]["spec"]["volumes"]
            secrets = [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]
            done[item["kind"]] = (container["args"], secrets)
    assert done["Job"] == (["migrate"], ["referral-owner"])
    assert done["Deployment"] == (["serve", "--no-migrate"], ["referral"])
    serving = run.parser().parse_args(done["Deployment"][0])
    assert (serving.command, serving.migrate) == (run.serve, False)
