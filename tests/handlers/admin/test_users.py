"""Users at the back office: finding one, reading what befell them, and doing something about it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from referral.clock import now
from referral.contract.paging import encode_cursor
from tests.conftest import Client
from tests.support.admin import AdminBrowser, signed_in
from tests.support.admin_world import HOSTILE
from tests.support.people import UNKNOWN, Person
from tests.support.programme import SHARE, Programme
from tests.support.rows import count, make_admin, sql


@pytest.fixture
async def boss(client: Client, database_url: str) -> AdminBrowser:
    """The browser of an admin."""
    browser, _ = await signed_in(client, database_url)
    return browser


@pytest.fixture
async def world(programme: Programme) -> Programme:
    """Bob came by Alice and bought; a half of Alice's reward waits."""
    await programme.admin.user("alice", name="Alice Archer", email="alice@example.com")
    await programme.rule(give=SHARE, name="Give 20 %")
    await programme.rule(give=SHARE, name="Give 20 % later", hold_days=14)
    await programme.admin.user("bob", name=HOSTILE, metadata={"plan": HOSTILE})
    await programme.come()
    await programme.buy(5_000, event="p1")
    return programme


async def id_of(world: Programme, name: str) -> str:
    return str((await world.admin.user(name))["id"])


# Finding


async def test_a_user_is_found_by_the_beginning_of_whatever_they_have(boss: AdminBrowser, world: Programme) -> None:
    await world.admin.user("carol", email="dora@example.com", username="erin")
    for q in ("ali", "alice@ex", "Alice A", "ALICE", " alice "):
        page = await boss.get(f"/admin/users?q={quote(q)}")
        assert page.status == 200
        assert "Alice Archer" in page.words, q
        assert "dora@" not in page.words
    for q in ("caro", "DORA", "eri"):
        assert "dora@example.com" in (await boss.get(f"/admin/users?q={q}")).words
    page = await boss.get("/admin/users?q=nobody")
    assert "Nobody was found." in page.words


async def test_whoever_types_a_code_finds_its_owner(boss: AdminBrowser, world: Programme) -> None:
    code = world.codes["alice"]
    for q in (code, code.lower(), f" {code} ", await id_of(world, "alice"), "ext:alice"):
        page = await boss.get(f"/admin/users?q={quote(q)}")
        assert "Whose code or id this is" in page.words
        assert "Alice Archer" in page.words
    await world.admin.delete(f"/codes/{code}")
    assert "Alice Archer" in (await boss.get(f"/admin/users?q={code}")).words, "an ended code is somebody's, too"


async def test_the_list_says_who_came_by_whom_and_what_became_of_it(boss: AdminBrowser, world: Programme) -> None:
    page = await boss.get("/admin/users")
    alice, bob = await id_of(world, "alice"), await id_of(world, "bob")
    assert f'href="/admin/users/{alice}/referrals">1</a>' in page.text
    assert page.text.count(f'href="/admin/users/{alice}"') == 2, "herself, and by whom Bob came"
    assert page.text.count(f'href="/admin/users/{bob}"') == 1
    assert "3 users" in page.words
    await world.admin.post("/users/ext:bob/suspend", {"reason": "a look"})
    page = await boss.get("/admin/users?status=suspended")
    assert f'href="/admin/users/{bob}"' in page.text
    assert "boss" not in page.words.replace("boss@", "")
    assert f'href="/admin/users/{bob}"' not in (await boss.get("/admin/users?status=active")).text


