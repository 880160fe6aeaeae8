"""The container image, without an engine: its lines are followed in an empty folder, and what is there is started."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.confined import AS_UNKNOWN_USER, UNKNOWN_USER
from tests.support.image import ELSEWHERE, built, environment, first, ignored, instructions
from tests.support.servers import free_port
from tests.support.service import ROOT, run_py, serving, started

# One image is enough for the tests that leave nothing in it for each other.
pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image that nobody has started."""
    return built(tmp_path / "image")


@pytest.fixture(scope="module")
def used_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose data, and whose compiled sources, are what the tests before have left."""
    return built(tmp_path_factory.mktemp("used") / "image")


def is_listened_to(port: int) -> bool:
    """Whether anybody listens on the port, at whatever address of this machine."""
    for host in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
            return True
    return False


def health_check(work: Path, **settings: str) -> int:
    """Run the image's HEALTHCHECK in its folder, with the container's environment, and return how it ended."""
    command = json.loads(first("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    environ = {"PATH": os.environ["PATH"], **settings}
    return subprocess.run([sys.executable, *command[1:]], cwd=work, env=environ, check=False, capture_output=True).returncode


def test_what_is_copied_is_enough_to_serve_and_keeps_its_data_in_the_volume(image: Path) -> None:
    work = image / "app"
    host = environment()["REFERRAL_SERVER_HOST"]
    assert host == "0.0.0.0"
    with serving(work, REFERRAL_SERVER_HOST=host) as address:
        with urlopen(f"{address}/health/ready", timeout=5) as response:
            assert json.load(response)["status"] == "ok"
        for page in ("/docs", "/redoc", "/openapi.json", "/assets/swagger-ui-bundle.js", "/problems/not-found"):
            with urlopen(f"{address}{page}", timeout=5) as response:
                assert response.status == 200
    assert {"referral.db", "secret"} <= {path.name for path in (image / "data").iterdir()}
    assert not [path for path in work.iterdir() if path.name.endswith(".db")]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"SERVER_HOST": "::"},
        {"SERVER_HOST": "::1"},
        {"SERVER_HOST": "localhost"},
        {"SERVER_PUBLIC_URL": "https://example.com/our-shop/referrals"},
        {"SERVER_WORKERS": "2", "CACHE_URL": "none://", "SERVER_HOST": "::"},
    ],
    ids=lambda settings: " ".join(settings.values()),
)
def test_the_health_check_follows_the_settings(used_image: Path, settings: dict[str, str]) -> None:
    work, port = used_image / "app", str(free_port())
    # A container's environment may name a proxy for everything that goes out.
    environ = {
        f"REFERRAL_{name}": value for name, value in {"SERVER_HOST": "0.0.0.0", "SERVER_PORT": port, **settings}.items()
    }
    environ |= {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    assert health_check(work, **environ) == 1, "nobody answers yet"

    def ready() -> bool:
        # A check is a process: one that asks before anybody listens only holds the start up.
        return is_listened_to(int(port)) and health_check(work, **environ) == 0

    with started(work, ready, environ) as process:
        process.terminate()
        assert process.wait(40) == 0
    assert health_check(work, **environ) == 1


def test_a_user_whom_nobody_knows_keeps_the_data_by_the_group_of_root(image: Path) -> None:
    # No other user may enter pytest's folders.
    place = Path(tempfile.mkdtemp(prefix="referral-image-"))
    try:
        place.chmod(0o755)
        shutil.copytree(image, place, dirs_exist_ok=True, symlinks=True)
        work, data = place / "app", place / "data"
        (work / "var").unlink()
        (work / "var").symlink_to(data)
        assert data.stat().st_mode & 0o070 == 0o070
        if os.geteuid() == 0:
            os.chown(data, int(first("USER")), 0)
        environ = {"REFERRAL_SERVER_PORT": str(free_port()), "REFERRAL_AUTH_BCRYPT_ROUNDS": "4"}
        command = [*AS_UNKNOWN_USER, *run_py(work)]
        subprocess.run(
            [*command, "createsuperuser", "root@example.com"],
            cwd=work,
            env={"PATH": os.environ["PATH"], **environ},
            input=b"a long password\n",
            check=True,
        )
        port = int(environ["REFERRAL_SERVER_PORT"])

        def ready() -> bool:
            return is_listened_to(port) and health_check(work, **environ) == 0

        with started(work, ready, environ, command) as process:
            process.terminate()
            assert process.wait(20) == 0
        files = {file.name: file.stat() for file in data.iterdir()}
        assert {"referral.db", "secret"} <= files.keys()
        assert {file.st_uid for file in files.values()} == {UNKNOWN_USER if AS_UNKNOWN_USER else os.geteuid()}
    finally:
        shutil.rmtree(place)


def test_it_starts_in_one_step_by_the_service_s_own_commands(used_image: Path) -> None:
    entry, command = json.loads(first("ENTRYPOINT")), json.loads(first("CMD"))
    assert (entry, command) == (["python", "run.py"], ["serve"])
    for arguments in (["--help"], ["serve", "--help"], ["createsuperuser", "--help"]):
        subprocess.run([sys.executable, *entry[1:], *arguments], cwd=used_image / "app", check=True, capture_output=True)


def test_it_runs_without_root_on_a_slim_python() -> None:
    found = list(instructions())
    assert first("FROM") == "python:3.13-slim"
    names = [name for name, _ in found]
    assert int(first("USER")) > 0
    assert names.index("USER") > max(position for position, name in enumerate(names) if name in ("RUN", "COPY"))
    assert f"--uid {first('USER')} " in dict(rest.split(" ", 1) for name, rest in found if name == "RUN")["useradd"]
    assert first("VOLUME") == "/data"
    assert first("EXPOSE") == "8000"
    runs = " && ".join(rest for name, rest in found if name == "RUN")
    assert "mkdir /data && chown referral:0 /data && chmod g=u /data && ln -s /data var" in runs
    assert {shlex.split(command)[0] for command in runs.split(" && ")} == {"mkdir", "chmod", "ln", *ELSEWHERE}


def test_requirements_are_installed_before_the_sources_change() -> None:
    lines = [f"{name} {rest}" for name, rest in instructions()]
    [install] = [line for line in lines if "pip install" in line]
    assert "-r requirements.txt" in install
    assert "--no-cache-dir" in install
    assert lines.index("COPY requirements.txt ./") < lines.index(install) < lines.index("COPY referral referral/")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "var/referral.db",
        "var/secret",
        "tests/conftest.py",
        "bench/run.py",
        ".ci/run",
        ".env",
        "README.md",
        "requirements-dev.txt",
        "referral/__pycache__/app.cpython-313.pyc",
        "referral/handlers/__pycache__/auth.cpython-313.pyc",
    ],
)
def test_what_does_not_belong_into_the_image_is_not_even_sent_to_the_build(path: str) -> None:
    assert ignored(path)


def test_every_copied_file_of_the_repository_is_sent_to_the_build() -> None:
    copied = [ROOT / source for name, rest in instructions() if name == "COPY" for source in shlex.split(rest)[:-1]]
    files = [file for source in copied for file in (source, *source.rglob("*")) if file.is_file()]
    needed = [file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts]
    assert len(needed) > 60
    assert [path for path in needed if ignored(path)] == []
