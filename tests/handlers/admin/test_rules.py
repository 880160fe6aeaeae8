"""Rules in the back office: shown, tried, made and changed only after it was shown what that does, by one of two at once."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

from tests.conftest import Client
from tests.handlers.test_rules import WHOLE
from tests.support.admin import Page, signed_in
from tests.support.admin_world import HOSTILE
from tests.support.people import UNKNOWN
from tests.support.programme import SHARE, Programme
from tests.support.rows import count, sql

FIXED = {"name": "Five", "on": "purchase", "to": "referee", "times": "1", "give/kind": "balance", "give/unit": "USD"}
PERIODS = {"limits/per_referrer/period": "month", "limits/budget/period": "month"}
FORM = {**FIXED, "give/fixed": "5.00", "hold_days": "14", "approval": "automatic", "enabled": "yes", **PERIODS}


def fields(page: Page) -> dict[str, str]:
    """What the page's last form would send."""
    form = page.text.rpartition("<form")[2]
    found = dict(re.findall(r'<input[^>]* name="([^"]*)"[^>]* value="([^"]*)"', form))
    found |= dict(re.findall(r'<textarea[^>]* name="([^"]*)"[^>]*>([^<]*)</textarea>', form))
    for name, options in re.findall(r'<select[^>]* name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        found[name] = re.search(r'value="([^"]*)" selected', options)[1]  # type: ignore[index]
    return {unescape(name): unescape(value) for name, value in found.items() if name != "form_token"}


async def definition(programme: Programme, rule_id: str) -> dict[str, Any]:
    found = (await programme.admin.get(f"/rules/{rule_id}")).body
    return {name: found[name] for name in WHOLE}


async def test_a_rule_is_made_after_it_was_shown_and_once_however_often(
    client: Client, database_url: str, programme: Programme
) -> None:
    browser, boss = await signed_in(client, database_url)
    assert "There is no rule yet" in (await browser.get("/admin/rules")).words
    await programme.come()
    await programme.buy(4900)
    given = {**fields(await browser.get("/admin/rules/new")), **FORM}
    page = await browser.post("/admin/rules/new", given)
    assert page.status == 200
    assert "the friend gets 5.00 USD, after a hold of 14 days" in page.words.replace("\xa0", " ")
    assert "the last 30 days 1 1 5.00 USD" in page.words.replace("\xa0", " ")
    assert await count(database_url, "rules") == 0
    sent = fields(page)
    pages = await asyncio.gather(*(browser.post("/admin/rules", sent) for _ in range(8)))
    assert {page.location for page in pages} == {f"/admin/rules/{given['rule_id']}?said=rule-made"}
    assert await sql(database_url, "SELECT actor_id FROM audit_events WHERE event = 'rule-made'") == [(boss.id,)]
    shown = await browser.get(f"/admin/rules/{given['rule_id']}")
    assert "by boss" in shown.words


async def test_the_form_says_all_of_a_rule_and_changes_none_of_it(
    client: Client, database_url: str, programme: Programme
) -> None:
    browser, _ = await signed_in(client, database_url)
    metadata = {"plan": "pro", "n": 5, "text": "5", "yes": True, "a=b": " x ", "q": '"', "h": HOSTILE, "f": 1.5}
    tiers = [{"from": number, "percent": f"{number}.5"} for number in range(2, 9)]
    conditions = {**WHOLE["if"], "metadata": metadata}
    rule = (await programme.admin.post("/rules", {**WHOLE, "name": HOSTILE, "tiers": tiers, "if": conditions})).body
    before = await definition(programme, rule["id"])
    for language in ("en", "ru"):
        browser.language = language
        form = fields(await browser.get(f"/admin/rules/{rule['id']}/change"))
        page = await browser.post(f"/admin/rules/{rule['id']}/change", form)
        assert ("Nothing changes" if language == "en" else "Ничего не меняется") in page.words
        page = await browser.post(f"/admin/rules/{rule['id']}", form)
        assert page.location.endswith("said=rule-unchanged")
        again = await browser.post(f"/admin/rules/{rule['id']}/change", {**form, "again": "yes"})
        assert {name: value for name, value in fields(again).items() if value} == {k: v for k, v in form.items() if v}
    assert await definition(programme, rule["id"]) == before
    assert await count(database_url, "rule_versions") == 1


async def test_of_two_changes_the_second_sees_the_first(client: Client, database_url: str, programme: Programme) -> None:
    browser, _ = await signed_in(client, database_url)
    other, _ = await signed_in(client, database_url, "other")
    rule = await programme.rule(give=SHARE)
    path = f"/admin/rules/{rule['id']}"
    form = fields(await browser.get(f"{path}/change"))
    theirs = {**form, "give/percent": "30", "if/metadata": "plan=<b>"}
    shown = await other.post(f"{path}/change", theirs)
    assert "How much 20% of its value 30% of its value" in shown.words
    assert (await other.post(path, fields(shown))).location == f"{path}?said=rule-changed"
    for target in (path, f"{path}/change", f"{path}/enabled"):
        page = await browser.post(target, {**form, "give/percent": "40"})
        assert page.status == 409
        assert "Nothing of yours was saved" in page.words
        assert "Version 2" in page.words
        assert "by other" in page.words
        assert "<b>" not in page.text
    page = await browser.get(path)
    assert "by the key “ a admin key ”" in page.words
    assert (await definition(programme, rule["id"]))["give"]["percent"] == "30"


