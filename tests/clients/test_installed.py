"""What npm installs for the tests: exactly what is locked, from whichever registry npm is set to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.clients import CLIENTS, INSTALLED, run_node


def test_versions_are_exact_and_the_lock_names_no_registry() -> None:
    wanted = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    lock = (CLIENTS / "package-lock.json").read_text()
    locked = json.loads(lock)["packages"]
    assert wanted == locked[""]["dependencies"]
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[f"node_modules/{name}"]["version"] == version
        assert json.loads((INSTALLED / name / "package.json").read_text())["version"] == version
    assert '"resolved"' not in lock
    assert all("integrity" in package or name == "" for name, package in locked.items())


def test_a_tool_that_is_missing_fails_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"gone\.js is missing: run `make test`, which installs it"):
        run_node(tmp_path / "gone.js", cwd=tmp_path)
