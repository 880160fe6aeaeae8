"""The record of security events: what is in it and what is not, erasure, retention, and `run.py audit`."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest

import run
from referral.clock import DAY, now, rfc_3339
from referral.commands.accounts import create_admin
from referral.commands.audit import list_events
from referral.config import ConfigError
from referral.database.migrate import MIGRATIONS
from referral.database.statements import load_statements
from referral.ids import new_id
from referral.queries.audit import EventName
from tests.conftest import Client, Eventually, MakeClient, MakeConfig
from tests.support.people import PASSWORD, Answer, Person, read_mails, token_in
from tests.support.rows import count, make_admin, sql

MakePerson = Callable[..., Awaitable[Person]]

COLUMNS = ("id", "at", "event", "actor_id", "user_id", "email", "address", "request_id", "detail")
HERE = "127.0.0.1"


async def events(url: str, where: str = "1 = 1") -> list[dict[str, Any]]:
    """The record, oldest first."""
    rows = await sql(url, f"SELECT {', '.join(COLUMNS)} FROM audit_events WHERE {where} ORDER BY at, id")
    return [{**dict(zip(COLUMNS, row, strict=True)), "detail": json.loads(row[-1])} for row in rows]


class Watch:
    """What is recorded from one look to the next."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: set[str] = set()

    async def new(self) -> list[dict[str, Any]]:
        found = [event for event in await events(self.url) if event["id"] not in self.seen]
        self.seen.update(event["id"] for event in found)
        return found

    async def one(
        self,
        answer: Answer,
        event: str,
        *,
        user: str | None = None,
        by: str | None = None,
        email: str | None = None,
        **detail: Any,
    ) -> None:
        """Exactly this is new: of the answer's request, from here, just now."""
        [found] = await self.new()
        assert (found["event"], found["user_id"], found["actor_id"], found["email"]) == (event, user, by, email)
        assert (found["address"], found["request_id"]) == (HERE, answer.headers["X-Request-ID"])
        assert now() - 10_000 < found["at"] <= now()
        assert {name: found["detail"].get(name) for name in detail} == detail


async def form(person: Person, path: str, **members: str) -> Answer:
    """Post a form."""
    return await person.call("POST", path, data=members, headers={"Authorization": ""})


async def test_what_happens_to_a_session_is_recorded(client: Client, database_url: str) -> None:
    watch = Watch(database_url)
    alice = Person(client, "alice@example.com")
    answer = await alice.post("/auth/register", {"email": alice.email, "password": PASSWORD, "username": "alice"})
    alice.id = answer.body["user"]["id"]
    await watch.one(answer, "registered", user=alice.id, by=alice.id)

    await watch.one(await alice.sign_in(), "signed-in", user=alice.id, by=alice.id)
    await watch.one(await alice.sign_in("wrong"), "sign-in-refused", user=alice.id)
    await watch.one(await alice.sign_in("wrong", name="alice"), "sign-in-refused", user=alice.id)
    await watch.one(await alice.sign_in(name="Nobody@Example.com"), "sign-in-refused", email="nobody@example.com")
    # It may be the password, in the wrong field.
    await watch.one(await alice.sign_in(name=PASSWORD), "sign-in-refused")
    await watch.one(await alice.sign_in(name="bob"), "sign-in-refused")

    used = alice.tokens["refresh_token"]
    assert (await alice.refresh(used)).status == 200
    assert (await alice.refresh(used)).status == 200
    assert await watch.new() == [], "that a session goes on is no event, and neither are two tabs that race"
    await sql(database_url, "UPDATE refresh_tokens SET used_at = used_at - 20000 WHERE used_at IS NOT NULL")
    answer = await alice.refresh(used)
    assert answer.status == 400
    await watch.one(answer, "refresh-token-reused", user=alice.id)
    assert (await alice.refresh(used)).status == 400
    assert await watch.new() == [], "nothing ends a second time"

    await alice.sign_in()
    await watch.new()
    answer = await form(alice, "/auth/revoke", token=alice.tokens["refresh_token"])
    await watch.one(answer, "signed-out", user=alice.id, by=alice.id)
    assert (await form(alice, "/auth/revoke", token=alice.tokens["refresh_token"])).status == 200
    assert (await form(alice, "/auth/revoke", token="nonsense")).status == 200
    assert await watch.new() == []
    await alice.sign_in()
    await watch.new()
    answer = await form(alice, "/auth/revoke", token=alice.tokens["access_token"])
    await watch.one(answer, "signed-out", user=alice.id, by=alice.id)

    await alice.sign_in()
    await watch.new()
    session = (await alice.get("/auth/sessions")).body["items"][0]["id"]
    answer = await alice.delete(f"/auth/sessions/{session}")
    assert answer.status == 204
    await watch.one(answer, "session-ended", user=alice.id, by=alice.id, session_id=session)


