"""The service in surroundings such as deploy/kubernetes/ gives it: a user whom nobody knows, and a file system to read."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import ClientSession

from tests.support.confined import AS_UNKNOWN_USER, read_only_but
from tests.support.image import built as build_image
from tests.support.manifests import SECRETS, Object, built, containers, documents, environ_of, named, pod_of
from tests.support.people import API, PASSWORD
from tests.support.servers import PostgresServer, RedisServer, free_port
from tests.support.service import is_ready, run_py, started
from tests.support.smtp_server import MailServer

OBJECTS = [*built(), *documents("secrets.example.yaml")]


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="referral-pod-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Pod:
    """The container of an object, in an image of its own, with these values of its secrets."""

    def __init__(self, place: Path, kind: str, name: str, secrets: dict[str, str]) -> None:
        item = named(OBJECTS, kind, name)
        assert item
        self._item: Object = item
        [self.container] = containers(item)
        self.work = build_image(place / kind) / "app"
        self.environ = {"PATH": os.environ["PATH"], **environ_of(self.container, item, OBJECTS, secrets)}
        # The one place that is written to is the test's own, as /tmp is the pod's.
        self.folders = [Path(tempfile.mkdtemp(dir=place)) for _ in self._mounts("emptyDir")]
        for folder, path in zip(self.folders, self._mounts("emptyDir"), strict=True):
            assert path == "/tmp"
            self.environ["TMPDIR"] = str(folder)

    def _mounts(self, kind: str) -> list[str]:
        pod = pod_of(self._item)
        assert pod
        kinds = {volume["name"]: volume.keys() for volume in pod["spec"]["volumes"]}
        return [mount["mountPath"] for mount in self.container["volumeMounts"] if kind in kinds[mount["name"]]]

    def command(self, *command: str) -> list[str]:
        """A command as it runs there."""
        assert self.container["securityContext"]["readOnlyRootFilesystem"]
        return [*read_only_but(*self.folders), *AS_UNKNOWN_USER, *command]

    def own_command(self) -> list[str]:
        return self.command(*run_py(self.work), *self.container["args"])


@pytest.fixture
def migrated(place: Path, postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database that the Job has migrated, of a role that may read and write its rows."""
    postgres_server.execute("CREATE DATABASE pods")
    postgres_server.execute("CREATE ROLE pod LOGIN")
    rights = "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO pod"
    postgres_server.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public {rights}", "pods")
    job = Pod(place, "Job", "referral-migrate", {"database_url": postgres_server.url("pods")})
    done = subprocess.run(job.own_command(), cwd=job.work, env=job.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield postgres_server.url("pods").replace("referral@", "pod@")
    postgres_server.execute("DROP DATABASE pods WITH (FORCE)")
    postgres_server.execute("DROP ROLE pod")


def test_a_pod_that_is_there_before_the_job_has_migrated_says_so_in_a_line_and_ends(
    place: Path, database_url: str, redis: RedisServer
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    secrets = {**SECRETS, "database_url": database_url, "cache_url": redis.url}
    pod = Pod(place, "Deployment", "referral", secrets)
    done = subprocess.run(pod.own_command(), cwd=pod.work, env=pod.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("run.py: ")
    assert "migrate" in line


async def asked(session: ClientSession, path: str, status: int, **request: Any) -> str:
    """The text of the answer, whose status is this one."""
    async with session.request("POST" if "json" in request else "GET", path, **request) as response:
        text = await response.text()
        assert response.status == status, text
        return text


@pytest.mark.parametrize("workers", [1, 2])
async def test_it_serves_and_stops_and_writes_to_nothing_but_what_is_mounted(
    place: Path, migrated: str, redis: RedisServer, workers: int, eventually: Any
) -> None:
    async with MailServer() as mail:
        secrets = {**SECRETS, "database_url": migrated, "cache_url": redis.url, "mail_url": f"smtp://127.0.0.1:{mail.port}"}
        pod = Pod(place, "Deployment", "referral", secrets)
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        pod.environ |= {"REFERRAL_SERVER_PORT": str(port), "REFERRAL_SERVER_WORKERS": str(workers)}
        pod.environ["REFERRAL_SERVER_DRAIN"] = "1"
        with started(pod.work, lambda: is_ready(address), pod.environ, pod.own_command()) as process:
            async with ClientSession(address) as session:
                person = {"email": "alice@example.com", "username": "alice", "password": PASSWORD}
                alice = json.loads(await asked(session, f"{API}/auth/register", 201, json=person))
                headers = {"Authorization": f"Bearer {alice['access_token']}"}
                code = json.loads(await asked(session, f"{API}/codes", 201, json={"ttl_days": 1}, headers=headers))
                await asked(session, f"{API}/codes/{code['code']}", 200)
                assert "referral_requests_total" in await asked(session, "/metrics", 200)
                await eventually(lambda: mail.recipients == ["alice@example.com"])
            process.terminate()
            assert await asyncio.to_thread(process.wait, 35) == 0
    log = (pod.work / "service.log").read_text()
    assert not [word for word in ("Traceback", "Read-only", "Permission") if word in log], log


def test_a_pod_can_write_to_nothing_else(place: Path) -> None:
    pod = Pod(place, "Deployment", "referral", SECRETS)

    def can_write(folder: Path) -> bool:
        return subprocess.run(pod.command("touch", f"{folder}/file"), check=False, capture_output=True).returncode == 0

    # Whoever may write to these but for their being read-only.
    for folder in (place, pod.work, pod.work.parent / "data"):
        folder.chmod(0o777)
    assert [can_write(folder) for folder in (*pod.folders, place, pod.work, pod.work.parent / "data", Path("/tmp"))] == [
        True,
        False,
        False,
        False,
        False,
    ]
