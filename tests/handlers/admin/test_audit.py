"""The audit in the back office."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from referral.queries.audit import EventName
from referral.web.admin_texts import texts_in
from referral.web.admin_words import EVENTS
from tests.conftest import Client
from tests.support.admin import signed_in
from tests.support.admin_world import HOSTILE
from tests.support.people import UNKNOWN, Person, Product
from tests.support.programme import Programme
from tests.support.rows import sql


def test_every_event_has_its_words() -> None:
    assert set(EVENTS) == set(get_args(EventName))
    assert len(set(EVENTS.values())) == len(EVENTS), "two events read the same"
    for language in ("en", "ru"):
        assert len({texts_in(language).word(name) for name in EVENTS}) == len(EVENTS)


async def test_it_says_who_did_what_to_whom(client: Client, database_url: str) -> None:
    browser, boss = await signed_in(client, database_url)
    alice = await Person.register(client, "alice")
    assert (await boss.post(f"/users/{alice.id}/suspend", {"reason": HOSTILE})).status in (200, 204)
    page = await browser.get("/admin/audit?event=account-suspended")
    body = page.text.partition("<tbody")[2]
    assert body.count("<tr ") == 1
    assert f'/admin/users/{boss.id}"><bdi>boss' in body
    assert f'/admin/users/{alice.id}"><bdi>alice' in body
    assert "A user was suspended" in page.words
    assert "<b onclick" not in page.text
    assert "&lt;b onclick" in body
    assert "127.0.0.1" in body
    browser.language = "ru"
    assert "Пользователя приостановили" in (await browser.get("/admin/audit")).words


async def test_what_a_key_did_is_said_of_the_key_and_of_no_user(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    user = await (await Product.with_key(client, "admin")).user("42")
    page = await browser.get("/admin/audit?user=ext:42")
    assert re.search("Key\\s+“\\s*a admin key\\s*”", page.words)
    body = page.text.partition("<tbody")[2]
    assert set(re.findall(r"/admin/users/([0-9a-f-]+)", body)) == {user["id"]}


async def test_whom_an_event_names_is_called_by_the_name(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.admin.user("rosa", name="Rosa Ref")
    await programme.come("bob", "rosa")
    body = (await browser.get("/admin/audit?event=referrer-set")).text.partition("<tbody")[2]
    assert "Rosa Ref" in body


async def test_it_is_filtered_and_paged(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    await (await Product.with_key(client)).user("42")
    user = (await Person.register(client, "alice")).id
    await sql(
        database_url,
        "INSERT INTO audit_events (id, at, event, actor_id, user_id, detail) VALUES "
        + ", ".join(f"('e{i:03}', {1_000_000 + i}, 'code-made', '{user}', '{user}', '{{}}')" for i in range(60)),
    )
    path: str | None = f"/admin/audit?event=code-made&user={user}&since=1970-01-01"
    rows = 0
    while path:
        page = await browser.get(path)
        assert page.status == 200
        rows += page.text.partition("<tbody")[2].count("<tr ")
        found = re.search(r'rel="next" href="([^"]+)"', page.text)
        path = found[1].replace("&amp;", "&") if found else None
    assert rows == 60
    assert "Nothing of this kind" in (await browser.get("/admin/audit?event=code-made&since=1970-01-02")).words
    assert (await browser.get("/admin/audit?user=ext:42")).status == 200
    assert (await browser.get("/admin/audit?event=code-made&user=alice@example.com")).text.count('<th scope="row"') == 25
    assert "There is no user with this id or address." in (await browser.get("/admin/audit?user=bob@example.com")).words
    assert "Nothing of this kind" in (await browser.get(f"/admin/audit?user={UNKNOWN}")).words


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("event=nothing", 422),
        ("event=%00", 422),
        ("since=yesterday", 422),
        ("since=2027-02-30", 422),
        ("since=9999-12-31", 200),
        ("user=alice", 404),
        ("user=ext:nobody", 404),
        ("user=ext:%00", 422),
        ("user=%3Cb%3E", 404),
        ("cursor=x", 422),
        ("cursor=%00", 422),
        ("event=&user=&since=", 200),
    ],
)
async def test_bad_filters_are_said_in_the_page(client: Client, database_url: str, query: str, status: int) -> None:
    browser, _ = await signed_in(client, database_url)
    page = await browser.get(f"/admin/audit?{query}")
    assert page.status == status, page.words
    assert "<b>" not in page.text