async def test_pages_of_the_list_show_each_user_once(boss: AdminBrowser, world: Programme) -> None:
    for number in range(55):
        await world.admin.user(f"many {number:02}")
    for query in ("", "?q=many"):
        seen: list[str] = []
        path = f"/admin/users{query}"
        while path:
            page = await boss.get(path)
            seen += [
                part.partition('"')[0] for part in re.split('<th scope="row"[^>]*><a class="user" href="', page.text)[1:]
            ]
            _, _, behind = page.text.partition('rel="next" href="')
            path = behind.partition('"')[0].replace("&amp;", "&")
        assert len(seen) == len(set(seen)) == (55 if query else 58)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("q=%00", 422),
        ("q=" + "x" * 400, 422),
        ("status=nobody", 422),
        ("cursor=x", 422),
        ("cursor=" + encode_cursor((1, "x")), 422),
        ("cursor=" + encode_cursor((1_000, "x")), 200),
        ("q=a&cursor=" + encode_cursor((7, "x")), 422),
        ("q=a&cursor=" + encode_cursor((0, "\u0663")), 200),
        ("q=&status=&cursor=", 200),
        ("q=ext:%E2%80%AE", 422),
        ("q=ext:nobody", 200),
    ],
)
async def test_whatever_is_asked_for_gets_a_page(boss: AdminBrowser, query: str, status: int) -> None:
    page = await boss.get(f"/admin/users?{query}")
    assert page.status == status, page.words
    assert page.text.startswith("<!doctype html>")


@pytest.mark.parametrize("rest", ["", "/referrals", "/statement", "/suspend", "/erase", "/code/end", "/code/new"])
async def test_nobodys_page_is_not_found(boss: AdminBrowser, rest: str) -> None:
    for user in (UNKNOWN, "ext:nobody", "x", "%00", "ext:%00", "ext:" + "x" * 200, "\u202e"):
        page = await boss.get(f"/admin/users/{user}{rest}")
        assert page.status == 404, user
        assert "no such user" in page.words


@pytest.mark.parametrize("rest", ["", "/referrals", "/statement"])
async def test_bad_cursors_and_units_are_readable(boss: AdminBrowser, world: Programme, rest: str) -> None:
    path = f"/admin/users/{await id_of(world, 'alice')}{rest}"
    for cursor in ("x", encode_cursor((2**62 + 1, "")), "\u0663"):
        assert (await boss.get(f"{path}?cursor={quote(cursor)}")).status == 422
    for text in ("99 x", "\u0663 x", "-1 x", ""):
        assert (await boss.get(f"{path}?cursor={encode_cursor((2**62, text))}")).status == 200
    if not rest:
        assert (await boss.get(f"{path}?cursor={encode_cursor((1, '9' * 5_000))}")).status == 422
    assert (await boss.get(f"{path}?unit=%00")).status == (404 if rest == "/statement" else 200)


# Reading


async def test_the_products_own_id_leads_to_the_page(boss: AdminBrowser, world: Programme) -> None:
    alice = await id_of(world, "alice")
    assert (await boss.get("/admin/users/ext:alice")).location == f"/admin/users/{alice}"
    assert (await boss.get(f"/admin/users/{alice.upper()}")).location == f"/admin/users/{alice}"


async def test_a_page_says_what_somebody_has_and_why_it_waits(boss: AdminBrowser, world: Programme) -> None:
    page = await boss.get(f"/admin/users/{await id_of(world, 'alice')}")
    for part in (
        "Alice Archer active",
        world.codes["alice"],
        "nobody: this user came without a referral",
        "Available 10.00 USD can be spent now",
        "Pending 10.00 USD in rewards that wait, and are not earned yet",
        "Earned 10.00 USD for bringing",
        "A reward was made: 10.00 USD for bringing",
        "It waits until",
        "so long a purchase may be given back",
        "It is approved, and can be spent.",
        "The rule “ Give 20 % later ” (version 1) gave it for the event p1",
        "Done by the key",
    ):
        assert part in page.words, (part, page.words)
    page = await boss.get(f"/admin/users/{await id_of(world, 'bob')}")
    assert "Came by Alice Archer" in page.words
    assert HOSTILE not in page.text
    assert "<b onclick" not in page.text
    assert "The user has earned nothing yet." in page.words


