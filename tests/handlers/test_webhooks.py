"""Webhooks and their deliveries, as admins make, change, try, rotate, replay and delete them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from standardwebhooks import WebhookVerificationError

from referral import clock
from referral.auth.sealing import SEAL
from referral.background import webhook_upkeep
from referral.background.relay import RELAY
from referral.clock import rfc_3339
from referral.database import is_postgres, sqlite_path
from referral.queries import deliveries as delivery_queries
from referral.rules import webhooks as rules
from referral.rules import work
from tests.conftest import Client, Eventually, MakeClient
from tests.support.hooks import LOOPBACK, Advance, Hook, add_changes, add_deliveries, ids, signed
from tests.support.people import UNKNOWN, Answer, Person, Product
from tests.support.receivers import Receiver, answer, held, running_receiver
from tests.support.rows import count, make_admin, sql

ONCE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"])
AT_ONCE = 32
# Nobody listens there; a name would have to be looked up.
URL = "https://127.0.0.1:1/hooks"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(**LOOPBACK)


@pytest.fixture
async def admin(client: Client) -> Product:
    return await Product.with_key(client, "admin")


@pytest.fixture
async def hook(admin: Product, receiver: Receiver) -> Hook:
    """A webhook of the receiver's that wants everything."""
    return await Hook.make(admin, receiver.url())


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """`advance(60)`: it is a minute later."""
    real, offsets = clock.now, [0]
    for module in (clock, work):
        monkeypatch.setattr(module, "now", lambda: real() + sum(offsets))
    return lambda seconds: offsets.append(int(seconds * clock.SECOND))


async def quiet(hook: Hook, url: str) -> None:
    """Disable a webhook past the service, whose rows are a test's then."""
    await sql(
        url, f"UPDATE webhooks SET status = 'disabled', disabled_at = 0, disabled_reason = 'A test' WHERE id = '{hook.id}'"
    )


# Making, showing, changing


async def test_a_webhook_is_made_and_shown_without_its_secret_ever_after(admin: Product) -> None:
    made = await admin.post("/webhooks", {"url": f"{URL}?key=k", "types": ["reward.*", "user.created"]})
    assert made.status == 201
    secret = made.body.pop("secret")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    assert made.headers["Cache-Control"] == "no-store"
    assert made.headers["Location"].endswith(f"/api/v1/webhooks/{made.body['id']}")
    assert made.body == {
        "id": made.body["id"],
        "url": f"{URL}?key=k",
        "types": ["reward.*", "user.created"],
        "status": "enabled",
        "disabled_reason": None,
        "failing_since": None,
        "created_at": made.body["created_at"],
    }
    assert (await admin.get(made.headers["Location"].partition("8000")[2] or made.headers["Location"])).body == made.body
    second = (await admin.post("/webhooks", {"url": URL, "types": ["*"]})).body
    assert second.pop("secret") != secret
    listed = (await admin.get("/webhooks")).body
    assert (listed["items"], listed["total"]) == ([second, made.body], 2)
    first_page = (await admin.get("/webhooks?limit=1")).body
    assert first_page["items"] == [second]
    assert (await admin.get(f"/webhooks?limit=1&cursor={first_page['next_cursor']}")).body["items"] == [made.body]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.2/", "127.0.0.2"),
        ("https://10.1.2.3/", "10.1.2.3"),
        ("https://[::1]/", "::1"),
        ("https://[::ffff:127.0.0.2]/", "::ffff:"),
        ("http://192.0.2.1/", "192.0.2.1"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://8.8.8.8/", "8.8.8.8"),
        ("https://localhost/", "localhost"),
    ],
)
@ONCE_SQLITE
async def test_what_leads_into_the_operators_network_is_refused_with_address_and_setting(
    make_client: MakeClient, url: str, address: str
) -> None:
    admin = await Product.with_key(await make_client(), "admin")
    refused = await admin.post("/webhooks", {"url": url, "types": ["*"]})
    assert (refused.status, refused.problem) == (422, "url-not-allowed")
    assert address in refused.body["detail"]
    assert "webhooks.allowed_networks" in refused.body["detail"]
    hook = await Hook.make(admin, "https://8.8.8.8/")
    assert (await admin.patch(f"/webhooks/{hook.id}", {"url": url})).problem == "url-not-allowed"
    assert (await hook.get())["url"] == "https://8.8.8.8/"


