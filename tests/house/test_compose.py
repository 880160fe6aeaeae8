"""compose.yaml: what it sets is what the service takes, its parts find each other, and it agrees with the Dockerfile."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from referral.config import ROOT, Config, load_config

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Parts that run for as long as the service does.
LASTING = sorted(SERVICES.keys() - {"secrets"})


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
    environment: dict[str, str] = SERVICES["referral"]["environment"]
    assert all(name.startswith("REFERRAL_") for name in environment)
    return load_config(environ={name: value.replace("/secrets", str(secrets)) for name, value in environment.items()})


def test_the_settings_are_known_and_several_workers_share_redis(config: Config) -> None:
    assert config.server.workers > 1
    assert config.cache.url.startswith("redis://")
    assert config.database.url.startswith("postgresql://")
    assert config.mail.url.startswith("smtp://")


def test_every_address_leads_to_a_part_that_is_healthy_before_the_service_starts(config: Config) -> None:
    waits_for = SERVICES["referral"]["depends_on"]
    hosts = {urlsplit(url).hostname for url in (config.database.url, config.cache.url, config.mail.url)}
    assert {name for name, how in waits_for.items() if how == {"condition": "service_healthy"}} == hosts
    for name in ("referral", "postgres"):
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
    assert [name for name, part in SERVICES.items() if "product" in part.get("networks", ["default"])] == ["referral"]
    assert SERVICES["referral"]["networks"] == ["default", "product"]


def test_every_lasting_part_has_a_health_check() -> None:
    for name in LASTING:
        checked = "healthcheck" in SERVICES[name] or (SERVICES[name].get("build") == "." and "\nHEALTHCHECK" in DOCKERFILE)
        assert checked, name


def test_images_are_pinned() -> None:
    for name, part in SERVICES.items():
        assert part.get("build") == "." or re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?(-alpine)?", part["image"]), name


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
    assert named == DOCUMENT["volumes"].keys()
    assert any(volume.endswith(":/var/lib/postgresql/data") for volume in SERVICES["postgres"]["volumes"])


def test_the_service_is_given_the_time_it_needs_to_stop() -> None:
    from referral.workers import GRACEFUL_TIMEOUT

    assert int(SERVICES["referral"]["stop_grace_period"].removesuffix("s")) > GRACEFUL_TIMEOUT
