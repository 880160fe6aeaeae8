"""The service as a process: `run.py` in a folder of its own, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
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


@contextmanager
def serving(folder: Path, **environ: str) -> Iterator[str]:
    """The address of the service of a project in the folder. Raises when it ends with an error."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = {
        "PATH": os.environ["PATH"],
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_SERVER_PUBLIC_URL": address,
        "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
        **environ,
    }
    log = folder / "service.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(run_py(folder), cwd=folder, env=settings, stdout=errors, stderr=errors)
    try:
        wait_until(lambda: process.poll() is not None or status_of(f"{address}/health/ready") == 200)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        returned = process.wait(20)
    assert returned == 0, log.read_text()


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
