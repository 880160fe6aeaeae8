"""The service as a process: `run.py` in a folder of its own, on a free port."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.support.servers import free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent


def run_py(folder: Path | None = None) -> list[str]:
    """The command line of a project in the folder, by default the working one. Its sources are these, but `var/` is its own:
    what is started by ROOT's own `run.py` would use the data of whoever develops here."""
    place = folder or Path.cwd()
    if not (place / "run.py").exists():
        for name in ("config.toml", "run.py"):
            shutil.copy(ROOT / name, place)
        (place / "referral").symlink_to(ROOT / "referral")
    return [sys.executable, str(place / "run.py")]


def without_slowness(log: str) -> str:
    """What a service or a command has logged, but for slow statements: how long one takes is up to the machine."""
    return "".join(
        line for line in log.splitlines(keepends=True) if " WARNING referral.database: slow statement " not in line
    )


@contextmanager
def started(
    folder: Path,
    ready: Callable[[], bool],
    settings: dict[str, str],
    command: list[str] | None = None,
    log: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The service of a project in the folder, once it is ready, with no other settings; it is killed if the block does not
    end it. Its log goes to `service.log`, or to a descriptor. Raises when it ends before it is ready."""
    environ = {"PATH": os.environ["PATH"], **settings}
    file = folder / "service.log"
    with file.open("ab") as errors:
        process = subprocess.Popen(
            command or run_py(folder),
            cwd=folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=errors if log is None else log,
        )
    try:
        wait_until(lambda: process.poll() is not None or ready())
        assert process.poll() is None, file.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(folder: Path, **environ: str) -> Iterator[str]:
    """The address of the service of a project in the folder. Raises when it ends with an error."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = {
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_SERVER_PUBLIC_URL": address,
        "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
        **environ,
    }
    with started(folder, lambda: is_ready(address), settings) as process:
        yield address
        process.terminate()
        assert process.wait(20) == 0, (folder / "service.log").read_text()


def is_ready(address: str) -> bool:
    return status_of(f"{address}/health/ready") == 200


def status_of(url: str) -> int | None:
    """The status of a GET, None when nobody answers."""
    try:
        with urlopen(url, timeout=5) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None
