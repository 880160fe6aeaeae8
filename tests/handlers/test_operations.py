"""What operators look at: the record of security events, and the outbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from referral.clock import DAY, now, rfc_3339
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import UNKNOWN, Person, Product, read_mails
from tests.support.rows import sql


@pytest.fixture
async def admin(client: Client) -> Product:
    return await Product.with_key(client, "admin")


# The record


async def test_who_did_what_is_told_newest_first(admin: Product) -> None:
    made = (await admin.user("bob"))["id"]
    await admin.post("/users/ext:bob/suspend", {"reason": "fraud"})
    await admin.post("/users/ext:bob/unsuspend")
    page = (await admin.get("/audit?user=ext:bob")).body
    assert [event["event"] for event in page["items"]] == [
        "account-unsuspended",
        "account-suspended",
        "registered",
    ]
    assert (page["total"], page["next_cursor"]) == (3, None)
    suspended = page["items"][1]
    assert (suspended["user_id"], suspended["address"]) == (made, "127.0.0.1")
    assert suspended["detail"] == {"key": "a admin key", "reason": "fraud"}
    everything = (await admin.get("/audit")).body["items"]
    assert [event["id"] for event in everything[:3]] == [event["id"] for event in page["items"]]


async def test_the_record_is_read_page_by_page_and_by_kind(admin: Product) -> None:
    for number in range(5):
        await admin.user(f"user {number}")
        await admin.post(f"/users/ext:user%20{number}/suspend", {"reason": str(number)})
        await admin.post(f"/users/ext:user%20{number}/unsuspend")
    path, seen = "/audit?event=account-suspended&limit=2", []
    while path:
        answer = await admin.get(path)
        seen += [event["detail"]["reason"] for event in answer.body["items"]]
        cursor = answer.body["next_cursor"]
        path = f"/audit?event=account-suspended&limit=2&cursor={cursor}" if cursor else ""
    assert seen == ["4", "3", "2", "1", "0"]
    of_one = await admin.get("/audit?user=ext:user%203&event=account-suspended")
    assert [event["detail"]["reason"] for event in of_one.body["items"]] == ["3"]
    assert (await admin.get("/audit?since=2200-01-01T00:00:00Z")).body == {"items": [], "total": 0, "next_cursor": None}


async def test_the_record_is_for_admins(client: Client, admin: Product, person: Callable[..., Awaitable[Person]]) -> None:
    writer, bob = await Product.with_key(client, "write"), await person("bob")
    for caller in (writer, bob):
        for path in ("/audit", "/outbox"):
            assert (await caller.get(path)).problem == "forbidden"
        assert (await caller.post(f"/outbox/{UNKNOWN}/retry")).problem == "forbidden"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("event=nothing", 422),
        ("since=yesterday", 422),
        ("cursor=AAAA", 422),
        ("user=%00", 422),
        ("user=ext:nobody", 404),
        ("user=nobody", 404),
    ],
)
async def test_what_the_record_cannot_be_asked(admin: Product, query: str, status: int) -> None:
    answer = await admin.get(f"/audit?{query}")
    assert (answer.status, answer.problem) == (status, "validation-error" if status == 422 else "not-found")


# The outbox


async def test_mail_that_failed_is_seen_and_sent_after_all(
    make_client: MakeClient, database_url: str, mail_folder: Path, eventually: Eventually
) -> None:
    client = await make_client()
    admin = await Product.with_key(client, "admin")
    # What failed long ago is deleted by housekeeping.
    moment = now()
    for number, (failed, due) in enumerate((("NULL", moment + DAY), (str(moment), 0), ("NULL", moment + DAY))):
        await sql(
            database_url,
            "INSERT INTO outbox (id, kind, user_id, recipient, language, params, created_at, next_attempt_at, attempts, "
            f"last_error, failed_at) VALUES ('{UNKNOWN[:-1]}{number}', 'reset-password', NULL, 'bob@example.com', 'en', "
            f"'{{}}', {number}, {due}, 3, '<b>no</b>', {failed})",
        )
    page = (await admin.get("/outbox")).body
    assert [mail["status"] for mail in page["items"]] == ["waiting", "failed", "waiting"]
    assert page["total"] == 3
    (failed,) = (await admin.get("/outbox?status=failed")).body["items"]
    assert failed == {
        "id": f"{UNKNOWN[:-1]}1",
        "kind": "reset-password",
        "recipient": "b***@example.com",
        "status": "failed",
        "attempts": 3,
        "created_at": "1970-01-01T00:00:00Z",
        "next_attempt_at": None,
        "failed_at": rfc_3339(moment),
        "last_error": "<b>no</b>",
    }
    first = (await admin.get("/outbox?status=waiting&limit=1")).body
    assert (first["items"][0]["id"][-1], first["total"]) == ("2", 2)
    again = (await admin.get(f"/outbox?status=waiting&limit=1&cursor={first['next_cursor']}")).body
    assert (again["items"][0]["id"][-1], again["next_cursor"]) == ("0", None)

    sent = await admin.post(f"/outbox/{failed['id']}/retry")
    assert (sent.status, sent.body["status"], sent.body["attempts"]) == (200, "waiting", 0)
    # Nobody has the address, so that nothing is sent; but the mail has been dealt with.
    await eventually(lambda: _is_gone(admin, failed["id"]))
    assert read_mails(mail_folder) == []
    assert (await admin.post(f"/outbox/{failed['id']}/retry")).problem == "not-found"
    (event,) = (await admin.get("/audit?event=mail-retried")).body["items"]
    assert event["detail"]["mail_id"] == failed["id"]


async def _is_gone(admin: Product, mail_id: str) -> bool:
    return all(mail["id"] != mail_id for mail in (await admin.get("/outbox")).body["items"])