async def test_sixteen_at_once_make_one_version(client: Client, database_url: str, programme: Programme) -> None:
    browser, boss = await signed_in(client, database_url)
    rule = await programme.rule()
    path = f"/admin/rules/{rule['id']}/enabled"
    page = await browser.get(path)
    assert "gives nothing for any event" in page.words
    form, token = fields(page), page.form_token
    pages = await asyncio.gather(*(browser.post(path, form, token=token) for _ in range(16)))
    assert sorted(page.status for page in pages) == [303] + 15 * [409]
    assert await count(database_url, "rule_versions") == 2
    assert await sql(database_url, "SELECT actor_id FROM audit_events WHERE event = 'rule-changed'") == [(boss.id,)]
    assert "Enable the rule" in (await browser.get(path)).words


WRONG = {
    "name": "",
    "on": "Purchase",
    "times": "x",
    "give/kind": "gold",
    "give/fixed": "5.001",
    "give/label": "a\0b",
    "give/max": "3",
    "give/unit": "STARS",
    "hold_days": "",
    "approval": "perhaps",
    "tiers/2/from": "x",
    "tiers/2/share": "many",
    "if/min_amount/amount": "-1",
    "if/within_days": "1.5",
    "if/metadata": "plan",
    "limits/per_referrer/count": "0",
    "limits/budget/amount": "4",
    "starts_at": "tomorrow",
    "ends_at": "2027-13-01T00:00",
    "to": HOSTILE,
}


async def test_what_is_wrong_stands_beside_its_field(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    for language in ("en", "ru"):
        browser.language = language
        for path in ("/admin/rules/new", "/admin/rules"):
            for name, value in WRONG.items():
                tier = {"tiers/2/from": "3", "tiers/2/share": "1"} if "tiers" in name else {}
                page = await browser.post(path, {**FORM, **tier, name: value})
                assert page.status == 422, (path, name)
                beside = re.findall(r'<p class="error" id="(.*?)-error">', page.text)
                assert beside == ([] if name == "give/unit" else [name]), (path, name)
                if value and "\0" not in value:
                    assert "<b onclick" not in page.text
    assert await count(database_url, "rules") == 0


async def test_strange_forms_and_addresses_are_pages(client: Client, database_url: str, programme: Programme) -> None:
    browser, _ = await signed_in(client, database_url)
    rule = await programme.rule()
    for form in ({}, dict.fromkeys(FORM, "\x00" * 10), dict.fromkeys(FORM, "W" * 4096), {"rule_id": "'", "again": "x"}):
        for path in ("/admin/rules/new", "/admin/rules", f"/admin/rules/{rule['id']}", f"/admin/rules/{rule['id']}/change"):
            assert (await browser.post(path, {"version": "1", **form})).status in (200, 422)
            assert (await browser.post(path, {"version": "\u0661", **form})).status in (200, 409, 422)
    for address in ("nonsense", UNKNOWN, "%00"):
        for rest in ("", "/change", "/try", "/enabled"):
            assert (await browser.get(f"/admin/rules/{address}{rest}")).status == 404
            if rest != "/try":
                assert (await browser.post(f"/admin/rules/{address}{rest}", {})).status == 404
    for path in ("/admin/rules", f"/admin/rules/{rule['id']}"):
        assert (await browser.get(path, params={"cursor": "\0"})).status == 422
    assert await count(database_url, "rule_versions") == 1


async def test_long_lists_go_on(client: Client, database_url: str, programme: Programme) -> None:
    browser, _ = await signed_in(client, database_url)
    rules = [await programme.rule(name=f"rule number {number}.") for number in range(21)]
    for number in range(11):
        await programme.change(rules[0], times=number + 2)
    seen = []
    for path, expected in (("/admin/rules", 21), (f"/admin/rules/{rules[0]['id']}", 12)):
        page: Page | None = await browser.get(path)
        found: list[str] = []
        while page:
            found += re.findall(r"rule number \d+\.(?=</bdi></a></h2>)|Version \d+(?=</strong>)", page.text)
            following = re.search(r'rel="next" href="(.*?)"', page.text)
            page = await browser.get(unescape(following[1])) if following else None
        assert len(found) == len(set(found)) == expected
        seen.append(found)
    assert seen[1][0] == "Version 12"


async def test_a_budget_tells_what_is_used_of_it(client: Client, database_url: str, programme: Programme) -> None:
    browser, _ = await signed_in(client, database_url)
    rule = await programme.rule(limits={"budget": {"unit": "USD", "amount": 2000, "period": "month"}})
    await programme.come()
    await programme.buy()
    for path in ("/admin/rules", f"/admin/rules/{rule['id']}"):
        page = await browser.get(path)
        assert "Budget used: 5.00 USD of 20.00 USD a month" in page.words.replace("\xa0", " ")
        assert 'aria-label="Used of the budget: 25.0%"' in page.text
        assert f'href="/admin/rewards?rule={rule["id"]}"' in page.text
    tried = await browser.get(f"/admin/rules/{rule['id']}/try")
    assert "5.00 USD" in tried.words.replace("\xa0", " ")


async def test_a_version_whose_maker_is_recorded_no_more_still_shows(
    client: Client, database_url: str, programme: Programme
) -> None:
    browser, _ = await signed_in(client, database_url)
    rule = await programme.rule()
    await sql(database_url, "DELETE FROM audit_events")
    assert "not kept any more" in (await browser.get(f"/admin/rules/{rule['id']}")).words