async def test_what_happens_to_a_password_and_an_address_is_recorded(
    client: Client, person: MakePerson, database_url: str, mail_folder: Path, eventually: Eventually
) -> None:
    watch = Watch(database_url)
    alice = await person("alice")
    await watch.new()
    change = {"current_password": "wrong", "new_password": "another good password"}
    await watch.one(await alice.post("/auth/password/change", change), "password-change-refused", user=alice.id, by=alice.id)
    change["current_password"] = PASSWORD
    await watch.one(await alice.post("/auth/password/change", change), "password-changed", user=alice.id, by=alice.id)

    await eventually(lambda: len(read_mails(mail_folder)) == 1)
    answer = await alice.post("/auth/email/verify", {"token": token_in(read_mails(mail_folder)[0])})
    await watch.one(answer, "email-verified", user=alice.id, by=alice.id)

    for path in ("/auth/password/reset/confirm", "/account/reset"):
        known = set(mail_folder.glob("[!.]*.eml"))
        answer = await alice.post("/auth/password/reset", {"email": "Alice@example.com"})
        await watch.one(answer, "reset-requested", email="alice@example.com")
        await eventually(lambda known=known: set(mail_folder.glob("[!.]*.eml")) - known)
        [new] = set(mail_folder.glob("[!.]*.eml")) - known
        mail = email.message_from_bytes(new.read_bytes(), policy=email.policy.default)
        link = {"token": token_in(mail), "new_password": PASSWORD}
        answer = await (form(alice, path, **link) if path.startswith("/account") else alice.post(path, link))
        assert answer.status in (200, 204)
        await watch.one(answer, "password-reset", user=alice.id, by=alice.id)
        # A second press of its button says that it is done, and does nothing.
        assert (await alice.post("/auth/password/reset/confirm", link)).status == 204
        assert await watch.new() == []
    await alice.sign_in()
    change = {"email": "alice@example.org", "current_password": "wrong"}
    await watch.new()
    await watch.one(await alice.post("/auth/email/change", change), "email-change-refused", user=alice.id, by=alice.id)
    change["current_password"] = PASSWORD
    await watch.one(await alice.post("/auth/email/change", change), "email-change-requested", user=alice.id, by=alice.id)
    [mail] = await eventually(lambda: read_mails(mail_folder, "alice@example.org"))
    answer = await alice.post("/auth/email/verify", {"token": token_in(mail)})
    await watch.one(answer, "email-changed", user=alice.id, by=alice.id)

    mallory = await person("mallory")
    [mail] = await eventually(lambda: read_mails(mail_folder, mallory.email))
    await watch.new()
    answer = await alice.call("POST", "/auth/email/disown", {"token": token_in(mail)}, headers={"Authorization": ""})
    [event] = await watch.new()
    # From where it came is not kept, as with every end of an account.
    assert (event["event"], event["user_id"], event["actor_id"]) == ("account-disowned", mallory.id, None)
    assert (event["address"], event["email"]) == (None, None)
    answer = await alice.post("/auth/password/reset", {"email": "nobody@example.com"})
    await watch.one(answer, "reset-requested", email="nobody@example.com")


