"""schemathesis over the whole OpenAPI document of a running service: every check, in all four phases, with no failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.people import API
from tests.support.service import ROOT, run_py, serving, without_slowness

# Cases of an operation that are made by chance; `make soak` tries more.
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "10"))
# Seconds, longer than any run.
TIMEOUT = 90 + 6 * EXAMPLES


# In no example, and so tried by chance by nobody: these accounts are not ended.
PASSWORD = "nobody tries this one"


def register(address: str, name: str) -> dict[str, Any]:
    """How schemathesis signs in as a new account, and again whenever it has ended its own session."""
    body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
    request = Request(f"{address}{API}/auth/register", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        assert response.status == 201
    return {
        "name": name,
        "loginEndpointAuth": {
            "endpoint": f"{API}/auth/token",
            "verb": "POST",
            "contentType": "application/json",
            # By the e-mail: the username changes.
            "payloadRaw": json.dumps({"grant_type": "password", "username": body["email"], "password": PASSWORD}),
            "token": {
                "extractFrom": "body",
                "extractSelector": "/access_token",
                "sendIn": "header",
                "sendName": "Authorization",
                "sendTemplate": "Bearer {token}",
            },
        },
    }


def test_the_service_does_what_its_document_says(tmp_path: Path) -> None:
    people, report = tmp_path / "people.json", tmp_path / "report.json"
    with serving(tmp_path, REFERRAL_LIMITS_ENABLED="false", REFERRAL_LOG_LEVEL="warning") as address:
        people.write_text(json.dumps({"auth": [register(address, name) for name in ("carol", "dave")]}))
        # She may call everything.
        admin = [*run_py(tmp_path), "createsuperuser", "carol@example.com"]
        environ = {"PATH": os.environ["PATH"]}
        subprocess.run(admin, cwd=tmp_path, env=environ, input=f"{PASSWORD}\n", text=True, check=True, timeout=60)
        command = [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(ROOT / "tests" / "support" / "schemathesis.toml")),
            *("run", f"{address}/openapi.json", "--max-examples", str(EXAMPLES)),
            *("--report", "json", "--report-json-path", str(report)),
        ]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "REFERRAL_TEST_ROOT": str(ROOT), "REFERRAL_TEST_PEOPLE": str(people)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["operations"]["tested"] == found["operations"]["total"] > 25
    assert {name: phase["status"] for name, phase in found["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    assert found["test_cases"]["generated"] > 1_500
    assert found["failures"] == found["errors"] == []
    # Nothing that was sent made the service complain of itself.
    log = without_slowness((tmp_path / "service.log").read_text()).splitlines()
    assert [line for line in log if not line.startswith("Serving on ")] == []
