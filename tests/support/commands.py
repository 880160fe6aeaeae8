"""`run.py` as an operator starts it: the service and each command as a process in the test's folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.support.people import API, PASSWORD
from tests.support.service import run_py, without_slowness

# Nothing of the machine's own environment, and no waiting for bcrypt.
ENVIRON = {"PATH": os.environ["PATH"], "REFERRAL_SERVER_PORT": "0", "REFERRAL_AUTH_BCRYPT_ROUNDS": "4"}
# Seconds. A command that serves where it should refuse never ends by itself.
LONGEST = 60


class Service:
    """`run.py serve` in the test's folder, or another command line that serves, started and answering."""

    def __init__(self, *line: str, **environ: str) -> None:
        # Beside the folder the service works in: what that holds is counted.
        self.errors = Path(f"{Path.cwd()}.log")
        with self.errors.open("wb") as log:
            self.process = subprocess.Popen(
                line or run_py(), env={**ENVIRON, **environ}, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.banner = self.process.stdout.readline()
        address = re.match(r"Serving on (http://\S+) - documentation: \1/docs \(Ctrl\+C stops\)\n", self.banner)
        assert address, (self.banner, self.errors.read_text())
        self.address = address[1]

    def call(self, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """GET, or POST a JSON body or a form given as bytes; the status and the answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is not None and not isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        try:
            with urlopen(Request(f"{self.address}{path}", data=data, headers=headers), timeout=10) as response:
                return response.status, json.loads(response.read() or b"null")
        except HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def register(self, name: str) -> tuple[int, Any]:
        return self.call(f"{API}/auth/register", {"email": f"{name}@example.com", "password": PASSWORD, "username": name})

    def sign_in(self, name: str, password: str = PASSWORD) -> tuple[int, Any]:
        form = {"grant_type": "password", "username": name, "password": password}
        return self.call(f"{API}/auth/token", urlencode(form).encode())

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return what the process ended with."""
        self.process.send_signal(number)
        returned = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert "Traceback" not in self.errors.read_text()
        return returned


@contextmanager
def serve(*line: str, **environ: str) -> Iterator[Service]:
    """The service for as long as the block, if the block does not end it itself."""
    service = Service(*line, **environ)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.end(signal.SIGKILL)


def run_command(*arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command, or `serve` if none is named, until it ends."""
    return run_line([*run_py(), *arguments], environ, stdin)


def run_line(line: list[str], environ: dict[str, str], stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run a command line until it ends. Its standard error is without slow statements."""
    done = subprocess.run(line, env={**ENVIRON, **environ}, input=stdin, capture_output=True, check=False, timeout=LONGEST)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), without_slowness(done.stderr.decode())
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a command that could not do its work says why."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    [line] = [line for line in without_slowness(done.stderr).splitlines() if " INFO referral: migrated: " not in line]
    assert line.startswith("run.py: ")
    return line.removeprefix("run.py: ")