async def test_what_happens_to_codes_is_recorded_with_its_admins_by_name(person: MakePerson, database_url: str) -> None:
    watch = Watch(database_url)
    alice, bob, root = await person("alice"), await person("bob"), await person("root")
    await make_admin(database_url, root.id)
    await watch.new()
    mine = {"user": alice.id, "by": alice.id}

    facts: dict[str, Any] = {"code": "FIRST-1", "expires_at": rfc_3339(now() + 10 * DAY), "max_uses": 5}
    await watch.one(await alice.post("/codes", facts), "code-made", **mine, **facts, replaced=None)
    answer = await alice.post("/codes", {"code": "SECOND-2", "ttl_days": 1, "replace": True})
    await watch.one(answer, "code-made", **mine, code="SECOND-2", replaced=["FIRST-1"])
    assert (await alice.post("/codes", {"ttl_days": 1})).status == 409
    assert (await bob.post("/codes", {"code": "FIRST-1", "ttl_days": 1})).status == 409
    assert await watch.new() == [], "what was rolled back did not happen"

    answer = await alice.patch("/codes/current", {"max_uses": 7})
    await watch.one(answer, "code-edited", **mine, code="SECOND-2", max_uses=7)
    answer = await alice.patch("/codes/second-2", {"max_uses": 8})
    await watch.one(answer, "code-edited", **mine, code="SECOND-2", max_uses=8)
    answer = await root.patch("/codes/SECOND-2", {"max_uses": 9})
    await watch.one(answer, "code-edited", user=alice.id, by=root.id, code="SECOND-2", max_uses=9)
    assert (await bob.patch("/codes/SECOND-2", {"max_uses": 9})).status == 403

    answer = await bob.post("/users/me/referrer", {"code": "SECOND-2"})
    await watch.one(answer, "referrer-set", user=bob.id, by=bob.id, code="SECOND-2", referrer_id=alice.id)
    carol = await person("carol", referral_code="SECOND-2")
    [registered] = await watch.new()
    assert (registered["user_id"], registered["detail"]) == (carol.id, {"code": "SECOND-2"})

    answer = await root.delete("/codes/SECOND-2")
    await watch.one(answer, "code-ended", user=alice.id, by=root.id, code="SECOND-2")
    assert (await alice.delete("/codes/SECOND-2")).status == 204
    assert await watch.new() == [], "it had ended"
    for path in ("/codes/current", "/codes/{}"):
        code = await alice.make_code()
        await watch.new()
        await watch.one(await alice.delete(path.format(code)), "code-ended", **mine, code=code)

    await watch.one(await alice.patch("/users/me", {"username": "alina"}), "username-changed", **mine)
    assert "alina" not in repr(await events(database_url))


