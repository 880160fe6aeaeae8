"""compose.yaml: what it sets is what the service takes, its parts find each other, and it agrees with the Dockerfile."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyCompose

import run
from referral.config import ROOT, Config, load_config

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Parts that run for as long as the service does.
LASTING = sorted(SERVICES.keys() - {"secrets", "migrate"})
# Parts that nothing but the profile starts, and among them the services themselves.
SCALED = sorted(name for name, part in SERVICES.items() if "profiles" in part)
BEHIND_THE_PROXY = ["referral-1", "referral-2"]
DEPLOY = ROOT / "deploy"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder that the `secrets` part fills, by the very commands it runs."""
    make_secrets(tmp_path)
    return tmp_path


def make_secrets(folder: Path) -> None:
    part = SERVICES["secrets"]
    assert part["volumes"] == ["secrets:/secrets"]
    # Compose takes $$ for a dollar sign.
    script = part["command"][0].replace("$$", "$").replace("/secrets", str(folder))
    subprocess.run([*part["entrypoint"], script], check=True)


@pytest.fixture
def config(secrets: Path) -> Config:
    """What the service makes of its environment; every unknown variable would be refused."""
    return config_of("referral", secrets)


def config_of(name: str, secrets: Path) -> Config:
    environment: dict[str, str] = SERVICES[name]["environment"]
    assert all(name.startswith("REFERRAL_") for name in environment)
    return load_config(environ={name: value.replace("/secrets", str(secrets)) for name, value in environment.items()})


def said_in(file: str, pattern: str) -> list[Any]:
    """What the groups of a pattern find in a file of deploy/."""
    return re.findall(pattern, (DEPLOY / file).read_text(), re.MULTILINE)


def test_it_is_a_compose_file() -> None:
    """A parser of the Compose Specification reads it, which knows each member, but not the merge keys of YAML."""
    text = json.dumps(DOCUMENT)
    assert PyCompose.from_json(text).service_names() == list(SERVICES)
    with pytest.raises(ValueError, match="stop_grace_perod"):
        PyCompose.from_json(text.replace("stop_grace_period", "stop_grace_perod"))


def test_the_settings_are_known_and_several_workers_share_redis(config: Config) -> None:
    assert config.server.workers > 1
    assert config.cache.url.startswith("redis://")
    assert config.database.url.startswith("postgresql://")
    assert config.mail.url.startswith("smtp://")


def test_every_address_leads_to_a_part_that_is_healthy_before_the_service_starts(config: Config) -> None:
    waits_for = SERVICES["referral"]["depends_on"]
    hosts = {urlsplit(url).hostname for url in (config.database.url, config.cache.url, config.mail.url)}
    assert {name for name, how in waits_for.items() if how == {"condition": "service_healthy"}} == hosts
    for name in ("referral", "postgres", "migrate", "pgbouncer"):
        assert SERVICES[name]["depends_on"]["secrets"] == {"condition": "service_completed_successfully"}


def test_secrets_are_made_once_and_known_to_nobody(secrets: Path, config: Config, tmp_path_factory: Any) -> None:
    postgres = SERVICES["postgres"]["environment"]
    url = urlsplit(config.database.url)
    assert (url.username, url.path) == (postgres["POSTGRES_USER"], f"/{postgres['POSTGRES_DB']}")
    password = (secrets / Path(postgres["POSTGRES_PASSWORD_FILE"]).name).read_text()
    assert url.password == password
    assert re.fullmatch("[0-9a-f]{64}", password)
    assert re.fullmatch("[0-9a-f]{64}", config.auth.secret)
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    make_secrets(secrets)
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == before
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_secrets(elsewhere)
    for name, content in before.items():
        assert (elsewhere / name).read_bytes() != content


def test_webhooks_reach_the_products_network_and_none_of_the_other_parts(config: Config) -> None:
    (subnet,) = (found["subnet"] for found in DOCUMENT["networks"]["product"]["ipam"]["config"])
    assert config.webhooks.allowed_networks == (subnet,)
    in_it = [name for name, part in SERVICES.items() if "product" in part.get("networks", ["default"])]
    assert in_it == ["referral", *BEHIND_THE_PROXY]
    assert SERVICES["referral"]["networks"] == ["default", "product"]


