"""Lists as CSV: every row in columns that spreadsheets read and never run, or an answer that is cut."""

from __future__ import annotations

import asyncio
import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientError
from hypothesis import given
from hypothesis import strategies as st

from referral.contract.schemas.balances import BalanceSchema, LineSchema
from referral.contract.schemas.events import EventSchema
from referral.contract.schemas.leaderboard import PlaceSchema
from referral.contract.schemas.referrals import ReferralSchema
from referral.contract.schemas.reviews import ReviewItemSchema
from referral.contract.schemas.rewards import RewardSchema
from referral.contract.schemas.rules import RuleSchema
from referral.contract.schemas.users import UserSchema
from referral.database import DatabaseUnavailable
from referral.queries import events
from referral.rules.units import exponent_of, known_exponent_of
from referral.web import csv_answers
from referral.web.csv_answers import FORMULA, cell, cells
from tests.conftest import Client, Eventually, MakeClient, MakeConfig
from tests.support.endpoints import operations
from tests.support.people import API, Person, Product
from tests.support.programme import Programme
from tests.support.rows import sql

Rows = list[dict[str, str]]

# What an operator's key reads and no spreadsheet does.
NO_CSV = {f"{API}/changes": "a feed, which has a place of its own to go on from, and waits"}
# What a list wants to be asked for.
ASKED = {f"{API}/users/{{user}}/statement": "unit=USD"}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(rewards_units="USD,JPY,POINTS:1")


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_answers, "ROWS", 3)


async def fetch(reader: Person, path: str, **query: str) -> tuple[str, Rows]:
    """The name of the file, and its rows by their columns."""
    headers = {"Authorization": f"Bearer {reader.tokens['access_token']}"}
    async with reader.client.get(f"/api/v1{path}", params={**query, "format": "csv"}, headers=headers) as response:
        text = (await response.read()).decode()
        assert response.status == 200, text
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        disposition = response.headers["Content-Disposition"]
    assert text.startswith("\ufeff")
    assert text.endswith("\r\n")
    rows = list(csv.reader(io.StringIO(text[1:], newline=""), strict=True))
    assert {len(row) for row in rows} == {len(rows[0])}
    return disposition, [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


async def whole(reader: Person, path: str) -> list[dict[str, Any]]:
    """All pages of the list."""
    items, cursor = list[dict[str, Any]](), None
    while True:
        answer = await reader.get(path, params={"limit": "100", **({"cursor": cursor} if cursor else {})})
        items += answer.body["items"]
        cursor = answer.body["next_cursor"]
        if cursor is None:
            return items


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (-5, "-5"),
        (2**62, "4611686018427387904"),
        (True, "true"),
        (Decimal("-0.05"), "-0.05"),
        (Decimal(7).scaleb(2), "700"),
        ("Alice", "Alice"),
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-5", "'-5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\n=x", "'\n=x"),
        ("\uff1dx", "'\uff1dx"),
        ("  =1+1", "'  =1+1"),
        ("\xa0@x", "'\xa0@x"),
        ("  Alice", "  Alice"),
        ("a=b", "a=b"),
        (["hold", "review"], "hold review"),
        ([], ""),
        ({"plan": "pro"}, '{"plan":"pro"}'),
        ([{"from": 5, "percent": "22.5"}], '[{"from":5,"percent":"22.5"}]'),
    ],
)
def test_what_stands_in_a_cell(value: Any, text: str) -> None:
    assert cell(value) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_every_text_is_one_cell_and_no_formula(texts: list[str]) -> None:
    line = csv_answers._lines([["x", *map(cell, texts)]])
    [row] = csv.reader(io.StringIO(line, newline=""), strict=True)
    for found, text in zip(row[1:], texts, strict=True):
        assert found in (text, f"'{text}")
        assert not found.lstrip().startswith(FORMULA)
        assert not found.startswith(FORMULA)


