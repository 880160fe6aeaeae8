"""The manifests of deploy/kubernetes/: what `kubectl apply -k` makes of them, and what is wrong with that, beyond any
schema's reach: names that lead nowhere, settings that are none, commands that nobody knows."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from aiohttp import web

import run
from referral.config import Config, ConfigError, load_config
from tests.support.image import environment, first
from tests.support.service import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
# The oldest that the manifests are for, and the newest that there are schemas of.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
# What an installation puts into the Secrets.
SECRETS = {
    "database_url": "postgresql://serving:a-password@postgres/referral",
    "cache_url": "redis://:a-password@redis:6379/0",
    "mail_url": "smtp://user:a-password@mail:587?tls=starttls",
    "auth_secret": "0123456789abcdef" * 4,
}
# Connections that PostgreSQL allows as it comes, less the three that it keeps for a superuser.
CONNECTIONS = 97
# Paths that are the cluster's own.
INSIDE = ("/metrics", "/health/live", "/health/ready")

Object = dict[str, Any]


def documents(name: str) -> list[Object]:
    """What stands in one file; what an anchor names in several places is each time an object of its own."""
    read = [document for document in yaml.safe_load_all((FOLDER / name).read_text()) if document]
    copied: list[Object] = json.loads(json.dumps(read))
    return copied


def built() -> list[Object]:
    """What the kustomization makes, but for the hash in the ConfigMap's name and in references to it. Whatever else it says
    is refused: kustomize itself is not there to be asked."""
    [kustomization] = documents("kustomization.yaml")
    assert kustomization.keys() == {"apiVersion", "kind", "resources", "images", "configMapGenerator"}
    objects = [document for name in kustomization["resources"] for document in documents(name)]
    for image in kustomization["images"]:
        assert image.keys() == {"name", "newName", "newTag"}
        for container in (container for item in objects for container in containers(item)):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for generated in kustomization["configMapGenerator"]:
        assert generated.keys() == {"name", "envs"}
        lines = [line for name in generated["envs"] for line in (FOLDER / name).read_text().splitlines()]
        data = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        objects.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data},
        )
    return objects


def pod_of(item: Object) -> Object | None:
    """The template of the pods that an object makes."""
    template: Object | None = item.get("spec", {}).get("template")
    return template


def containers(item: Object) -> list[Object]:
    pod = pod_of(item)
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]] if pod else []


def named(objects: list[Object], kind: str, name: str) -> Object | None:
    return next((item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)), None)


def faults(objects: list[Object], app: web.Application) -> list[str]:
    """What is wrong with the objects, the Secrets among them, a line for each thing; `app` says which paths there are."""
    return [f"{item['kind']}: {line}" for item in objects for line in _faults_of(item, objects, app)]


def _faults_of(item: Object, objects: list[Object], app: web.Application) -> Iterator[str]:
    unfit = list(_schema_faults(item))
    yield from unfit
    if unfit:
        return
    if pod_of(item):
        yield from _pod_faults(item, objects, app)
    selector = item["spec"].get("selector") if item["kind"] in ("Service", "PodDisruptionBudget", "Deployment") else None
    if selector:
        yield from _selector_faults(selector.get("matchLabels", selector), objects)
    if item["kind"] == "Service":
        ports = {
            port["name"] for server in objects for container in containers(server) for port in container.get("ports", ())
        }
        yield from (f"no port {port['targetPort']}" for port in item["spec"]["ports"] if port["targetPort"] not in ports)
    if item["kind"] == "Ingress":
        yield from _ingress_faults(item, objects, app)


def _schema_faults(item: Object) -> Iterator[str]:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"


def _selector_faults(labels: dict[str, str], objects: list[Object]) -> Iterator[str]:
    """Whatever is selected are the pods of the one Deployment, and never those of a Job."""
    selected = [item["kind"] for item in objects if labels.items() <= _labels(item).items()]
    if selected != ["Deployment"]:
        yield f"selects the pods of {selected}"


def _labels(item: Object) -> dict[str, str]:
    pod = pod_of(item)
    labels: dict[str, str] = pod["metadata"]["labels"] if pod else {}
    return labels


def _pod_faults(item: Object, objects: list[Object], app: web.Application) -> Iterator[str]:
    pod = pod_of(item)
    assert pod
    spec = pod["spec"]
    if spec.get("automountServiceAccountToken") is not False or spec.get("enableServiceLinks") is not False:
        yield "gets what it has no use for"
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or {"runAsUser", "runAsGroup", "fsGroup"} & context.keys():
        yield "must run as any user but root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "no seccomp profile"
    for spread in spec.get("topologySpreadConstraints", ()):
        yield from _selector_faults(spread["labelSelector"]["matchLabels"], objects)
    for container in containers(item):
        yield from _container_faults(container, item, objects, app)


def _container_faults(container: Object, item: Object, objects: list[Object], app: web.Application) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?/[a-z0-9/-]+:\d+\.\d+\.\d+", container["image"]):
        yield f"the image {container['image']} is not of one version"
    context = container.get("securityContext", {})
    if not (context.get("readOnlyRootFilesystem") is True and context.get("allowPrivilegeEscalation") is False):
        yield "may write or become more than it is"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if "memory" not in container.get("resources", {}).get("limits", {}) or "cpu" not in container["resources"]["requests"]:
        yield "no resources"
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            run.parser().parse_args(container["args"])
    except SystemExit:
        yield f"run.py says: {said.getvalue().splitlines()[-1]}"
    try:
        config = settings(container, item, objects)
    except (ConfigError, KeyError) as error:
        yield str(error)
        return
    if item["kind"] == "Deployment":
        yield from _server_faults(container, item, config, objects, app)


def settings(container: Object, item: Object, objects: list[Object]) -> Config:
    """What the service makes of the container's environment; every unknown variable is refused. Raises ConfigError, and
    KeyError for what the environment refers to and nobody has."""
    return load_config(environ=environ_of(container, item, objects, SECRETS))


def environ_of(container: Object, item: Object, objects: list[Object], secrets: dict[str, str]) -> dict[str, str]:
    """The container's environment, with the values of its secrets in the place of the files that these are read from. Raises
    KeyError for what it refers to and nobody has."""
    environ = environment()
    for source in container.get("envFrom", ()):
        name = source["configMapRef"]["name"]
        found = named(objects, "ConfigMap", name)
        if not found:
            raise KeyError(f"no ConfigMap {name}")
        environ |= found["data"]
    mounted = set(files_of(container, item, objects))
    for variable in container.get("env", ()):
        name, value = variable["name"], variable["value"]
        if name.endswith("_FILE"):
            if value not in mounted:
                raise KeyError(f"{name}: no secret is mounted at {value}")
            name, value = name.removesuffix("_FILE"), secrets[Path(value).name]
        environ[name] = value
    return environ


def files_of(container: Object, item: Object, objects: list[Object]) -> Iterator[str]:
    """The paths of the secrets in a container. Raises KeyError for a volume or a Secret that nobody has."""
    pod = pod_of(item)
    assert pod
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        volume = volumes[mount["name"]]
        if "secret" in volume:
            name = volume["secret"]["secretName"]
            found = named(objects, "Secret", name)
            if not found:
                raise KeyError(f"no Secret {name}")
            yield from (f"{mount['mountPath']}/{key}" for key in found["stringData"])


def _server_faults(
    container: Object, item: Object, config: Config, objects: list[Object], app: web.Application
) -> Iterator[str]:
    from referral.workers import GRACEFUL_TIMEOUT

    pod = pod_of(item)
    assert pod
    paths = {resource.canonical for resource in app.router.resources()}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if list(ports.values()) != [config.server.port] or str(config.server.port) != first("EXPOSE"):
        yield f"the service listens on {config.server.port}"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]
        if probe["httpGet"]["path"] not in paths or probe["httpGet"]["port"] not in ports:
            yield f"{name} asks for what is not there"
    annotations = pod["metadata"]["annotations"]
    if annotations["prometheus.io/path"] not in paths or annotations["prometheus.io/port"] != str(config.server.port):
        yield "metrics are elsewhere"
    if pod["spec"]["terminationGracePeriodSeconds"] <= config.server.drain + GRACEFUL_TIMEOUT or not config.server.drain:
        yield "is killed before it has stopped"
    if config.cache.url.startswith("memory:"):
        yield "pods share no cache"
    yield from _scaling_faults(item, config, objects)


def _ingress_faults(item: Object, objects: list[Object], app: web.Application) -> Iterator[str]:
    """Whatever is there leads to the service, and what is the cluster's own does not."""
    paths = [path for rule in item["spec"]["rules"] for path in rule["http"]["paths"]]
    for path in paths:
        service = path["backend"]["service"]
        found = named(objects, "Service", service["name"])
        if not found or service["port"]["name"] not in {port["name"] for port in found["spec"]["ports"]}:
            yield f"{path['path']} leads to no service"
    for route in (resource.canonical for resource in app.router.resources()):
        leads = any(
            route == path["path"] or (path["pathType"] == "Prefix" and route.startswith(f"{path['path'].rstrip('/')}/"))
            for path in paths
        )
        if leads == (route in INSIDE):
            yield f"{route} is {'' if leads else 'not '}reached from outside"


def _scaling_faults(server: Object, config: Config, objects: list[Object]) -> Iterator[str]:
    scalers = [item["spec"] for item in objects if item["kind"] == "HorizontalPodAutoscaler"]
    target = {"apiVersion": server["apiVersion"], "kind": server["kind"], "name": server["metadata"]["name"]}
    if [scaler["scaleTargetRef"] for scaler in scalers] != [target]:
        yield "nobody scales it"
        return
    if "replicas" in server["spec"] or scalers[0]["minReplicas"] < 2:
        yield "the autoscaler does not say that there are two pods"
    rolling = server["spec"]["strategy"]["rollingUpdate"]
    if rolling["maxUnavailable"] != 0:
        yield "fewer pods serve during a roll-out"
    # Those of the workers' pools, and the one of the service lock.
    connections = config.server.workers * config.database.pool_size + 1
    most = connections * (scalers[0]["maxReplicas"] + rolling["maxSurge"])
    if most > CONNECTIONS:
        yield f"{most} connections to PostgreSQL"