async def test_a_debt_and_what_was_taken_back_are_explained(boss: AdminBrowser, world: Programme) -> None:
    alice = await id_of(world, "alice")
    await world.redeem("alice", 900)
    await world.refund("p1")
    page = await boss.get(f"/admin/users/{alice}")
    assert "9.00 USD is missing: rewards were taken back after they had been spent." in page.words
    assert "Why: the purchase was given back." in page.words
    assert "Available after that: −9.00 USD , a debt" in page.words
    statement = await boss.get(f"/admin/users/{alice}/statement?unit=USD")
    assert 'class="taken"' in statement.text
    assert "Taken back: the purchase was given back −10.00 USD −9.00 USD The reward" in statement.words


async def test_an_open_review_is_told_on_both_sides(boss: AdminBrowser, world: Programme, database_url: str) -> None:
    alice, bob = await id_of(world, "alice"), await id_of(world, "bob")
    moment = now()
    await sql(database_url, f"UPDATE referrals SET review = 'open' WHERE user_id = '{bob}'")
    await sql(
        database_url,
        f"INSERT INTO signals (user_id, kind, reference, weight, evidence, at) "
        f"VALUES ('{bob}', 'same-device', '', 60, '{{\"users\": [\"{alice}\"]}}', {moment})",
    )
    await sql(
        database_url, f"INSERT INTO reviews (user_id, status, score, opened_at) VALUES ('{bob}', 'open', 60, {moment})"
    )
    page = await boss.get(f"/admin/users/{bob}")
    for part in ("The same device (weight 60)", "as 1 other user. Alice Archer", "A review of the referral was opened"):
        assert part in page.words
    assert f'href="/admin/reviews/{bob}"' in page.text
    page = await boss.get(f"/admin/users/{alice}")
    assert "It waits for the review of the referral , which somebody has to decide." in page.words
    referrals = await boss.get(f"/admin/users/{alice}/referrals")
    assert f'href="/admin/reviews/{bob}"' in referrals.text
    await sql(
        database_url,
        f"UPDATE reviews SET status = 'rejected', decided_at = {moment + 1}, decided_by_key = 'shop', reason = 'one person' "
        f"WHERE user_id = '{bob}'",
    )
    assert "The referral was rejected by the key “ shop ”" in (await boss.get(f"/admin/users/{bob}")).words


async def test_a_rejection_is_told_to_whoever_looks_at_the_referrer(boss: AdminBrowser, world: Programme) -> None:
    alice, bob = await id_of(world, "alice"), await id_of(world, "bob")
    await world.suspect("bob")
    await world.admin.post("/reviews/ext:bob/reject", {"reason": "one person, two accounts"})
    page = await boss.get(f"/admin/users/{alice}")
    why = re.findall(r"Why: the referral of \S.*? was rejected by the key “ a admin key ”. Look at the review", page.words)
    assert len(why) == 2, page.words
    _, _, acts = page.words.partition("Who did what")
    assert re.search(r"The referral was rejected. About: .*? Reason: one person, two accounts Look at the review", acts)
    assert page.text.count(f'href="/admin/reviews/{bob}"') >= 3
    own = (await boss.get(f"/admin/users/{bob}")).words.partition("Who did what")[2]
    assert "The referral was rejected. Look at the review by the key “ a admin key ”" in own


async def test_the_timeline_is_read_page_by_page(boss: AdminBrowser, world: Programme) -> None:
    await world.rule(give=SHARE, hold_days=14, times=None)
    for number in range(40):
        await world.buy(100, event=f"more {number}")
    path, pages, steps = f"/admin/users/{await id_of(world, 'alice')}", 0, 0
    while path:
        page = await boss.get(path)
        pages, steps = pages + 1, steps + page.text.count("<p><strong>")
        _, _, behind = page.text.partition('rel="next" href="')
        path = behind.partition('"')[0].replace("&amp;", "&")
    # What each purchase brought, two rewards of the first one, the registration, the code and Bob.
    assert steps == 40 + 2 + 3
    assert pages == 2