@pytest.mark.parametrize(
    "schema",
    [
        *(UserSchema, ReferralSchema, RewardSchema, EventSchema, LineSchema, BalanceSchema, PlaceSchema),
        *(RuleSchema, ReviewItemSchema),
    ],
)
def test_no_two_columns_have_a_name(schema: type[Any]) -> None:
    names = [name for name, _ in cells(schema(), {}, lambda amount, unit: None, ())]
    assert len(names) == len(set(names)) > 3


def test_a_unit_has_the_decimals_of_the_standard_or_of_the_settings(make_config: MakeConfig) -> None:
    config = make_config(rewards_units="USD,JPY,POINTS:1")
    found = {unit: known_exponent_of(unit, config) for unit in ("USD", "JPY", "KWD", "POINTS", "STARS")}
    assert found == {"USD": 2, "JPY": 0, "KWD": 3, "POINTS": 1, "STARS": None}
    assert (exponent_of("STARS", config), exponent_of("JPY", config)) == (2, 0)


async def test_lists_are_whole_in_the_order_of_their_pages(small_pages: None, programme: Programme) -> None:
    admin = programme.admin
    await programme.rule(times=None)
    for number in range(7):
        await programme.come(f"u{number}")
        await programme.buy(number, f"u{number}")
    reader = await Product.with_key(programme.admin.client, "read")
    for path, name in (
        ("/users", "users"),
        ("/users?q=u", "users"),
        ("/events", "events"),
        ("/events?type=purchase", "events"),
        ("/rewards", "rewards"),
        ("/rewards?user=ext:alice", "rewards"),
        ("/rewards?status=approved", "rewards"),
        ("/users/ext:alice/rewards", "rewards"),
        ("/users/ext:alice/referrals", "referrals"),
        ("/users/ext:alice/statement?unit=USD", "statement"),
    ):
        bare, _, given_query = path.partition("?")
        query = dict(pair.split("=") for pair in given_query.split("&") if pair)
        disposition, rows = await fetch(reader, bare, **query)
        assert disposition == f'attachment; filename="{name}.csv"'
        expected = await whole(reader, path)
        assert [row["id"] for row in rows] == [item["id"] for item in expected], path
        assert len(rows) >= 7
    # From a cursor on, however many a page has.
    first = (await admin.get("/events?limit=5")).body
    _, rows = await fetch(reader, "/events", limit="1", cursor=first["next_cursor"])
    assert [row["id"] for row in rows] == [item["id"] for item in (await whole(reader, "/events"))[5:]]


