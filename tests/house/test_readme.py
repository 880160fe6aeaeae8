"""README and requests.http: what is typed gives what is shown, the settings are those of config.toml, no call is missing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import run
from referral.app import create_app
from referral.contract.openapi import build_openapi
from tests.conftest import MakeConfig
from tests.support.people import API
from tests.support.service import ROOT, serving, without_slowness

README = (ROOT / "README.md").read_text()
SEPARATOR = "--- next block ---"


@pytest.fixture
def engine() -> str:
    """The tour is that of the default."""
    return "sqlite"


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def masked(text: str) -> str:
    """Text without what differs each time: ids, times and codes."""
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    return re.sub(r"\b[0-9A-HJKMNP-TV-Z]{8}\b", "CODE", text).strip()


def steps_of(title: str) -> list[tuple[str, str]]:
    """The commands of a section, each block with the answer that is shown below it; a block without one prints nothing."""
    steps: list[tuple[str, str]] = []
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL):
        if kind == "bash":
            steps.append((text, ""))
        elif kind in ("", "json"):
            assert steps[-1][1] == ""
            assert text.strip(), "an empty answer is shown"
            steps[-1] = (steps[-1][0], text)
    return steps


@pytest.mark.parametrize(("title", "count"), [("A two-minute tour", 9), ("Beside your own users", 1)])
def test_what_is_typed_as_it_stands_gives_what_is_shown(title: str, count: int, tmp_path: Path) -> None:
    steps = steps_of(title)
    assert len(steps) == count
    with serving(tmp_path, REFERRAL_LINKS_DESTINATION="https://example.com/welcome") as address:
        script = f"echo '{SEPARATOR}'\n".join(commands for commands, _ in steps).replace("http://127.0.0.1:8000", address)
        script = script.replace(".venv/bin/python", shlex.quote(sys.executable))
        assert address in script
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
    assert without_slowness(done.stderr) == ""
    printed = done.stdout.split(SEPARATOR)
    assert len(printed) == len(steps), done.stdout
    for (commands, shown), answer in zip(steps, printed, strict=True):
        assert masked(answer) == masked(shown), commands


def test_the_tour_shows_what_the_service_is_for() -> None:
    tour = section("A two-minute tour")
    for said in (
        '"referrer"',
        '"email": "bob@example.com"',
        "Subject: Your referral code",
        "204",
        "referral-code-invalid",
        '"revoked"',
    ):
        assert said in tour


def test_the_settings_table_has_every_setting_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(\w+\.\w+)` \| (.*?) \| \S.* \|$", section("Settings"), re.MULTILINE))
    config = tomllib.loads((ROOT / "config.toml").read_text())
    expected = {f"{part}.{key}": shown(value) for part, values in config.items() for key, value in values.items()}
    assert table == expected


def shown(value: Any) -> str:
    """A default as the table shows it."""
    if value in ("", []):
        return "empty"
    if isinstance(value, list):
        return f"`{', '.join(value)}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def test_what_the_readme_points_at_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    tree = re.findall(r"^(\S+/?) {2,}", section("How it is built"), re.MULTILINE)
    assert len(tree) == 7
    for target in tree:
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^  (\w+/) ", section("How it is built"), re.MULTILINE):
        assert (ROOT / "referral" / folder).is_dir(), folder
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?\bmake ([a-z]+)\b", README):
        assert f"\n{target}:" in makefile, target


def test_files_that_the_documents_name_are_there() -> None:
    invented = re.compile(r"gifts|DOMAIN|NNNN")  # CONTRIBUTING.md's examples
    documents = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        for name in re.findall(r"`([\w./]+\.(?:py|sql|toml))`", document.read_text()):
            found = any((ROOT / folder / name).exists() for folder in ("", "referral", "tests"))
            assert found or invented.search(name) or name == ".rollback.sql", (document, name)


def test_every_test_that_stands_for_the_security_of_a_chapter_exists() -> None:
    text, checked = (ROOT / "SECURITY.md").read_text(), 0
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in file.parts]
    for file, names in re.findall(r"(test_\w+\.py)::((?:test_\w+(?:, )?)+)", text):
        # Rooms have files of the same name.
        source = "\n".join(found.read_text() for found in files if found.name == file)
        for name in names.rstrip(", ").split(", "):
            assert f"def {name}(" in source, f"{file}::{name}"
            checked += 1
    assert checked > 80


def test_every_command_of_the_readme_exists() -> None:
    commands = [shlex.split(found) for found in re.findall(r"`python run\.py ([^`]+)`", README)]
    assert {command[0] for command in commands} >= {"migrate", "createsuperuser"}
    for command in commands:
        run.parser().parse_args(command)


class Requests:
    """requests.http as its clients read it."""

    def __init__(self, text: str) -> None:
        self.variables = dict(re.findall(r"^@(\w+) = (.*)$", text, re.MULTILINE))
        self.calls: list[tuple[str, str, dict[str, str], str]] = []
        for part in text.split("\n###")[1:]:
            # Comments, variables, and the script that some clients run with the answer.
            lines = [line for line in part.partition("\n> {%")[0].splitlines()[1:] if not line.startswith(("# ", "@"))]
            head, _, body = "\n".join(lines).strip().partition("\n\n")
            request, *headers = head.splitlines()
            method, _, url = request.partition(" ")
            self.calls.append((method, self.filled(url), dict(line.split(": ", 1) for line in headers), body.strip()))

    def filled(self, text: str) -> str:
        """Text with its variables put in. Raises KeyError for one that is not there."""
        while found := re.search(r"{{(\w+)}}", text):
            text = text.replace(found[0], self.variables[found[1]])
        return text


def test_requests_http_has_every_call_of_the_api_and_none_that_does_not_exist(make_config: MakeConfig) -> None:
    config = make_config()
    app = create_app(config)
    document = build_openapi(app, config)
    requests = Requests((ROOT / "requests.http").read_text())
    left_out = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and hasattr(route.handler, "__undocumented__")
    }
    called = set()
    for method, url, headers, body in requests.calls:
        path = re.sub(r"{{[\w.]+}}", "x", url).removeprefix(requests.variables["host"]).partition("?")[0]
        if (method, path) in left_out:
            assert not headers, (method, path)
            called.add((method, path))
            continue
        candidates = [
            template
            for template, item in document["paths"].items()
            if method.lower() in item and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
        ]
        assert candidates, f"{method} {path}"
        template = min(candidates, key=lambda template: template.count("{"))
        operation = document["paths"][template][method.lower()]
        called.add((method, template))
        assert ("Authorization" in headers) == bool(operation["security"]), (method, template)
        if "requestBody" in operation:
            assert headers["Content-Type"] in operation["requestBody"]["content"], (method, template)
            if headers["Content-Type"] == "application/json":
                sent = json.loads(re.sub(r"{{[\w.]+}}", "x", requests.filled(body)))
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                known = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                assert sent.keys() <= known["properties"].keys(), (method, template)
                assert sent.keys() >= set(known.get("required", ())), (method, template)
        else:
            assert not body, (method, template)
    api = {(method.upper(), path) for path, item in document["paths"].items() for method in item if path.startswith(API)}
    assert api | {("GET", path) for path in ("/health/live", "/health/ready", "/metrics")} <= called
