"""What README shows of a product with users of its own, in Python and in TypeScript, is what these programs do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from referral.config.issuers import parse_issuers
from tests.clients.test_generated import TYPESCRIPT
from tests.support.clients import CLIENTS, INSTALLED, run_node, run_tool
from tests.support.service import ROOT, run_py, serving

SECTION = (ROOT / "README.md").read_text().partition("\n## Beside your own users\n")[2].partition("\n## ")[0]
ADDRESS = "http://127.0.0.1:8000"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def shown(kind: str) -> list[str]:
    """The programs of this language in the section."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def cores(name: str) -> list[str]:
    """What a program has between its marks."""
    text = (CLIENTS / name).read_text()
    return re.findall(r"^\S+ README begins.*?\n(.*?)^\S+ README ends$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("kind", "name", "parts"), [("python", "beside_job.py", 1), ("typescript", "beside_job.ts", 2)])
def test_readme_shows_what_the_programs_do(kind: str, name: str, parts: int) -> None:
    assert len(cores(name)) == parts
    assert shown(kind) == cores(name)


def test_the_issuers_of_the_environment_are_some() -> None:
    (found,) = re.findall(r"REFERRAL_IDENTITY_ISSUERS='([^']+)'", SECTION)
    (issuer,) = parse_issuers(json.loads(found))
    assert issuer.subject_is_external_id


class Product(ThreadingHTTPServer):
    """The product as the service knows it: where its tokens' keys are."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Metadata)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.key = Ed25519PrivateKey.generate()
        public = OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.documents = {
            "/.well-known/openid-configuration": {"issuer": self.address, "jwks_uri": f"{self.address}/keys"},
            "/keys": {"keys": [{**public, "kid": "1"}]},
        }

    def token(self, user_id: str) -> str:
        claims = {"iss": self.address, "aud": "referrals", "sub": user_id, "exp": int(time.time()) + 60}
        return jwt.encode(claims, self.key, "EdDSA", {"kid": "1"})


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Product)
        body = json.dumps(self.server.documents[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def product() -> Iterator[Product]:
    with Product() as product:
        thread = threading.Thread(target=product.serve_forever, args=(0.05,))
        thread.start()
        yield product
        product.shutdown()
        thread.join()


def test_the_programs_run_one_after_the_other_and_get_the_same_answers(product: Product, tmp_path: Path) -> None:
    issuers = json.dumps([{"issuer": product.address, "audience": "referrals"}])
    with serving(tmp_path, REFERRAL_IDENTITY_ISSUERS=issuers) as address:
        key = subprocess.run(
            [*run_py(tmp_path), "keys", "create", "shop", "--scope", "write"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

        job = tmp_path / "beside_job.py"
        job.write_text((CLIENTS / job.name).read_text().replace(ADDRESS, address))
        done = subprocess.run(
            [sys.executable, job],
            env={"REFERRAL_KEY": key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert re.fullmatch(rf"attributed\nkept\n[0-9a-f-]{{36}} {TIME}\n", done.stdout), done.stderr

        made = run_tool("openapi-typescript", f"{address}/openapi.json", "--output", "schema.d.ts", cwd=tmp_path)
        assert made.returncode == 0, made.stdout + made.stderr
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules" / "openapi-fetch").symlink_to(INSTALLED / "openapi-fetch")
        (tmp_path / "package.json").write_text('{"type": "module"}')
        source = (CLIENTS / "beside_job.ts").read_text().replace(ADDRESS, address)
        (tmp_path / "beside_job.ts").write_text(source)
        checked = run_tool("tsc", *TYPESCRIPT, "--noEmitOnError", "beside_job.ts", cwd=tmp_path)
        assert checked.returncode == 0, checked.stdout
        # Its environment has what every tool's has; the key comes by the program that starts it.
        starter = tmp_path / "start.mjs"
        starter.write_text(f'process.env.REFERRAL_KEY = "{key}";\nawait import("./beside_job.js");\n')
        done = run_node(starter, product.token("1"), cwd=tmp_path)
        assert done.stderr == ""
        assert re.fullmatch(rf"attributed kept\n\[ '{TIME}' \]\n\[ 'Somebody, since {TIME}' \]\n", done.stdout), done.stdout
