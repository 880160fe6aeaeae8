"""The Makefile and `tools/`: the list of targets, a copy in a path with a space, and a Python that will not do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = (
    "Makefile",
    "run.py",
    "config.toml",
    "requirements.txt",
    "requirements-dev.txt",
    "referral",
    "sql",
    "migrations",
    "tools",
)


def test_help_lists_every_target_with_its_comment() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(" ".join(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)).split())
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", shown, re.MULTILINE))
    assert listed.keys() == phony
    assert {"run", "test", "lint", "help"} <= phony
    for target, comment in listed.items():
        assert f" ## {comment}\n" in makefile, target
    bare = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert bare == shown


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project in a path with a space; its environment finds the packages installed here, and downloads none."""
    folder = tmp_path / "my copy of it"
    folder.mkdir()
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    venv.create(folder / ".venv", symlinks=True)
    [packages] = (folder / ".venv").glob("lib/python3.*/site-packages")
    (packages / "installed-here.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return folder


def make_run(folder: Path, database: str = "var/referral.db") -> tuple[subprocess.Popen[str], str]:
    """`make run` in the folder, and the address that it serves on."""
    environ = {"PATH": os.environ["PATH"], "REFERRAL_SERVER_PORT": "0", "PIP_NO_INDEX": "1"}
    environ["REFERRAL_DATABASE_URL"] = f"sqlite:///{database}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["make", "--no-print-directory", "run"],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.match(r"Serving on (\S+) ", line)
        if found:
            return process, found[1]
    raise AssertionError(lines + (folder / "log").read_text().splitlines())


def test_make_run_serves_from_a_path_with_a_space_twice_at_once(copy: Path) -> None:
    services = [make_run(copy)]
    try:
        assert (copy / ".venv" / "run.stamp").exists()
        # The second start finds everything set up.
        (copy / "tools" / "make-venv").unlink()
        services.append(make_run(copy, "var/other.db"))
        assert len({address for _, address in services}) == 2
        for _, address in services:
            with urlopen(f"{address}/health/ready", timeout=10) as response:
                assert response.status == 200
        assert (copy / "var" / "referral.db").exists()
        assert "Installing" not in (copy / "log").read_text()
    finally:
        for process, _ in services:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


def test_new_requirements_are_installed_at_the_next_start(copy: Path) -> None:
    def what_make_would_do() -> str:
        return subprocess.run(["make", "-n", "run"], cwd=copy, check=True, capture_output=True, text=True).stdout

    assert "pip install" in what_make_would_do()
    (copy / ".venv" / "run.stamp").touch()
    assert "pip install" not in what_make_would_do()
    os.utime(copy / ".venv" / "run.stamp", (1, 1))
    assert "pip install" in what_make_would_do()


def make_venv(python: Path | str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "tools" / "make-venv"), str(python), str(folder)],
        env={"PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )


def a_python(folder: Path, script: str) -> Path:
    """A program that answers what `make-venv` asks of a Python."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH without a package manager: nothing may be installed on the machine that runs the tests."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "dirname", "rm", "id"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return str(folder)


OLD = 'case "$1" in --version) echo Python 3.10.4;; *) exit 1;; esac'
WITHOUT_VENV = 'case "$2" in *version_info\\ *) exit 0;; *ensurepip*) exit 1;; *print*) echo python3.12-venv;; esac'


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "There is no {python}. Install Python 3.11 or newer, or name one: make PYTHON="),
        (OLD, "Python 3.10.4 is too old: Python 3.11 or newer is needed."),
        (WITHOUT_VENV, "Missing: python3.12-venv (by Debian's names)."),
    ],
)
def test_a_python_that_will_not_do_is_told_in_one_line_and_nothing_is_touched(
    tmp_path: Path, bare_path: str, script: str | None, expected: str
) -> None:
    folder = tmp_path / "venv"
    folder.mkdir()
    (folder / "kept").touch()
    python = a_python(tmp_path, script) if script else tmp_path / "no-such-python"
    done = make_venv(python, folder, bare_path)
    assert done.returncode == 1
    assert done.stderr.startswith(expected.format(python=python))
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert (folder / "kept").exists()


def test_make_venv_makes_one_in_a_path_with_a_space(tmp_path: Path, bare_path: str) -> None:
    asked = tmp_path / "asked"
    python = a_python(tmp_path, f'[ "$1" != -m ] || printf "%s|" "$@" > "{asked}"')
    done = make_venv(python, tmp_path / "a venv", bare_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert asked.read_text() == f"-m|venv|{tmp_path}/a venv|"


def test_makefile_and_tools_name_no_path_of_one_machine() -> None:
    for file in (ROOT / "Makefile", *(ROOT / "tools").iterdir()):
        text = file.read_text().removeprefix("#!/bin/sh")
        paths = set(re.findall(r"(?<![\w.$})])/[a-z][\w/.-]*", text))
        assert paths <= {"/bin/sh", "/dev/null", "/path/to/python3.11", "/docs"}, file.name
    assert sys.executable not in (ROOT / "Makefile").read_text()
