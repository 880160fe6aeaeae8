"""`.ci/run`: it does what a newcomer does, passes the output through, and takes a test that did not run for a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT

GOOD = "....\n4 passed in 1.20s"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with `.ci/run` and a `make` that writes down its targets and says what `answer-TARGET` holds."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text('#!/bin/sh\necho "$1" >> targets\ncat && cat "answer-$1" && exit "$(cat "status-$1")"\n')
    make.chmod(0o755)
    for target in ("lint", "test"):
        says(tmp_path, target, GOOD if target == "test" else "All checks passed!")
    return tmp_path


def says(clone: Path, target: str, text: str, status: int = 0) -> None:
    (clone / f"answer-{target}").write_text(f"{text}\n")
    (clone / f"status-{target}").write_text(str(status))


def run_ci(clone: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{clone / 'bin'}:{os.environ['PATH']}"}
    # Started from elsewhere and with something to read: it finds its own folder and reads nothing.
    return subprocess.run(
        [clone / ".ci" / "run"], cwd="/", env=environ, input="typed", check=False, capture_output=True, text=True
    )


def test_it_checks_and_tests_and_passes_the_output_through(clone: Path) -> None:
    done = run_ci(clone)
    assert done.returncode == 0, done.stderr
    assert (clone / "targets").read_text().split() == ["lint", "test"]
    assert done.stdout == f"All checks passed!\n{GOOD}\n"


@pytest.mark.parametrize("what", ["1 skipped", "2 xfailed", "1 xpassed", "3 deselected"])
def test_a_test_that_did_not_run_is_a_failure(clone: Path, what: str) -> None:
    says(clone, "test", f"....\n4 passed, {what} in 1.20s")
    done = run_ci(clone)
    assert done.returncode == 1
    assert what in done.stdout
    assert what in done.stderr


def test_no_test_at_all_is_a_failure(clone: Path) -> None:
    says(clone, "test", "no tests ran in 0.01s")
    done = run_ci(clone)
    assert done.returncode == 1
    assert "No test passed." in done.stderr


@pytest.mark.parametrize("target", ["lint", "test"])
def test_it_fails_when_a_target_does(clone: Path, target: str) -> None:
    says(clone, target, GOOD, status=2)
    assert run_ci(clone).returncode == 2