async def test_an_erased_user_leaves_what_they_did_without_a_name(boss: AdminBrowser, world: Programme) -> None:
    alice, bob = await id_of(world, "alice"), await id_of(world, "bob")
    assert (await world.admin.delete("/users/ext:bob")).status == 204
    page = await boss.get(f"/admin/users/{bob}")
    assert page.status == 200
    assert "The account was erased on" in page.words
    assert "What you can do" not in page.words
    assert "Brought an erased user" in (await boss.get(f"/admin/users/{alice}")).words
    assert "an erased user" in (await boss.get(f"/admin/users/{alice}/referrals")).words
    assert (await boss.get(f"/admin/users/{bob}/suspend")).status == 404


# Doing


async def test_a_suspension_says_what_it_does_and_who_did_it(
    boss: AdminBrowser, world: Programme, database_url: str, client: Client
) -> None:
    dora = await Person.register(client, "dora")
    page = await boss.get(f"/admin/users/{dora.id}/suspend")
    assert "1 session ends at once." in page.words
    for reason in ("", " ", "\x00", "x" * 501, "a\nb"):
        page = await boss.post(f"/admin/users/{dora.id}/suspend", {"reason": reason})
        assert page.status == 422
        assert "Must be a text" in page.words or "Missing" in page.words
    path = f"/admin/users/{dora.id}"
    assert (await boss.post(f"{path}/suspend", {"reason": HOSTILE})).location == f"{path}?said=user-suspended"
    assert (await dora.get("/users/me")).status == 401
    page = await boss.get(path)
    assert "Suspended since" in page.words
    assert "Done by boss@example.com ." in page.words
    assert "<b onclick" not in page.text
    # A second admin is too late, and sees so.
    assert (await boss.post(f"{path}/suspend", {"reason": "me too"})).location == f"{path}?said=user-was-suspended"
    assert "me too" not in (await boss.get(path)).words
    assert (await boss.post(f"{path}/unsuspend")).location == f"{path}?said=user-unsuspended"
    assert (await boss.post(f"{path}/unsuspend")).location == f"{path}?said=user-was-not-suspended"
    assert await count(database_url, "audit_events", "event = 'account-suspended' AND actor_id <> user_id") == 1


async def test_of_many_presses_one_suspends(boss: AdminBrowser, world: Programme, database_url: str) -> None:
    path, token = f"/admin/users/{await id_of(world, 'bob')}/suspend", (await boss.get("/admin/account")).form_token
    pages = await asyncio.gather(*(boss.post(path, {"reason": f"{n}"}, token=token) for n in range(32)))
    assert sorted(page.location.partition("=")[2] for page in pages) == ["user-suspended"] + 31 * ["user-was-suspended"]
    assert await count(database_url, "audit_events", "event = 'account-suspended'") == 1


async def test_the_code_that_the_page_showed_is_ended_and_no_other(boss: AdminBrowser, world: Programme) -> None:
    path, code = f"/admin/users/{await id_of(world, 'alice')}", world.codes["alice"]
    assert code in (await boss.get(f"{path}/code/end")).words
    assert (await boss.post(f"{path}/code/end", {"code": code})).location == f"{path}?said=code-ended"
    assert (await boss.get(f"{path}/code/end")).status == 404
    for days, uses, text in (
        ("0", "", ""),
        ("x", "", ""),
        ("9" * 30, "", ""),
        ("5", "-1", ""),
        ("5", "", "!"),
        ("", "", ""),
    ):
        page = await boss.post(f"{path}/code/new", {"ttl_days": days, "max_uses": uses, "code": text})
        assert page.status == 422, (days, uses, text)
    assert (await boss.post(f"{path}/code/new", {"ttl_days": "5", "code": code})).status == 409, "nobody gets it again"
    made = await boss.post(f"{path}/code/new", {"ttl_days": "5", "max_uses": "7", "code": "autumn"})
    assert made.location == f"{path}?said=code-made"
    page = await boss.post(f"{path}/code/new", {"ttl_days": "5"})
    assert page.status == 409
    assert "There is a current code" in page.words
    # The page of before was still open somewhere.
    assert (await boss.post(f"{path}/code/end", {"code": code})).status == 303
    page = await boss.get(path)
    assert "AUTUMN" in page.words
    assert "at most 7" in page.words
    bobs = f"/admin/users/{await id_of(world, 'bob')}/code/end"
    for text in ("AUTUMN", "", "\x00", "nobodys"):
        assert (await boss.post(bobs, {"code": text})).status == 404