@ONCE_SQLITE
async def test_what_is_no_url_or_no_type_is_refused_by_its_member(admin: Product) -> None:
    for url in (
        "ftp://a.example.com/",
        "https://",
        "https://a b.example.com/",
        "https://a.example.com/#part",
        "https://user:word@a.example.com/",
        "https://a.example.com:0/",
        "https://a.example.com:99999/",
        "https://0x7f.1/",
        "https://2130706433/",
        "//a.example.com/hook",
        "https://a.example.com/\x00",
        "https://a.example.com/" + "x" * 2_000,
        "",
        17,
        None,
        ["https://a.example.com/"],
    ):
        assert (await admin.post("/webhooks", {"url": url, "types": ["*"]})).pointers == ["/url"], url
    for types in (
        [],
        ["user"],
        ["User.created"],
        ["user.*", "user.*"],
        ["*", "made.up"],
        "*",
        None,
        [["*"]],
        [17],
        ["ping "],
    ):
        found = (await admin.post("/webhooks", {"url": URL, "types": types})).pointers
        assert {pointer.split("/")[1] for pointer in found} == {"types"}, types
    assert (await admin.post("/webhooks", {"url": URL, "types": ["*"], "secret": "mine"})).pointers == ["/secret"]
    assert set((await admin.post("/webhooks", {})).pointers) == {"/url", "/types"}
    assert (await admin.get("/webhooks")).body["total"] == 0


@ONCE_SQLITE
async def test_a_name_that_does_not_resolve_yet_is_taken(admin: Product) -> None:
    hook = await Hook.make(admin, "https://not-there-yet.invalid/hook")
    tried = (await hook.post("test")).body
    assert tried["status"] is None
    assert "not-there-yet.invalid" in tried["error"]


CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "", None),
    ("PATCH", "", {"url": URL}),
    ("DELETE", "", None),
    ("POST", "/rotate", None),
    ("POST", "/test", None),
    ("POST", "/replay", {"since": "2027-01-01T00:00:00Z"}),
    ("GET", "/deliveries", None),
    ("GET", f"/deliveries/{UNKNOWN}", None),
    ("POST", f"/deliveries/{UNKNOWN}/retry", None),
)


