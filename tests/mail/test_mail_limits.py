"""How many mails one address gets, whoever causes them, from however many networks, and by whatever calls."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from referral import limits as rate_limits
from tests.conftest import MakeClient
from tests.support.networks import BEHIND_PROXY, of
from tests.support.people import PASSWORD, Person, read_mails
from tests.support.rows import outbox_is_empty

LIMITED = {
    **BEHIND_PROXY,
    "limits_enabled": "true",
    "limits_mail_by_account": "3/hour",
    "limits_reset_by_account": "2/15 minutes",
}
VICTIM = "Victim@Example.com"


@pytest.fixture
def engine() -> str:
    return "sqlite"


async def test_accounts_that_come_and_go_mail_an_address_no_more_than_one_that_stays(
    make_client: MakeClient, mail_folder: Path, database_url: str, eventually: Callable[..., Any]
) -> None:
    client = await make_client(**LIMITED)
    asked: Counter[str] = Counter()
    for network in range(8):
        body = {"email": VICTIM if network % 2 else VICTIM.lower(), "password": PASSWORD}
        attacker = Person(client, VICTIM)
        answer = await attacker.post("/auth/register", body, headers=of(network))
        # The mail is left out, not the account.
        assert answer.status == 201
        attacker.tokens = answer.body
        await attacker.make_code()
        for kind, path in (("verification", "/auth/email/verify/resend"), ("code", "/codes/current/email")):
            answer = await attacker.call("POST", path, headers=of(100 + network))
            assert answer.status in (202, 429)
            asked[kind] += answer.status == 202
        assert (await attacker.delete("/users/me", {"password": PASSWORD})).status == 204
    assert asked["verification"] < 3
    assert asked["code"] == 3
    await eventually(lambda: outbox_is_empty(database_url))
    assert len(list(mail_folder.glob("*.eml"))) <= 6


async def test_strangers_who_ask_for_resets_lock_the_owner_out_for_a_quarter_of_an_hour_at_most(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))
    client = await make_client(**LIMITED)
    alice = await Person.register(client, "alice")
    nobody = Person(client, "")

    async def ask(network: int) -> Any:
        return await nobody.post("/auth/password/reset", {"email": alice.email}, headers=of(network))

    assert [(await ask(network)).status for network in range(4)] == [202, 202, 429, 429]
    wait = int((await ask(9)).headers["Retry-After"])
    assert wait <= 900
    # Refusals do not make it longer.
    passed[0] = wait
    assert (await ask(10)).status == 202


async def test_registrations_that_fail_use_up_nobodys_verification(
    make_client: MakeClient, mail_folder: Path, eventually: Callable[..., Any]
) -> None:
    client = await make_client(**LIMITED)
    await Person.register(client, "alice")
    nobody = Person(client, "")
    for network in range(5):
        body = {"email": VICTIM, "password": PASSWORD, "username": "alice"}
        assert (await nobody.post("/auth/register", body, headers=of(network))).status == 409
    victim = await Person.register(client, "victim", email=VICTIM)
    await eventually(lambda: read_mails(mail_folder, VICTIM.replace("Example", "example")))
    assert (await victim.post("/auth/email/verify/resend")).status == 202


async def test_strangers_who_want_an_address_keep_nobody_from_it_for_long(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED)
    alice, mallory = await Person.register(client, "alice"), await Person.register(client, "mallory")
    body = {"email": "new@example.org", "current_password": PASSWORD}
    assert [(await mallory.post("/auth/email/change", body)).status for _ in range(3)] == [202, 202, 429]
    refused = await alice.post("/auth/email/change", body)
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) <= 900