async def test_look_ups_are_not_recorded(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    before = await count(database_url, "audit_events")
    for path in ("/users/me", "/codes", "/codes/current", f"/codes/{code}", "/users/me/referrals", "/health/ready"):
        assert (await alice.get(path)).status == 200
    assert (await alice.get("/codes/by-email", params={"email": alice.email})).status == 200
    assert (await alice.post("/codes/current/email")).status == 202
    assert (await alice.refresh()).status == 200
    assert await count(database_url, "audit_events") == before


async def test_a_registration_that_is_refused_is_not_recorded_as_one(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    for body in (
        {"email": "alice@example.com", "password": PASSWORD},
        {"email": "bob@example.com", "password": PASSWORD, "referral_code": "NOBODYS1"},
    ):
        assert (await alice.post("/auth/register", body)).status in (409, 422)
    found = [event["event"] for event in await events(database_url)]
    assert found == ["registered", "registration-refused", "registration-refused"]


async def test_a_flood_that_the_limits_hold_off_is_told_once_a_minute(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(limits_enabled="true", limits_login_by_account="2/hour", server_trusted_proxies="127.0.0.1")
    alice = await Person.register(client, "alice")
    statuses = []
    for address in ("10.0.0.1", "10.0.0.2"):
        for _ in range(6):
            data = {"grant_type": "password", "username": alice.email, "password": "wrong"}
            answer = await alice.call("POST", "/auth/token", data=data, headers={"X-Forwarded-For": address})
            statuses.append(answer.status)
    assert statuses == [400, 400, 429, 429, 429, 429] * 2
    found = await events(database_url, "event = 'sign-in-limited'")
    assert [(event["address"], event["email"], event["user_id"]) for event in found] == [
        ("10.0.0.1", None, alice.id),
        ("10.0.0.2", None, alice.id),
    ]


async def test_createsuperuser_is_recorded(make_config: MakeConfig, database_url: str) -> None:
    await create_admin(make_config(), "root@example.com", None, PASSWORD)
    [event] = await events(database_url)
    [(user_id,)] = await sql(database_url, "SELECT id FROM users")
    assert (event["event"], event["user_id"], event["actor_id"], event["address"]) == ("admin-created", user_id, None, None)


async def test_an_erasure_takes_the_addresses_and_leaves_the_events(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice, bob, root = await person("alice"), await person("bob"), await person("root")
    await make_admin(database_url, root.id)
    await alice.make_code(code="ALICES-1")
    assert (await root.patch("/codes/ALICES-1", {"max_uses": 3})).status == 200
    await alice.sign_in("wrong")
    await bob.sign_in("wrong")
    for address in ("Alice@example.com", "bob@example.com"):
        assert (await alice.post("/auth/password/reset", {"email": address})).status == 202
    watch = Watch(database_url)
    before = await watch.new()
    answer = await alice.delete("/users/me", {"password": "wrong"})
    await watch.one(answer, "erasure-refused", user=alice.id, by=alice.id)
    answer = await alice.delete("/users/me", {"password": PASSWORD})
    assert answer.status == 204
    [erased] = await watch.new()
    assert (erased["event"], erased["user_id"], erased["address"]) == ("account-erased", alice.id, None)
    assert (erased["request_id"], erased["detail"]) == (answer.headers["X-Request-ID"], {"code": "ALICES-1"})

    after = {event["id"]: event for event in await events(database_url)}
    assert alice.email not in repr(after)
    for event in before:
        hers = event["email"] == alice.email or (event["user_id"] == alice.id and event["actor_id"] != root.id)
        kept = {**event, "email": None, "address": None} if hers else event
        assert after[event["id"]] == kept, event
    assert {event["event"] for event in before if after[event["id"]] != event} == {
        "registered",
        "code-made",
        "sign-in-refused",
        "reset-requested",
    }


async def test_no_secret_is_in_the_record(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    secrets = {PASSWORD, "a wrong password", "the next password", *alice.tokens.values()} - {"Bearer", 900}
    await alice.sign_in("a wrong password")
    await alice.sign_in(name="a wrong password")
    await alice.sign_in()
    secrets |= {alice.tokens["access_token"], alice.tokens["refresh_token"]}
    await alice.post("/auth/password/change", {"current_password": PASSWORD, "new_password": "the next password"})
    await form(alice, "/auth/revoke", token=alice.tokens["refresh_token"])
    kept = repr(await sql(database_url, "SELECT * FROM audit_events"))
    assert kept.count("alice") == 0
    assert len(await events(database_url)) == 6
    assert not [secret for secret in secrets if secret in kept]


def test_events_are_only_ever_added() -> None:
    for dialect in ("sqlite", "postgres"):
        found = {
            name: re.findall(r"\b(INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|DROP|ALTER)\b", re.sub("--.*", "", statement.sql))
            for name, statement in load_statements(dialect).items()
            if "audit_events" in statement.sql
        }
        assert {name: words for name, words in found.items() if words} == {
            "insert_event": ["INSERT"],
            # Whose count of what strangers caused grows.
            "count_left_out": ["INSERT", "UPDATE"],
            # Whose account had the address that it has no more.
            "adopt_events": ["UPDATE"],
            # Two of an account's erasure, and the retention.
            "erase_addresses": ["UPDATE"],
            "erase_email": ["UPDATE"],
            "delete_old_events": ["DELETE"],
            "delete_old_events_of_nobody": ["DELETE"],
        }
        erasures = " ".join(load_statements(dialect)[name].sql for name in ("erase_addresses", "erase_email"))
        assert set(re.findall(r"(\w+) = NULL", erasures)) == {"email", "address"}


def test_something_records_each_event() -> None:
    listed = get_args(EventName)
    assert len(set(listed)) == len(listed) > 15
    files = (MIGRATIONS.parent / "referral").rglob("*.py")
    # Those apart that name them all.
    sources = "\n".join(
        file.read_text() for file in files if file.parent.name != "queries" and not file.name.startswith("admin_")
    )
    # What was left out is recorded by a statement that names it.
    assert [name for name in listed if f'"{name}"' not in sources] == ["events-left-out"]


# Retention


@pytest.mark.parametrize(("days", "left"), [("365", {"new"}), ("0", {"new", "old"})])
async def test_events_are_kept_as_long_as_the_setting_says(
    make_client: MakeClient, database_url: str, eventually: Eventually, days: str, left: set[str]
) -> None:
    # More than are deleted at a time.
    ages = {"new": now() - 364 * DAY, "old": now() - 366 * DAY}
    rows = [f"('{age}-{number}', {at}, 'signed-in', '{age}', '{{}}')" for age, at in ages.items() for number in range(2_100)]
    await sql(database_url, f"INSERT INTO audit_events (id, at, event, user_id, detail) VALUES {', '.join(rows)}")
    # Housekeeping begins with the service; that it has passed is seen by what it deletes in any case, before the events.
    await sql(
        database_url,
        "INSERT INTO outbox (id, kind, recipient, language, params, created_at, next_attempt_at, failed_at) "
        "VALUES ('mail', 'reset-password', 'x', 'en', '{}', 1, 1, 1)",
    )
    await make_client(audit_keep_days=days)

    async def passed() -> bool:
        kept = {row[0] for row in await sql(database_url, "SELECT DISTINCT user_id FROM audit_events")}
        return await count(database_url, "outbox") == 0 and kept == left

    await eventually(passed)
    assert await count(database_url, "audit_events") == 2_100 * len(left)


# run.py audit


Audit = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def audit(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> Audit:
    """`await audit("--limit", "3")`: the lines that the command prints."""

    async def command(*arguments: str) -> list[str]:
        parsed = run.parser().parse_args(["audit", *arguments])
        capsys.readouterr()
        await asyncio.to_thread(parsed.command, make_config(), parsed)
        return capsys.readouterr().out.splitlines()

    return command


def iso(milliseconds: int) -> str:
    """A time as it may be given: with its offset, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone(timedelta(hours=3))).isoformat(timespec="milliseconds")


def names(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines]


async def test_the_command_prints_a_line_an_event_newest_first(person: MakePerson, database_url: str, audit: Audit) -> None:
    assert await audit() == ["Nothing such was recorded."]
    alice, root = await person("alice"), await person("root")
    await make_admin(database_url, root.id)
    await alice.make_code(code="ALICES-1")
    assert (await root.delete("/codes/ALICES-1")).status == 204
    answer = await alice.sign_in(name="nobody@example.com")
    lines = await audit()
    assert names(lines) == ["sign-in-refused", "code-ended", "code-made", "registered", "registered"]
    request = answer.headers["X-Request-ID"]
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z  sign-in-refused +"
        rf"email=nobody@example\.com address=127\.0\.0\.1 request={request}",
        lines[0],
    )
    assert f" user={alice.id} by={root.id} " in lines[1]
    assert lines[1].endswith(" code=ALICES-1")
    assert " by=" not in lines[2]
    assert await audit("--limit", "2") == lines[:2]


async def test_the_command_prints_json_for_programs(person: MakePerson, audit: Audit) -> None:
    assert await audit("--json") == []
    alice = await person("alice")
    [line] = await audit("--json")
    document = json.loads(line)
    assert document.keys() == set(COLUMNS)
    assert (document["event"], document["user_id"], document["detail"]) == ("registered", alice.id, {})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["at"])


async def test_the_command_finds_by_user_by_kind_and_by_time(person: MakePerson, database_url: str, audit: Audit) -> None:
    alice, bob, root = await person("alice"), await person("bob"), await person("root")
    await make_admin(database_url, root.id)
    await alice.make_code(code="ALICES-1")
    assert (await root.delete("/codes/ALICES-1")).status == 204
    await alice.sign_in("wrong")
    assert (await bob.post("/auth/password/reset", {"email": alice.email})).status == 202
    assert (await bob.post("/auth/password/reset", {"email": "carol@example.com"})).status == 202

    hers = ["reset-requested", "sign-in-refused", "code-ended", "code-made", "registered"]
    for user in (alice.id, alice.id.upper(), alice.email, "ALICE@EXAMPLE.COM"):
        assert names(await audit("--user", user)) == hers, user
    assert names(await audit("--user", root.id)) == ["code-ended", "registered"]
    assert names(await audit("--user", bob.email)) == ["registered"]
    assert names(await audit("--user", "Carol@example.com")) == ["reset-requested"], "no account, and yet something"
    assert await audit("--user", new_id()) == ["Nothing such was recorded."]

    assert names(await audit("--event", "registered")) == ["registered"] * 3
    assert names(await audit("--event", "registered", "--user", alice.id)) == ["registered"]
    assert names(await audit("--user", alice.id, "--limit", "2")) == hers[:2]

    then = now() - 30 * DAY
    await sql(database_url, f"UPDATE audit_events SET at = {then} WHERE event <> 'reset-requested'")
    assert len(await audit("--since", rfc_3339(then)[:10])) == 8
    assert len(await audit("--since", iso(then))) == 8
    assert names(await audit("--since", iso(then + 1))) == ["reset-requested"] * 2
    assert names(await audit("--user", alice.id, "--since", iso(then + 1))) == ["reset-requested"]
    assert len(await audit("--event", "registered", "--since", iso(then))) == 3
    assert await audit("--event", "registered", "--since", iso(then + 1)) == ["Nothing such was recorded."]
    assert await audit("--since", "2999-01-01T00:00:00+02:00") == ["Nothing such was recorded."]

    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    assert names(await audit("--user", alice.id)) == ["account-erased", *hers[1:]], "nameless, but still hers by id"
    assert await audit("--user", alice.email) == ["Nothing such was recorded."]


async def test_the_command_refuses_a_user_who_is_neither_an_id_nor_an_address(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"^--user: must be an id, an e-mail address, or ext: and an external id"):
        await list_events(make_config(), None, "alice", 0, 10)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--since", ""],
        ["--limit", "0"],
        ["--limit", "-1"],
        ["--limit", "all"],
        ["--event", "other"],
    ],
)
def test_the_command_refuses_what_it_cannot_read(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.parser().parse_args(["audit", *arguments])
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err
