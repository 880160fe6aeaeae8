"""The receivers of webhooks that README shows, in Python and in TypeScript, verify what the service sends, and deliver
once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.clients.test_beside import cores
from tests.support.clients import CLIENTS, INSTALLED, NODE
from tests.support.servers import free_port, wait_until
from tests.support.service import ROOT, run_py, serving

SECTION = (ROOT / "README.md").read_text().partition("\n## Told of everything\n")[2].partition("\n## ")[0]
PORT = "3000"
# Lines of a receiver, without those that are empty.
LONGEST = 22
RULE = {
    "name": "Give 5",
    "on": "purchase",
    "to": "referrer",
    "times": None,
    "give": {"kind": "balance", "unit": "USD", "fixed": 500},
    "hold_days": 0,
}


def shown(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("kind", "name"), [("python", "receiver_job.py"), ("typescript", "receiver_job.ts")])
def test_readme_shows_what_the_receivers_do_in_few_lines(kind: str, name: str) -> None:
    assert shown(kind) == cores(name)
    (program,) = cores(name)
    assert len([line for line in program.splitlines() if line]) <= LONGEST


class Shop:
    """A product's back end, by an admin's key."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        made = [*run_py(folder), "keys", "create", "shop", "--scope", "admin"]
        self.key = subprocess.run(made, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.address}/api/v1{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")

    def buy(self, event: str) -> None:
        value = {"unit": "USD", "amount": 4900}
        user = {"external_id": "2"}
        recorded = self.call(
            "POST", "/events", {"id": event, "type": "purchase", "user": user, "value": value, "code": "ALICE"}
        )
        assert recorded["rewards"], recorded


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with serving(tmp_path, REFERRAL_WEBHOOKS_ALLOWED_NETWORKS="127.0.0.0/8") as address:
        shop = Shop(address, tmp_path)
        shop.call("POST", "/rules", RULE)
        shop.call("PUT", "/users/ext:1", {"name": "Alice", "code": {"ttl_days": 365, "code": "ALICE"}})
        yield shop


@contextmanager
def receiving(kind: str, port: int, secret: str, folder: Path) -> Iterator[Path]:
    """A receiver of this language in a folder of its own; the file of what it prints."""
    folder.mkdir()
    name = "receiver_job.py" if kind == "python" else "receiver_job.ts"
    job, printed = folder / name, folder / "printed"
    job.write_text((CLIENTS / name).read_text().replace(PORT, str(port)))
    if kind == "typescript":
        (folder / "node_modules").symlink_to(INSTALLED)
        (folder / "package.json").write_text('{"type": "module"}')
    command: list[str | Path] = [sys.executable, job]
    if kind == "typescript":
        command = [NODE, "--disable-warning=ExperimentalWarning", job]
    with printed.open("wb") as out, (folder / "errors").open("wb") as errors:
        environ = {"REFERRAL_WEBHOOK_SECRET": secret}
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=errors)
    try:
        wait_until(lambda: process.poll() is not None or status(port, b"{}", {}) == 400)
        assert process.poll() is None, (folder / "errors").read_text()
        yield printed
    finally:
        process.kill()
        process.wait()


def status(port: int, body: bytes, headers: dict[str, str]) -> int | None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.mark.parametrize("kind", ["python", "typescript"])
def test_a_receiver_verifies_and_delivers_each_reward_once(kind: str, shop: Shop, tmp_path: Path) -> None:
    port = free_port()
    made = shop.call("POST", "/webhooks", {"url": f"http://127.0.0.1:{port}/", "types": ["reward.*", "balance.changed"]})
    with receiving(kind, port, made["secret"], tmp_path / "receiver") as printed:
        assert shop.call("POST", f"/webhooks/{made['id']}/test")["status"] == 204
        shop.buy("order-7")
        wait_until(lambda: printed.read_text().count("\n") == 1)
        assert "deliver balance" in printed.read_text()
        assert "500" in printed.read_text()

        shop.call("POST", f"/webhooks/{made['id']}/replay", {"since": "2020-01-01T00:00:00Z"})
        shop.buy("order-8")
        wait_until(lambda: printed.read_text().count("\n") == 2)
        deliveries = shop.call("GET", f"/webhooks/{made['id']}/deliveries")["items"]
        assert len(deliveries) == 6
        assert printed.read_text().count("\n") == 2, "what was sent again is delivered once"

        body, now = '{"type": "ping", "data": {}}', datetime.now(UTC)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
        for secret, expected in (("whsec_" + "A" * 44, 400), (made["secret"], 204)):
            signed = {**headers, "webhook-signature": Webhook(secret).sign("msg_1", now, body)}
            assert status(port, body.encode(), signed) == expected
        assert printed.read_text().count("\n") == 2


def test_listen_posts_changes_to_a_developers_address(shop: Shop, tmp_path: Path) -> None:
    port = free_port()
    command = [*run_py(tmp_path), "webhooks", "listen", "--to", f"http://127.0.0.1:{port}/", "--types", "reward.*"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        found = re.search(r"signed by (whsec_\S+)", listening.stdout.readline())
        assert found is not None
        with receiving("python", port, found[1], tmp_path / "receiver") as printed:
            shop.buy("order-7")
            wait_until(lambda: "deliver balance" in printed.read_text())
            told = [listening.stdout.readline() for _ in range(2)]
            assert [line.split()[1] for line in told] == ["reward.created", "reward.approved"]
            assert {line.split()[3] for line in told} == {"204"}
        shop.buy("order-8")
        assert "refused" in listening.stdout.readline().lower(), "what cannot be reached is shown, and not tried again"
        listening.terminate()
