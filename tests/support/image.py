"""The container image, without an engine: what the Dockerfile's lines make in an empty folder."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.service import ROOT

# Commands of RUN lines that need root or the network, or whose result the tests' own environment stands for.
ELSEWHERE = ("pip", "useradd", "chown", "python")


def instructions() -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, rest) of every line of the Dockerfile, continued ones joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def first(name: str) -> str:
    """What the only instruction of this name says."""
    [found] = [rest for given, rest in instructions() if given == name]
    return found


def environment() -> dict[str, str]:
    """What ENV sets."""
    return dict(re.findall(r"(\w+)=(\S+)", first("ENV")))


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the project from the build: the last pattern that matches it decides."""
    found = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        # A pattern matches a path when it matches it or a folder that holds it.
        for end in range(1, len(parts) + 1):
            head = "/".join(parts[:end])
            if fnmatch.fnmatch(head, pattern) or (
                pattern.startswith("**/") and fnmatch.fnmatch(parts[end - 1], pattern[3:])
            ):
                found = not line.startswith("!")
    return found


def built(root: Path) -> Path:
    """An empty folder in which the Dockerfile's lines were followed, as far as they need neither root nor the network."""
    work = root / first("WORKDIR").removeprefix("/")
    work.mkdir(parents=True)
    for name, rest in instructions():
        if name == "COPY":
            *sources, target = shlex.split(rest)
            assert len(sources) == 1 or target.endswith("/")
            for source in sources:
                _copy(source, work / target)
        if name == "RUN":
            for command in rest.split(" && "):
                if shlex.split(command)[0] not in ELSEWHERE:
                    subprocess.run(re.sub(r"(?<= )/", f"{root}/", command), shell=True, cwd=work, check=True)
    return root


def _copy(source: str, target: Path) -> None:
    """COPY of a file or of a folder's contents, of what is not ignored."""
    assert (ROOT / source).exists(), source
    files = sorted(path for path in (ROOT / source).rglob("*") if path.is_file()) or [ROOT / source]
    for file in files:
        path = file.relative_to(ROOT).as_posix()
        if not ignored(path):
            place = target / (file.relative_to(ROOT / source) if (ROOT / source).is_dir() else file.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
