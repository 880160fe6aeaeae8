"""Linters of OpenAPI, Redocly and Spectral, find nothing to complain of in the document, by their recommended rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from referral.app import create_app
from referral.contract.openapi import build_openapi
from tests.conftest import MakeConfig
from tests.support.clients import CLIENTS, run_tool


@pytest.fixture
def engine() -> str:
    """The document does not depend on the database."""
    return "sqlite"


@pytest.fixture
def documents(make_config: MakeConfig, tmp_path: Path) -> list[Path]:
    """The document as shipped, and that of an installation which differs in what the document tells."""
    files = []
    for name, config in (
        ("shipped", make_config()),
        ("another", make_config(codes_public_lookup="false", server_public_url="https://shop.test/referrals")),
    ):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(build_openapi(create_app(config), config)))
    return files


def test_redocly_finds_nothing(documents: list[Path], tmp_path: Path) -> None:
    assert redocly(documents, tmp_path) == [[], []]


def test_spectral_finds_nothing(documents: list[Path], tmp_path: Path) -> None:
    assert spectral(documents, tmp_path) == []


def test_the_linters_do_complain_of_a_document_that_gives_reason(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": {"/x": {"get": {}}}}))
    assert any(said.startswith("security-defined: ") for said in redocly([bad], tmp_path)[0])
    assert any(said.startswith("operation-description: ") for said in spectral([bad], tmp_path))


def redocly(documents: list[Path], folder: Path) -> list[list[str]]:
    """What Redocly says of each document, warnings included."""
    done = run_tool("redocly", "lint", *documents, "--config", CLIENTS / "redocly.yaml", "--format", "json", cwd=folder)
    # One JSON document after the other.
    found, rest = [], done.stdout.lstrip()
    while rest:
        report, end = json.JSONDecoder().raw_decode(rest)
        said = [f"{one['ruleId']}: {one['message']} {one['location'][0].get('pointer')}" for one in report["problems"]]
        assert report["totals"]["ignored"] == 0
        found.append(said)
        rest = rest[end:].lstrip()
    assert len(found) == len(documents), done.stderr
    return found


def spectral(documents: list[Path], folder: Path) -> list[str]:
    """What Spectral says of the documents, hints included."""
    rules = ("--ruleset", CLIENTS / "spectral.yaml", "--format", "json")
    done = run_tool("spectral", "lint", *documents, *rules, cwd=folder)
    # Behind an empty list it says in words that there is nothing.
    found, _ = json.JSONDecoder().raw_decode(done.stdout)
    return [f"{one['code']}: {one['message']} {'/'.join(map(str, one['path']))}" for one in found]
