"""`run.py demo`: a programme to look at, made by real calls, which is whole and holds what it is to show."""

from __future__ import annotations

import re
from typing import Any

import pytest

from referral.commands.demo import ADMIN
from tests.support.commands import Service, refusal, run_command, serve


@pytest.fixture
def made() -> str:
    """The password of the demo's admin."""
    done = run_command("demo")
    assert done.returncode == 0, done.stderr
    found = re.search(r"^  password  (\S+)$", done.stdout, re.MULTILINE)
    assert found is not None
    assert ADMIN in done.stdout
    return found[1]


def ask(service: Service, token: str, path: str) -> Any:
    status, body = service.call(f"/api/v1{path}", token=token)
    assert status == 200, body
    return body


def test_the_demo_holds_what_it_is_to_show(made: str) -> None:
    assert run_command("verify").stdout.startswith("No difference: ")
    with serve() as service:
        status, tokens = service.sign_in(ADMIN, made)
        assert status == 200, tokens
        token = tokens["access_token"]
        waiting = ask(service, token, "/reviews?status=open")["items"]
        assert "V. Sloan" in [review["user"]["name"] for review in waiting]
        cheat = ask(service, token, "/reviews/ext:1077")
        assert {"same-payment", "same-device"} <= {signal["kind"] for signal in cheat["signals"]}
        undone = ask(service, token, "/reviews/ext:1077/preview")["rewards"]
        assert {reward["effect"] for reward in undone} == {"void", "reversed"}
        totals = ask(service, token, "/stats?from=2020-01-01&interval=month")["totals"]
        assert all(totals[name] for name in ("visitors", "robots", "signups", "converted", "refunds")), totals
        assert service.end() == 0


def test_a_database_with_users_is_left_alone(made: str) -> None:
    assert "has users" in refusal(run_command("demo"))
