"""requests.http: httpYac runs it whole, every answer has the status that its title says, and VS Code finds its variables."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import run_tool
from tests.support.people import read_mails, text_of, token_in
from tests.support.servers import wait_until
from tests.support.service import ROOT, run_py, serving

HOST, PASTED, KEY = "http://127.0.0.1:8000", "the-token-of-a-mailed-link", "the-service-key"
FILE = (ROOT / "requests.http").read_text()
# The statuses in a title: that of the tour and, where a token is to be pasted, that without one.
STATUSES = re.compile(r"\((\d{3})(?:, and (\d{3}) until its token is pasted)?\)$")

# One run for all of these tests.
pytestmark = pytest.mark.xdist_group("requests-http")


@dataclass
class Tour:
    """A run of the whole file against a fresh service, which still runs."""

    address: str
    folder: Path
    # (title, answer) in the order of the file.
    answers: list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    folder = tmp_path_factory.mktemp("tour")
    # As `make run` serves: with every limit.
    with serving(folder) as address:
        create = [*run_py(folder), "keys", "create", "tour", "--scope", "admin"]
        environ = {"PATH": os.environ["PATH"]}
        made = subprocess.run(create, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=True)
        (folder / "key").write_text(made.stdout.strip())
        yield Tour(address, folder, run(address, folder, "--all"))


def run(address: str, folder: Path, *which: str, token: str = PASTED) -> list[tuple[str, dict[str, Any]]]:
    text = FILE.replace(HOST, address).replace(PASTED, token).replace(KEY, (folder / "key").read_text())
    (folder / "requests.http").write_text(text)
    done = run_tool("httpyac", "send", "requests.http", *which, "--json", "--output", "response", "--raw", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return [(request["title"], request["response"]) for request in json.loads(done.stdout)["requests"]]


def test_every_request_is_answered_as_its_title_says(tour: Tour) -> None:
    titles = re.findall(r"^### (.+)$", FILE, re.MULTILINE)
    assert [title for title, _ in tour.answers] == titles
    for title, answer in tour.answers:
        said = STATUSES.search(title)
        assert said, title
        assert answer["statusCode"] == int(said[2] or said[1]), (title, answer.get("body"))


def test_with_its_token_pasted_a_mailed_link_does_what_its_title_says(tour: Tour) -> None:
    mails = tour.folder / "var" / "mail"
    due = [title for title in re.findall(r"^### (.+)$", FILE, re.MULTILINE) if "pasted" in title]
    assert len(due) == 2

    def linking(page: str) -> list[EmailMessage]:
        return [mail for mail in read_mails(mails, "bob@example.com") if f"{page}?token=" in text_of(mail)]

    # He asked for another mail to verify his address.
    wait_until(lambda: len(linking("/account/verify")) == 2 and len(linking("/account/reset")) == 1)
    for title, page in zip(due, ("/account/verify", "/account/reset"), strict=True):
        [(_, answer)] = run(tour.address, tour.folder, "--name", title, token=token_in(linking(page)[-1]))
        assert answer["statusCode"] == 204, (title, answer.get("body"))


def test_vs_code_finds_each_variable_in_the_answer_of_the_request_that_it_names(tour: Tour) -> None:
    """By its JSONPath. httpYac and JetBrains' client have them from scripts, of which there is one for each."""
    names = re.findall(r"^### (.+)\n(?:[#@].*\n)*?# @name (\w+)$", FILE, re.MULTILINE)
    bodies = {name: json.loads(dict(tour.answers)[title]["body"]) for title, name in names}
    variables = re.findall(r"^@(\w+) = {{(\w+)\.response\.body\.(.+)}}$", FILE, re.MULTILINE)
    assert len(variables) == FILE.count(".response.body.")
    for variable, name, path in variables:
        assert isinstance(at(bodies[name], path), str), variable
    assert {variable for variable, _, _ in variables} == set(re.findall(r'client\.global\.set\("(\w+)"', FILE))


def at(document: Any, path: str) -> Any:
    """What is at a JSONPath of names and places, such as `[1]`, the second one."""
    for name, place in re.findall(r"([a-z]\w*)|\[(\d+)\]", path):
        document = document[name] if name else document[int(place)]
    return document


def test_what_only_some_clients_understand_stands_in_the_requests_that_are_marked() -> None:
    """VS Code's client sends what it does not know as the body."""
    for part in FILE.split("\n### ")[1:]:
        assert part.startswith("* ") == ("\n> {%" in part), part
        assert not re.search(r"^(\?\?|< |\{\{)", part, re.MULTILINE), part
