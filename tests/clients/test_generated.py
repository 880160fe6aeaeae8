"""Clients that generators make of the served document do the main job of the service, with whole types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import CLIENTS, INSTALLED, PATIENCE, run_node, run_tool
from tests.support.people import PASSWORD
from tests.support.service import serving

TYPESCRIPT = ("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as address:
        yield address


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests' own Python in a folder, whose modules it finds."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PATH": "", "PYTHONPATH": str(cwd), "MYPYPATH": str(cwd), "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_openapi_python_client_makes_a_client_that_does_the_main_job(address: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text("post_hooks: []\n")  # Nobody reads the code, so that nobody has to format it.
    made = python(
        *("-m", "openapi_python_client", "generate", "--url", f"{address}/openapi.json", "--meta", "none"),
        *("--output-path", tmp_path / "referral_client", "--config", settings, "--fail-on-warning"),
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "arning" not in made.stdout + made.stderr
    job = tmp_path / "main_job.py"
    job.write_text((CLIENTS / "main_job.py").read_text())
    checked = python("-m", "mypy", "--strict", "--follow-imports=silent", job, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    (tmp_path / "elsewhere").mkdir()
    # What was made here is used elsewhere, too, under a path of another host.
    with serving(tmp_path / "elsewhere", REFERRAL_SERVER_PUBLIC_URL="https://example.com/shop/referrals") as elsewhere:
        for place in (address, f"{elsewhere}/shop/referrals"):
            done = python(job, place, PASSWORD, cwd=tmp_path)
            assert (done.stdout, done.stderr) == ("done\n", ""), done.stderr


def test_openapi_typescript_makes_types_with_which_openapi_fetch_does_the_main_job(address: str, tmp_path: Path) -> None:
    made = run_tool("openapi-typescript", f"{address}/openapi.json", "--output", tmp_path / "schema.d.ts", cwd=tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "openapi-fetch").symlink_to(INSTALLED / "openapi-fetch")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "main_job.ts").write_text((CLIENTS / "main_job.ts").read_text())
    checked = run_tool("tsc", *TYPESCRIPT, "--noEmitOnError", "main_job.ts", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    done = run_node(tmp_path / "main_job.js", address, PASSWORD, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("done\n", ""), done.stderr