def lists_of_operators(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations by which a service key reads lists and series, by their paths."""
    schemas, found = document["components"]["schemas"], {}
    for method, path, operation in operations(document):
        media = operation["responses"].get("200", {}).get("content", {}).get("application/json")
        if method != "GET" or media is None or {"ServiceKey": []} not in operation["security"]:
            continue
        items = schemas[media["schema"]["$ref"].rpartition("/")[2]]["properties"].get("items", {})
        if items.get("type") == "array":
            found[path] = operation
    return found


async def test_every_list_of_operators_comes_as_csv_with_what_its_pages_have(
    small_pages: None, programme: Programme, database_url: str, eventually: Eventually
) -> None:
    admin = programme.admin
    limits = {"per_referrer": {"count": 9, "period": "day"}, "budget": {"unit": "USD", "amount": 90_000, "period": "ever"}}
    rule = await programme.rule(
        give={"kind": "balance", "percent": "20", "max": 2500}, tiers=[{"from": 5, "percent": "22.5"}], limits=limits
    )
    await programme.change(rule, name="=1+1")
    await programme.come()
    await programme.buy(4900)
    assert (await admin.post("/referrals/ext:bob/signals", {"weight": 100, "note": "odd"})).status == 201
    for number in range(4):
        assert (await admin.put(f"/blocks/email/{number}@example.com", {"note": "=a note"})).status == 201
    hook = (await admin.post("/webhooks", {"url": "https://shop.invalid/hook", "types": ["*"]})).body
    await sql(
        database_url,
        "INSERT INTO outbox (id, kind, recipient, language, params, created_at, next_attempt_at, attempts, last_error, "
        "failed_at) VALUES ('01a1fc33-b15e-7485-b662-a53a843b9176', 'reset-password', 'x@example.com', 'en', '{}', 1, 1, 5, "
        "'=no', 2)",
    )
    await admin.user("carol")

    async def have_failed() -> bool:
        deliveries = (await admin.get(f"/webhooks/{hook['id']}/deliveries")).body["items"]
        return bool(deliveries) and all(delivery["last_error"] for delivery in deliveries)

    # Nothing changes between two answers: the next attempt is much later.
    await eventually(have_failed, 20)
    names = {"{user}": "ext:alice", "{rule_id}": rule["id"], "{webhook_id}": hook["id"]}
    async with admin.client.get("/openapi.json") as response:
        lists = lists_of_operators(await response.json())
    assert NO_CSV.keys() < lists.keys(), "an exemption of what is no list"
    assert len(lists) > 15
    for template, operation in lists.items():
        parameters = {parameter["name"] for parameter in operation["parameters"]}
        # Told by the description alone, for generators make a union of two types of content.
        takes_csv = "`format=csv`" in operation["description"]
        assert takes_csv == (template not in NO_CSV), f"{template}: it gives no CSV, or is exempt for no reason"
        if not takes_csv:
            continue
        path = template.removeprefix(API)
        for name, example in names.items():
            path = path.replace(name, example)
        query = dict([ASKED[template].split("=")] if template in ASKED else [])
        _, rows = await fetch(admin, path, **query)
        if "limit" in parameters:
            query["limit"] = "100"
        items = (await admin.get(path, params=query)).body["items"]
        assert items, f"{template}: there is nothing to compare"
        assert len(rows) == len(items), template
        for row, item in zip(rows, items, strict=True):
            plain = {name: value for name, value in item.items() if not isinstance(value, dict | list | None)}
            assert plain, template
            assert {name: row[name] for name in plain} == {name: cell(value) for name, value in plain.items()}, template


async def test_what_a_rule_says_has_a_column_each(programme: Programme) -> None:
    limits = {"per_referrer": {"count": 9, "period": "day"}, "budget": {"unit": "USD", "amount": 90_000, "period": "ever"}}
    tiers = [{"from": 5, "percent": "22.5"}]
    await programme.rule(give={"kind": "balance", "percent": "20", "max": 2500}, tiers=tiers, limits=limits)
    await programme.come()
    await programme.buy(4900)
    _, [row] = await fetch(programme.admin, "/rules")
    assert (row["give_percent"], row["give_max"], row["give_max_decimal"]) == ("20", "2500", "")
    assert (row["tiers"], row["limits_budget_amount_decimal"]) == ('[{"from":5,"fixed":null,"percent":"22.5"}]', "900.00")
    assert (row["spent_amount_decimal"], row["spent_count"]) == ("9.80", "1")
    assert "spent_count_decimal" not in row


async def test_what_is_nested_and_money_has_columns_of_its_own(programme: Programme) -> None:
    await programme.admin.user("alice", name="=cmd|' /C calc'!A0", metadata={"plan": 'p"ro', "n": 1})
    await programme.rule(give={"kind": "balance", "percent": "20"}, times=None)
    await programme.rule("referee", {"kind": "coupon", "label": "A month, free"})
    await programme.come()
    await programme.buy(4900, event="p1")
    await programme.buy(30, event="p2", unit="JPY")
    await programme.redeem("alice", 500)
    await programme.refund("p1")
    reader = programme.admin
    _, [coupon, share, *_] = await fetch(reader, "/rewards", event="p1")
    assert (share["value_unit"], share["value_amount"], share["value_amount_decimal"]) == ("USD", "980", "9.80")
    assert (share["rule_name"], share["status"], share["reversed"]) == ("a rule for the referrer", "reversed", "980")
    assert (coupon["label"], coupon["value_unit"], coupon["value_amount_decimal"]) == ("A month, free", "", "")
    _, balances = await fetch(reader, "/users/ext:alice/balances")
    assert [(row["unit"], row["available"], row["available_decimal"]) for row in balances] == [
        ("JPY", "6", "6"),
        ("USD", "-500", "-5.00"),
    ]
    _, lines = await fetch(reader, "/users/ext:alice/statement", unit="USD")
    assert [(row["kind"], row["amount"], row["balance_after_decimal"]) for row in lines] == [
        ("refund", "-980", "-5.00"),
        ("redemption", "-500", "4.80"),
        ("approval", "980", "9.80"),
    ]
    _, [alice] = await fetch(reader, "/users", external_id="alice")
    assert (alice["name"], alice["metadata"]) == ("'=cmd|' /C calc'!A0", '{"plan":"p\\"ro","n":1}')
    _, days = await fetch(reader, "/stats")
    assert len(days) == 30
    assert list(days[0])[:2] == ["at", "clicks"]
    today = days[-1]
    assert (today["purchases"], today["revenue_USD"], today["revenue_USD_decimal"]) == ("2", "4900", "49.00")
    assert (today["revenue_JPY_decimal"], today["refunded_JPY"], today["refunded_USD_decimal"]) == ("30", "0", "49.00")
    _, [place] = await fetch(reader, "/leaderboard", by="revenue")
    assert (place["rank"], place["value_amount_decimal"], place["count"]) == ("1", "49.00", "")


async def test_what_is_empty_has_its_columns(client: Client) -> None:
    reader = await Product.with_key(client, "read")
    headers = {"Authorization": f"Bearer {reader.tokens['access_token']}"}
    async with client.get("/api/v1/rewards?format=csv", headers=headers) as response:
        text = (await response.read()).decode()
    assert text.startswith("\ufeffid,caller_id,user_id,side,kind,label,value_unit,value_amount,value_amount_decimal,")
    assert text.count("\r\n") == 1
    async with client.head("/api/v1/rewards?format=csv", headers=headers) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        assert await response.read() == b""


async def test_what_cannot_be_answered_is_a_problem(client: Client) -> None:
    reader = await Product.with_key(client, "read")
    assert (await reader.get("/rewards?format=xml")).pointers == ["/format"]
    assert (await reader.get("/rewards?format=csv&user=ext:nobody")).problem == "not-found"
    assert (await reader.get("/rewards?format=csv&cursor=AAAAAAAAAAAA")).pointers == ["/cursor"]
    assert (await reader.get("/stats?format=csv&interval=hour")).pointers == ["/interval"]
    assert (await Person(client, "").get("/rewards?format=csv")).problem == "unauthorized"
    assert (await reader.get("/keys?format=csv")).problem == "forbidden"


async def test_an_answer_that_cannot_go_on_is_cut(
    small_pages: None, programme: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        await programme.buy(1, f"u{number}")
    pages, read = 0, events.list_events

    async def failing(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 2:
            raise DatabaseUnavailable("out")
        return await read(*arguments)

    monkeypatch.setattr(events, "list_events", failing)
    headers = {"Authorization": f"Bearer {programme.admin.tokens['access_token']}"}
    with pytest.raises(ClientError):
        async with programme.admin.client.get("/api/v1/events?format=csv", headers=headers) as response:
            await response.read()
    assert pages == 2
    # The service goes on.
    _, rows = await fetch(programme.admin, "/events")
    assert len(rows) == 7


async def test_32_exports_at_once_are_whole_beside_what_is_written(small_pages: None, programme: Programme) -> None:
    for number in range(7):
        await programme.buy(1, f"u{number}")
    before = [item["id"] for item in await whole(programme.admin, "/events")]
    bought = asyncio.gather(*(programme.buy(1, f"new{number}") for number in range(8)))
    found = await asyncio.gather(*(fetch(programme.admin, "/events") for _ in range(32)))
    await bought
    for _, rows in found:
        assert [row["id"] for row in rows][-7:] == before