def test_every_lasting_part_has_a_health_check() -> None:
    for name in LASTING:
        checked = "healthcheck" in SERVICES[name] or (SERVICES[name].get("build") == "." and "\nHEALTHCHECK" in DOCKERFILE)
        assert checked, name


def test_images_are_pinned() -> None:
    for name, part in SERVICES.items():
        assert part.get("build") == "." or re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?(-alpine|-p\d)?", part["image"]), name


def test_command_port_and_volume_agree_with_the_dockerfile() -> None:
    part = SERVICES["referral"]
    exposed = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    command = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert part["command"] == json.loads(command[0])
    assert [port.rsplit(":", 1)[1] for port in part["ports"]] == exposed
    assert str(load_config(environ={}).server.port) in exposed
    volumes = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert volumes
    assert {volume.split(":")[1] for volume in part["volumes"]} >= set(volumes)


def test_nothing_is_reachable_from_other_machines() -> None:
    for part in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", ()))


def test_what_must_last_is_in_named_volumes() -> None:
    named = {volume.split(":")[0] for part in SERVICES.values() for volume in part.get("volumes", ())}
    assert {name for name in named if not name.startswith("./")} == DOCUMENT["volumes"].keys()
    assert all((ROOT / name).is_file() for name in named if name.startswith("./"))
    assert any(volume.endswith(":/var/lib/postgresql/data") for volume in SERVICES["postgres"]["volumes"])


def test_the_service_is_given_the_time_it_needs_to_stop() -> None:
    from referral.workers import GRACEFUL_TIMEOUT

    for name in ("referral", *BEHIND_THE_PROXY):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > GRACEFUL_TIMEOUT


# The profile


def test_without_the_profile_what_starts_is_what_it_was() -> None:
    assert sorted(SERVICES.keys() - set(SCALED)) == ["mail", "postgres", "redis", "referral", "secrets"]
    for name in SERVICES.keys() - set(SCALED):
        assert not set(SERVICES[name].get("depends_on", ())) & set(SCALED)
    assert all(SERVICES[name]["profiles"] == ["scale"] for name in SCALED)


def test_the_proxy_brings_all_of_the_profile_and_not_the_service_without_it() -> None:
    started, new = set[str](), {"proxy"}
    while new:
        started |= new
        new = {name for part in new for name in SERVICES[part].get("depends_on", ())} - started
    # The second Redis is nobody's condition: one is enough.
    assert {*started, "redis-2"} == {*SCALED, "secrets", "postgres", "mail"}
    assert SERVICES["proxy"]["ports"] == SERVICES["referral"]["ports"]


def test_two_services_are_behind_the_proxy_at_the_addresses_that_it_looks_up_once() -> None:
    servers = said_in("nginx.conf", r"^ *server ([\w.-]+:\d+)")
    port = first_of(DOCKERFILE, r"^EXPOSE (\d+)$")
    assert set(servers) == {f"{name}:{port}" for name in BEHIND_THE_PROXY}
    assert said_in("nginx.conf", r"^ *listen (\d+);") == [SERVICES["proxy"]["ports"][0].rsplit(":")[-1]]
    networks = [SERVICES[name]["networks"] for name in BEHIND_THE_PROXY]
    assert len({network["front"]["ipv4_address"] for network in networks}) == 2
    assert SERVICES["proxy"]["networks"] == ["front"]
    assert [name for name in SERVICES if "front" in SERVICES[name].get("networks", ())] == ["proxy", *BEHIND_THE_PROXY]
    for name in BEHIND_THE_PROXY:
        assert SERVICES[name]["read_only"]
        assert {**SERVICES[name], "networks": None} == {**SERVICES["referral-1"], "networks": None}


def first_of(text: str, pattern: str) -> str:
    [found] = re.findall(pattern, text, re.MULTILINE)
    return str(found)