async def test_all_sessions_of_somebody_end(boss: AdminBrowser, client: Client, database_url: str) -> None:
    dora = await Person.register(client, "dora")
    await dora.sign_in()
    path = f"/admin/users/{dora.id}"
    assert "2 sessions end at once." in (await boss.get(f"{path}/sessions/end")).words
    assert (await boss.post(f"{path}/sessions/end")).location == f"{path}?said=users-sessions-ended"
    assert (await dora.get("/users/me")).status == 401
    assert (await boss.post(f"{path}/sessions/end")).status == 303
    assert await count(database_url, "audit_events", "event = 'sessions-ended'") == 1
    assert (await dora.sign_in()).status == 200, "nobody is kept out"


async def test_the_export_is_a_file_and_recorded(boss: AdminBrowser, world: Programme) -> None:
    path = f"/admin/users/{await id_of(world, 'alice')}"
    page = await boss.post(f"{path}/export")
    assert page.status == 200
    assert page.headers["Content-Disposition"] == 'attachment; filename="user.json"'
    assert json.loads(page.text)["user"]["name"] == "Alice Archer"
    assert "Everything that is kept about the user was exported. by boss@example.com" in (await boss.get(path)).words


async def test_an_erasure_wants_the_name_of_whom_it_is_about(boss: AdminBrowser, world: Programme) -> None:
    alice = await id_of(world, "alice")
    page = await boss.get(f"/admin/users/{alice}/erase")
    assert "To confirm, type this: alice@example.com" in page.words
    assert "Nobody can spend what is left." in page.words
    for typed in ("", "alice", "bob", "\x00", HOSTILE):
        page = await boss.post(f"/admin/users/{alice}/erase", {"confirm": typed if typed != "alice" else "alice@"})
        assert page.status == 422
        assert "This is not what stands above." in page.words
        assert "<b onclick" not in page.text
    said = await boss.post(f"/admin/users/{alice}/erase", {"confirm": "alice@example.com"})
    assert said.location == "/admin/users?said=user-erased"
    assert (await world.admin.get("/users/ext:alice")).status == 404
    assert (await boss.post(f"/admin/users/{alice}/erase", {"confirm": "alice@example.com"})).status == 404


async def test_nobody_does_any_of_it_to_themselves(boss: AdminBrowser, client: Client, database_url: str) -> None:
    rows: list[Any] = await sql(database_url, "SELECT id FROM users WHERE username = 'boss'")
    path = f"/admin/users/{rows[0][0]}"
    page = await boss.get(path)
    assert "This is your own account." in page.words
    assert "/suspend" not in page.text
    for action, form in (
        ("suspend", {"reason": "x"}),
        ("erase", {"confirm": "boss@example.com"}),
        ("sessions/end", {}),
    ):
        assert (await boss.post(f"{path}/{action}", form)).status == 403
    assert (await boss.get(path)).status == 200


async def test_whoever_is_demoted_while_the_page_is_open_does_nothing(
    boss: AdminBrowser, world: Programme, database_url: str, client: Client
) -> None:
    bob, token = await id_of(world, "bob"), (await boss.get("/admin/account")).form_token
    await make_admin(database_url, (await Person.register(client, "other")).id)
    await sql(database_url, "UPDATE users SET role = 'user' WHERE username = 'boss'")
    for action in ("suspend", "erase", "export", "sessions/end", "code/new"):
        page = await boss.post(f"/admin/users/{bob}/{action}", {"reason": "x", "confirm": "bob"}, token=token)
        assert page.status == 403
    assert await count(database_url, "users", "suspended_at IS NOT NULL OR erased_at IS NOT NULL") == 0