@ONCE_SQLITE
async def test_whoever_is_no_admin_may_do_nothing_with_webhooks(client: Client, hook: Hook, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    callers = [await Product.with_key(client, "read"), await Product.with_key(client, "write"), alice]
    for caller in callers:
        for method, path, body in CALLS:
            refused = await caller.call(method, f"/webhooks/{hook.id}{path}", body)
            assert (refused.status, refused.problem) == (403, "forbidden"), (method, path)
        assert (await caller.post("/webhooks", {"url": URL, "types": ["*"]})).status == 403
        assert (await caller.get("/webhooks")).status == 403
    nobody = Person(client, "")
    for method, path, body in CALLS:
        assert (await nobody.call(method, f"/webhooks/{hook.id}{path}", body)).status == 401
    await make_admin(database_url, alice.id)
    await alice.sign_in()
    assert (await alice.get(f"/webhooks/{hook.id}")).status == 200


@ONCE_SQLITE
async def test_a_webhook_that_is_not_there_is_not_found_by_any_call(admin: Product, hook: Hook) -> None:
    await hook.delete()
    for name in (UNKNOWN, "nonsense", "%00", hook.id):
        for method, path, body in CALLS:
            assert (await admin.call(method, f"/webhooks/{name}{path}", body)).problem == "not-found", (name, method, path)


async def test_a_change_of_a_webhook_changes_what_it_names_and_no_more(admin: Product, receiver: Receiver) -> None:
    hook = await Hook.make(admin, URL, "reward.*")
    before = await hook.get()
    assert await hook.change() == before
    assert await hook.change(types=["user.created"]) == {**before, "types": ["user.created"]}
    assert await hook.change(url=receiver.url()) == {**before, "types": ["user.created"], "url": receiver.url()}
    for member, value in (
        ("status", "deleted"),
        ("status", ""),
        ("url", "nonsense"),
        ("types", []),
        ("secret", "x"),
        ("id", "x"),
    ):
        assert (await admin.patch(f"/webhooks/{hook.id}", {member: value})).pointers[0].startswith(f"/{member}")
    await hook.change(status="disabled", types=["user.*"])
    found = await hook.get()
    assert (found["status"], found["disabled_reason"], found["types"]) == ("disabled", "An admin disabled it.", ["user.*"])
    # A change of something else enables nothing.
    assert (await hook.change(types=["code.*"]))["status"] == "disabled"
    assert await hook.change(status="disabled") == {**found, "types": ["code.*"]}
    enabled = await hook.change(status="enabled")
    assert (enabled["status"], enabled["disabled_reason"], enabled["failing_since"]) == ("enabled", None, None)


@ONCE_SQLITE
async def test_a_webhook_that_an_admin_disables_is_told_of_once(admin: Product, hook: Hook, eventually: Eventually) -> None:
    other = await Hook.make(admin, URL, "webhook.*")
    for _ in range(2):
        await hook.change(status="disabled")
    await eventually(lambda: admin.client.app[RELAY]._last_seq)
    await asyncio.sleep(0.1)
    told = (await admin.get("/changes?types=webhook.*")).body["items"]
    assert [(change["type"], change["subject_id"]) for change in told] == [("webhook.disabled", hook.id)]
    # A query may hold what other readers of the feed are not to know.
    view = await hook.get()
    url, _, query = view["url"].partition("?")
    assert query
    assert told[0]["data"] == {**view, "url": url}
    assert [delivery["type"] for delivery in await other.deliveries()] == ["webhook.disabled"]


async def test_there_are_never_more_webhooks_than_an_installation_may_have(admin: Product, database_url: str) -> None:
    hook = await Hook.make(admin, URL)
    await sql(
        database_url,
        "INSERT INTO webhooks (id, url, types, status, secret, created_at, disabled_at, disabled_reason) "
        + " UNION ALL ".join(
            f"SELECT 'w{number}', '{URL}', '[\"*\"]', 'disabled', 'x', {number}, 1, 'x'"
            for number in range(rules.MOST_WEBHOOKS - 9)
        ),
    )
    answers = await asyncio.gather(*(admin.post("/webhooks", {"url": URL, "types": ["*"]}) for _ in range(AT_ONCE)))
    assert Counter(one.status for one in answers) == {201: 8, 409: AT_ONCE - 8}
    assert {one.problem for one in answers if one.status == 409} == {"too-many-webhooks"}
    assert (await admin.get("/webhooks")).body["total"] == rules.MOST_WEBHOOKS
    await hook.delete()
    assert (await admin.post("/webhooks", {"url": URL, "types": ["*"]})).status == 201


# Secrets


async def test_a_ping_is_a_real_message_and_its_result_is_the_answer(hook: Hook, receiver: Receiver) -> None:
    tried = await hook.post("test")
    assert tried.status == 200
    assert (tried.body["status"], tried.body["error"]) == (200, None)
    assert 0 <= tried.body["milliseconds"] < 5_000
    body = signed(receiver.seen[0], hook.secret)
    assert body == {
        "type": "ping",
        "timestamp": body["timestamp"],
        "subject_id": hook.id,
        "version": 0,
        "data": {"webhook_id": hook.id},
    }
    receiver.replies_with(answer(503, b"Come back " + b"later" * 200))
    tried = await hook.post("test")
    assert (tried.body["status"], tried.body["error"]) == (503, ("Come back " + "later" * 200)[:500])
    # Whatever types it wants, and whether or not it is enabled; and that is no failure of a delivery.
    await hook.change(types=["code.*"], status="disabled")
    receiver.replies_with(answer(204))
    assert (await hook.post("test")).body["status"] == 204
    assert (await hook.get())["failing_since"] is None
    assert len(set(ids(receiver))) == 3
    await receiver.stop()
    tried = await hook.post("test")
    assert (tried.status, tried.body["status"]) == (200, None)
    assert tried.body["error"] == "no connection to 127.0.0.1: Connection refused"


async def test_after_a_rotation_both_secrets_sign_for_a_day(hook: Hook, receiver: Receiver, advance: Advance) -> None:
    rotated = await hook.post("rotate")
    assert (rotated.status, rotated.headers["Cache-Control"]) == (200, "no-store")
    secret = rotated.body.pop("secret")
    assert secret != hook.secret
    assert rotated.body == await hook.get()
    await hook.post("test")
    signed(receiver.seen[-1], hook.secret, secret)
    # The oldest of three signs no more.
    third = (await hook.post("rotate")).body["secret"]
    await hook.post("test")
    signed(receiver.seen[-1], secret, third)
    with pytest.raises(WebhookVerificationError):
        signed(receiver.seen[-1], hook.secret)
    assert len(receiver.seen[-1].headers["webhook-signature"].split()) == 2
    advance(86_400 - 5)
    await hook.post("test")
    assert len(receiver.seen[-1].headers["webhook-signature"].split()) == 2
    advance(10)
    await hook.post("test")
    assert len(receiver.seen[-1].headers["webhook-signature"].split()) == 1


async def test_no_secret_lies_in_the_database_or_is_shown_again(
    hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    secrets = [hook.secret, (await hook.post("rotate")).body["secret"]]
    await hook.admin.user("alice")
    await eventually(lambda: hook.are(delivered=1))
    await hook.change(status="disabled")
    await hook.change(status="enabled")
    sealed = await sql(database_url, "SELECT secret, previous_secret FROM webhooks")
    assert [hook.admin.client.app[SEAL].open(text) for text in sealed[0]] == secrets[::-1]
    if is_postgres(database_url):
        tables = await sql(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        stored = "".join([str(await sql(database_url, f"SELECT * FROM {name}")) for (name,) in tables])
    else:
        path = sqlite_path(database_url)
        stored = "".join(file.read_bytes().decode("latin-1") for file in path.parent.glob(f"{path.name}*"))
    audit = await sql(database_url, "SELECT event, detail FROM audit_events WHERE event LIKE 'webhook-%' ORDER BY at, id")
    assert [event for event, _ in audit] == ["webhook-made", "webhook-rotated", "webhook-changed", "webhook-changed"]
    shown = [await hook.get(), (await hook.admin.get("/webhooks")).body, (await hook.admin.get("/changes")).body]
    shown.append((await hook.admin.get(f"/webhooks/{hook.id}/deliveries")).body)
    for secret in secrets:
        for text in (secret, secret.removeprefix("whsec_")):
            assert text not in stored
            assert text not in orjson.dumps(shown).decode()


@ONCE_SQLITE
async def test_a_secret_that_nobody_can_open_is_rotated_away(
    hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    await sql(database_url, "UPDATE webhooks SET secret = 'gAAAAAB-sealed-by-another-key'")
    assert (await hook.post("test")).problem == "webhook-sealed"
    rotated = await hook.post("rotate")
    assert rotated.status == 200
    assert (await hook.post("test")).body["status"] == 200
    signed(receiver.seen[-1], rotated.body["secret"])
    await hook.admin.user("alice")
    await eventually(lambda: len(receiver.seen) == 2)
    signed(receiver.seen[-1], rotated.body["secret"])


# Deliveries


async def test_a_delivery_is_shown_with_its_attempts_that_failed(
    hook: Hook, receiver: Receiver, eventually: Eventually
) -> None:
    receiver.replies_with(answer(500, b"No \xff" + "ä".encode() * 600), answer(200))
    user = await hook.admin.user("alice")
    (waiting,) = await eventually(lambda: hook.deliveries())
    await eventually(lambda: hook.are(waiting=1) if receiver.seen else False)
    shown = await eventually(lambda: _failed_once(hook, waiting["change_id"]))
    text = "No \ufffd" + "ä" * 496
    assert len(text) == 500
    (failure,) = shown.pop("failures")
    assert failure == {"at": failure["at"], "status": 500, "error": text, "milliseconds": failure["milliseconds"]}
    assert shown == {
        "change_id": ids(receiver)[0],
        "type": "user.created",
        "status": "waiting",
        "attempts": 1,
        "next_attempt_at": shown["next_attempt_at"],
        "last_status": 500,
        "last_error": text,
        "delivered_at": None,
    }
    failing = await hook.get()
    assert failing["failing_since"] is not None
    retried = await hook.post(f"deliveries/{shown['change_id']}/retry")
    assert retried.status == 200
    assert (retried.body["status"], retried.body["attempts"]) == ("waiting", 0)
    await eventually(lambda: hook.are(delivered=1))
    done = await hook.delivery(shown["change_id"])
    assert (done["attempts"], done["last_status"], done["last_error"], done["next_attempt_at"]) == (1, 200, None, None)
    assert done["delivered_at"] is not None
    assert done.pop("failures") == [failure]
    assert await hook.deliveries() == [done]
    assert (await hook.get())["failing_since"] is None
    assert signed(receiver.seen[1], hook.secret)["data"]["id"] == user["id"]


async def _failed_once(hook: Hook, change_id: str) -> dict[str, Any] | None:
    found = await hook.delivery(change_id)
    return found if found["failures"] else None


async def test_deliveries_of_all_states_are_paged_newest_change_first(hook: Hook, database_url: str) -> None:
    await quiet(hook, database_url)
    await add_changes(database_url, 250)
    states = ("delivered", "failed", "dropped", "delivered", "failed")
    for part, status in enumerate(states):
        await add_deliveries(database_url, hook.id, 1 + 50 * part, 50, status)
    # So that each page has some of several states.
    await sql(database_url, "UPDATE deliveries SET status = 'dropped' WHERE seq % 7 = 0 AND status = 'failed'")
    for path in (f"/webhooks/{hook.id}/deliveries?limit=33", f"/webhooks/{hook.id}/deliveries?limit=33&status=dropped"):
        found: list[dict[str, Any]] = []
        link = path
        while link:
            page = await hook.admin.get(link)
            found += page.body["items"]
            cursor = page.body["next_cursor"]
            link = f"{path}&cursor={cursor}" if cursor else ""
        assert len(found) == page.body["total"]
        assert [one["change_id"] for one in found] == sorted((one["change_id"] for one in found), reverse=True)
        if "status" in path:
            assert {one["status"] for one in found} == {"dropped"}
            assert len(found) == await count(database_url, "deliveries", "status = 'dropped'")
        else:
            assert len({one["change_id"] for one in found}) == 250
    for query in ("status=sent", "status=", "limit=0", "limit=101", "cursor=x", "types=*"):
        (pointer,) = (await hook.admin.get(f"/webhooks/{hook.id}/deliveries?{query}")).pointers
        assert pointer == f"/{query.partition('=')[0]}"
    for change in (UNKNOWN, "nonsense", "%00"):
        assert (await hook.admin.get(f"/webhooks/{hook.id}/deliveries/{change}")).problem == "not-found"


async def test_a_delivery_that_ends_while_it_is_listed_is_listed_once(
    hook: Hook, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quiet(hook, database_url)
    first = await add_changes(database_url, 3)
    await add_deliveries(database_url, hook.id, first, 3, "delivered")
    # Disabled as it is, the worker would drop what waits: one that is being sent stays.
    await sql(
        database_url,
        "UPDATE deliveries SET status = 'waiting', next_attempt_at = 0, delivered_at = NULL, "
        f"leased_until = {clock.now() + 60_000} WHERE seq = 2",
    )
    real = delivery_queries.list_deliveries

    async def and_then(conn: Any, webhook_id: str, status: str, before: int, limit: int) -> Any:
        found = await real(conn, webhook_id, status, before, limit)
        if status == "waiting":
            await sql(
                database_url,
                "UPDATE deliveries SET status = 'delivered', next_attempt_at = NULL, leased_until = NULL, delivered_at = 1",
            )
        return found

    monkeypatch.setattr(delivery_queries, "list_deliveries", and_then)
    listed = (await hook.admin.get(f"/webhooks/{hook.id}/deliveries")).body
    assert len(listed["items"]) == len({one["change_id"] for one in listed["items"]}) == 3


async def test_whatever_became_of_a_delivery_it_is_sent_again_unless_it_is_being_sent(
    hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    receiver.replies_with(held(answer(200)))
    await hook.admin.user("alice")
    await eventually(lambda: ids(receiver))
    (change_id,) = ids(receiver)
    # In flight.
    for _ in range(3):
        assert (await hook.post(f"deliveries/{change_id}/retry")).body["attempts"] == 1
    receiver.released.set()
    await eventually(lambda: hook.are(delivered=1))
    await asyncio.sleep(0.1)
    assert ids(receiver) == [change_id]
    later = clock.now() + clock.DAY
    for values in (
        "status = 'failed', next_attempt_at = NULL, attempts = 10, delivered_at = NULL",
        "status = 'dropped', next_attempt_at = NULL, attempts = 3, delivered_at = NULL",
        f"status = 'waiting', next_attempt_at = {later}, attempts = 9, delivered_at = NULL",
        "status = 'delivered', next_attempt_at = NULL, attempts = 1, delivered_at = 5",
    ):
        await sql(database_url, f"UPDATE deliveries SET {values}")
        receiver.seen.clear()
        retried = await hook.post(f"deliveries/{change_id}/retry")
        assert (retried.status, retried.body["status"], retried.body["delivered_at"]) == (200, "waiting", None)
        await eventually(lambda: ids(receiver) == [change_id])
        await eventually(lambda: hook.are(delivered=1))
        assert (await hook.delivery(change_id))["attempts"] == 1
    await hook.change(status="disabled")
    assert (await hook.post(f"deliveries/{change_id}/retry")).problem == "webhook-disabled"
    assert (await hook.post(f"deliveries/{UNKNOWN}/retry")).problem == "webhook-disabled"
    await hook.change(status="enabled")
    assert (await hook.post(f"deliveries/{UNKNOWN}/retry")).problem == "not-found"
    audit = await sql(database_url, "SELECT count(*) FROM audit_events WHERE event = 'webhook-retried'")
    assert audit == [(4,)]


async def test_a_replay_sends_what_changed_since_a_time_of_the_types_that_both_want(
    admin: Product, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    start = clock.now() - 100 * clock.SECOND
    for age, kind in (
        (50, "user.created"),
        (20, "user.created"),
        (19, "code.created"),
        (18, "user.erased"),
        (17, "reward.created"),
    ):
        await add_changes(database_url, 1, start - age * clock.SECOND, kind)
    hook = await Hook.make(admin, receiver.url(), "user.*", "code.created")
    since = rfc_3339(start - 20 * clock.SECOND - 999)
    replayed = await hook.replay(since, "user.*", "reward.*")
    assert (replayed.status, replayed.body) == (202, {"since": since, "types": ["user.*", "reward.*"], "last_seq": 5})
    await eventually(lambda: hook.are(delivered=2))
    assert [signed(one, hook.secret)["type"] for one in receiver.seen] == ["user.created", "user.erased"]
    await eventually(lambda: _no_replay(database_url))
    # Again, under the same ids, whatever became of them.
    assert (await hook.replay(since)).body["types"] == ["*"]
    await eventually(lambda: len(receiver.seen) == 5)
    assert sorted(Counter(ids(receiver)).values()) == [1, 2, 2]
    await eventually(lambda: _no_replay(database_url))
    for body, pointer in (
        ({}, "/since"),
        ({"since": "yesterday"}, "/since"),
        ({"since": since, "types": []}, "/types"),
        ({"since": since, "types": ["made.up"]}, "/types"),
        ({"since": since, "until": since}, "/until"),
    ):
        assert (await hook.post("replay", body)).pointers[0].startswith(pointer)
    await hook.change(status="disabled")
    assert (await hook.replay(since)).problem == "webhook-disabled"
    assert await count(database_url, "replays") == 0


async def _no_replay(url: str) -> bool:
    return await count(url, "replays") == 0


async def test_a_replay_is_refused_while_another_one_is_queued_and_ends_with_the_webhook(
    hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_changes(database_url, 60)
    monkeypatch.setattr(webhook_upkeep, "BATCH", 10)
    answers = await asyncio.gather(*(hook.replay() for _ in range(AT_ONCE)))
    accepted = [one for one in answers if one.status == 202]
    assert accepted
    assert {one.problem for one in answers if one.status != 202} <= {"replay-under-way"}
    await eventually(lambda: _no_replay(database_url))
    await eventually(lambda: hook.are(delivered=60))
    assert 60 <= len(receiver.seen) <= 60 * len(accepted)
    assert set(Counter(ids(receiver)).values()) <= set(range(1, len(accepted) + 1))
    await sql(database_url, f"INSERT INTO replays VALUES ('{hook.id}', 0, '[\"*\"]', 0, 60)")
    assert (await hook.replay()).problem == "replay-under-way"
    await hook.change(status="disabled")
    await eventually(lambda: _no_replay(database_url))
    assert await hook.are(delivered=60)


async def test_what_waits_for_a_disabled_webhook_is_dropped_and_a_replay_sends_it_later(
    hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_upkeep, "BATCH", 30)
    first = await add_changes(database_url, 100)
    await add_deliveries(database_url, hook.id, first, 100, due=clock.now() + clock.DAY)
    await hook.change(status="disabled")
    await eventually(lambda: hook.are(dropped=100))
    await hook.admin.user("alice")
    await eventually(lambda: _told(database_url, "user.created", 101))
    await hook.change(status="enabled")
    await hook.admin.user("bob")
    await eventually(lambda: hook.are(dropped=100, delivered=1))
    assert len(receiver.seen) == 1
    assert (await hook.replay()).status == 202
    await eventually(lambda: hook.are(delivered=103))
    assert len(set(ids(receiver))) == 103


async def _told(url: str, kind: str, many: int) -> bool:
    return await count(url, "changes", f"type = '{kind}'") >= many


async def test_a_webhook_with_thousands_of_deliveries_is_deleted_at_once_and_cleared_up_behind(
    hook: Hook, database_url: str, eventually: Eventually
) -> None:
    other = await Hook.make(hook.admin, URL)
    await quiet(other, database_url)
    first = await add_changes(database_url, 5_000)
    due = clock.now() + clock.DAY
    await add_deliveries(database_url, hook.id, first, 2_500, due=due)
    await add_deliveries(database_url, hook.id, first + 2_500, 2_500, "failed")
    await add_deliveries(database_url, other.id, first, 5_000, "failed")
    await sql(
        database_url,
        "INSERT INTO delivery_failures (id, seq, webhook_id, at, error, milliseconds) "
        "SELECT webhook_id || cast(seq AS text), seq, webhook_id, 0, 'No', 1 FROM deliveries",
    )
    await sql(database_url, f"INSERT INTO replays VALUES ('{hook.id}', 0, '[\"*\"]', 0, 5000)")
    await hook.delete()
    assert (await hook.admin.get(f"/webhooks/{hook.id}/deliveries")).problem == "not-found"
    assert (await hook.admin.get("/webhooks")).body["total"] == 1
    await eventually(lambda: _is_gone(database_url, hook.id))
    for table in ("deliveries", "delivery_failures"):
        assert await count(database_url, table) == 5_000
    assert await count(database_url, "replays") == 0


async def _is_gone(url: str, webhook_id: str) -> bool:
    return await count(url, "webhooks", f"id = '{webhook_id}'") == 0


# Erasure


async def test_what_receivers_answered_about_an_erased_user_goes_and_later_sendings_have_nothing_personal(
    client: Client, hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    receiver.replies_with(answer(500, b"I do not know Wilhelmina of w.oesterreicher@personal.example"))
    person = await Person.register(client, "Wilhelmina", email="w.oesterreicher@personal.example")
    other = await Person.register(client, "bob")
    await eventually(lambda: _failures(database_url, 2))
    assert b"Wilhelmina" in receiver.seen[0].body + receiver.seen[1].body
    assert (await person.delete("/users/me", {"password": person.password})).status == 204
    await eventually(lambda: _told(database_url, "user.erased", 1))
    about = f"c.user_id = '{person.id}' AND c.type <> 'user.erased'"
    of = "JOIN changes c ON c.seq = d.seq WHERE"
    assert await sql(database_url, f"SELECT d.last_error FROM deliveries d {of} {about}") == [(None,)]
    assert await sql(database_url, f"SELECT d.error FROM delivery_failures d {of} {about}") == [("",)]
    kept = await sql(database_url, f"SELECT d.last_error FROM deliveries d {of} c.user_id = '{other.id}'")
    assert "Wilhelmina" in kept[0][0], "what was answered about another user is not looked into"
    receiver.seen.clear()
    receiver.replies_with(answer(200))
    assert (await hook.replay()).status == 202
    await eventually(lambda: len(set(ids(receiver))) == 3)
    sent = [signed(received, hook.secret) for received in receiver.seen]
    hers = [body for body in sent if body["subject_id"] == person.id]
    assert {body["type"] for body in hers} == {"user.created", "user.erased"}
    assert "ilhelmina" not in str(hers)
    assert "oesterreicher" not in str(hers)


async def _failures(url: str, many: int) -> bool:
    return await count(url, "delivery_failures") >= many


async def test_what_a_receiver_answers_only_after_the_erasure_is_not_kept_either(
    client: Client, hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    receiver.replies_with(held(answer(500, b"I do not know Wilhelmina")))
    person = await Person.register(client, "Wilhelmina")
    await eventually(lambda: receiver.seen)
    assert (await person.delete("/users/me", {"password": person.password})).status == 204
    receiver.released.set()
    await eventually(lambda: _failures(database_url, 1))
    found = await sql(
        database_url,
        "SELECT d.last_status, d.last_error, f.status, f.error FROM deliveries d "
        "JOIN delivery_failures f ON f.seq = d.seq JOIN changes c ON c.seq = d.seq WHERE c.type = 'user.created'",
    )
    assert found == [(500, None, 500, "")]


# At once


async def test_equal_calls_at_once_are_all_answered_and_leave_one_state(
    hook: Hook, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    made = await asyncio.gather(*(Hook.make(hook.admin, URL, "code.*") for _ in range(AT_ONCE)))
    assert len({one.id for one in made}) == len({one.secret for one in made}) == AT_ONCE
    rotated: list[Answer] = await asyncio.gather(*(hook.post("rotate") for _ in range(AT_ONCE)))
    assert {one.status for one in rotated} == {200}
    secrets = {one.body["secret"] for one in rotated}
    assert len(secrets) == AT_ONCE
    await hook.post("test")
    valid = [secret for secret in secrets if _verifies(receiver, secret)]
    assert len(valid) == 2
    receiver.seen.clear()
    await hook.admin.user("alice")
    await eventually(lambda: hook.are(delivered=1))
    (change_id,) = ids(receiver)
    retried = await asyncio.gather(*(hook.post(f"deliveries/{change_id}/retry") for _ in range(AT_ONCE)))
    assert {one.status for one in retried} == {200}
    await eventually(lambda: hook.are(delivered=1))
    again = await sql(database_url, "SELECT count(*) FROM audit_events WHERE event = 'webhook-retried'")
    assert 2 <= len(receiver.seen) <= 1 + again[0][0]
    changed = await asyncio.gather(*(hook.change(status="disabled") for _ in range(AT_ONCE)))
    assert len({str(one) for one in changed}) == 1
    deleted = await asyncio.gather(*(hook.admin.delete(f"/webhooks/{hook.id}") for _ in range(AT_ONCE)))
    assert Counter(one.status for one in deleted) == {204: 1, 404: AT_ONCE - 1}
    told = await sql(database_url, "SELECT count(*) FROM audit_events WHERE event IN ('webhook-changed', 'webhook-deleted')")
    assert told == [(2,)]


def _verifies(receiver: Receiver, secret: str) -> bool:
    try:
        signed(receiver.seen[-1], secret)
    except WebhookVerificationError:
        return False
    return True