def test_they_believe_the_proxy_and_leave_migrating_to_a_part_of_its_own(secrets: Path) -> None:
    config = config_of("referral-1", secrets)
    assert config.server.trusted_proxies == (DOCUMENT["networks"]["front"]["ipam"]["config"][0]["subnet"],)
    serving = run.parser().parse_args(SERVICES["referral-1"]["command"])
    assert (serving.command, serving.migrate) == (run.serve, False)
    assert SERVICES["migrate"]["command"] == ["migrate"]
    assert SERVICES["referral-1"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    direct = urlsplit(config_of("migrate", secrets).database.url)
    pooled = urlsplit(config.database.url)
    assert (direct.hostname, pooled.hostname) == ("postgres", "pgbouncer")
    assert (direct.username, direct.password, direct.path) == (pooled.username, pooled.password, pooled.path)
    assert config.auth.secret == config_of("referral", secrets).auth.secret


def test_pgbouncer_is_where_they_look_and_leads_to_postgresql(secrets: Path) -> None:
    pooled = urlsplit(config_of("referral-1", secrets).database.url)
    assert said_in("pgbouncer.ini", r"^listen_port = (\d+)$") == [str(pooled.port)]
    assert said_in("pgbouncer.ini", r"^(\w+) = host=postgres ") == [pooled.path[1:]]
    [file] = said_in("pgbouncer.ini", r"^auth_file = (.*)$")
    # What it makes of the password, by the very command it runs.
    made = SERVICES["pgbouncer"]["command"][0].replace("$$", "$").replace("/secrets", str(secrets)).splitlines()[0]
    assert f"> {file}" in made
    command = ["sh", "-ec", made.replace(f"> {file}", "")]
    userlist = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert userlist == f'"{pooled.username}" "{pooled.password}"\n'
    assert "./deploy/pgbouncer.ini:/etc/pgbouncer/pgbouncer.ini:ro" in SERVICES["pgbouncer"]["volumes"]
    assert SERVICES["pgbouncer"]["command"][0].splitlines()[-1] == "exec pgbouncer /etc/pgbouncer/pgbouncer.ini"


def copied(part: dict[str, Any], folder: Path) -> str:
    """The file that a part makes for itself, by the very command it runs, and that a second start leaves alone."""
    # A checkout may lie in a folder whose name has a space.
    (folder / "etc").symlink_to(DEPLOY)
    script = part["command"][0].replace("$$", "$").replace("/data", str(folder)).replace("/etc/", f"{folder}/etc/")
    environ = {"PATH": os.environ["PATH"], "HOSTNAME": part["hostname"], **part.get("environment", {})}
    [(program, file)] = re.findall(r"^exec (\S+) (\S+)$", script, re.MULTILINE)

    def start() -> str:
        command = [*part["entrypoint"], script.replace(f"exec {program}", "cat")]
        return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout

    made = start()
    with (folder / file).open("a") as learnt:
        learnt.write("# what it learnt\n")
    assert start() == f"{made}# what it learnt\n"
    return made


def test_sentinels_are_where_they_look_and_know_the_first_master(secrets: Path, tmp_path: Path) -> None:
    url = urlsplit(config_of("referral-1", secrets).cache.url)
    sentinels = [name for name in SCALED if name.startswith("sentinel-")]
    [port] = said_in("sentinel.conf", r"^port (\d+)$")
    assert (url.scheme, url.netloc) == ("redis+sentinel", ",".join(f"{name}:{port}" for name in sentinels))
    [(master, host, quorum)] = said_in("sentinel.conf", r"^sentinel monitor (\S+) (\S+) 6379 (\d)$")
    assert (url.path, host) == (f"/{master}/0", "redis-1")
    assert int(quorum) == len(sentinels) // 2 + 1
    shipped = (DEPLOY / "sentinel.conf").read_text()
    assert copied(SERVICES["sentinel-1"], tmp_path) == shipped + "sentinel announce-ip sentinel-1\n"
    for name in sentinels:
        assert {**SERVICES[name], "hostname": None} == {**SERVICES["sentinel-1"], "hostname": None}
        assert SERVICES[name]["hostname"] == name


def test_each_redis_tells_its_name_and_the_second_begins_as_a_replica(tmp_path: Path) -> None:
    for name, role in (("redis-1", ""), ("redis-2", "replicaof redis-1 6379")):
        (tmp_path / name).mkdir()
        lines = copied(SERVICES[name], tmp_path / name).splitlines()
        assert lines[-2:] == [f"replica-announce-ip {name}", role]
