"""The statements of `sql/`: rows become objects by the names of their columns, pages, and what may be deferred."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import asyncpg
import pytest

import referral.database
from referral import queries
from referral.database import Database, is_postgres
from referral.database.opening import open_database
from referral.database.statements import Statement, builder_of, columns_of, load_statements
from referral.queries import audit, referrals, users
from tests.database.test_database import WORLD, execute
from tests.support.rows import sql


@dataclass(frozen=True, slots=True)
class Pair:
    first: str
    second: str


class PairOfTuple(NamedTuple):
    first: str
    second: str


# Columns and fields


async def test_the_columns_read_off_a_statement_are_those_that_the_database_returns(database_url: str) -> None:
    found = {}
    if is_postgres(database_url):
        connection = await asyncpg.connect(database_url)
        for name, statement in load_statements("postgres").items():
            prepared = await connection.prepare(statement.sql)
            found[name] = tuple(attribute.name for attribute in prepared.get_attributes())
        await connection.close()
        assert found == {name: statement.columns for name, statement in load_statements("postgres").items()}
        return
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)) as file:
        file.execute("PRAGMA ignore_check_constraints = ON")
        for name, statement in load_statements("sqlite").items():
            # With nulls none of them finds a row; only a plain INSERT would break a rule, and gets texts.
            if statement.columns:
                text = "x" if re.search(r"INSERT INTO [^;]*\bVALUES\b", statement.sql) else None
                given = {name: 0 if name.endswith("_size") else text for name in re.findall(r":(\w+)", statement.sql)}
                cursor = file.execute(statement.sql, given)
                found[name] = tuple(column[0] for column in cursor.description)
            else:
                assert "RETURNING" not in statement.sql
                assert not statement.sql.lstrip().startswith(("SELECT", "WITH"))
    assert found == {name: statement.columns for name, statement in load_statements("sqlite").items() if statement.columns}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a, t.b, c AS d FROM t WHERE e IN (SELECT f FROM g)", ("a", "b", "d")),
        ("SELECT (SELECT x FROM y) AS z, count(a, b) AS n FROM t", ("z", "n")),
        ("SELECT CASE WHEN 'FROM, x' = a THEN b END AS c FROM t;", ("c",)),
        ("SELECT a -- FROM here, on\n, b FROM t", ("a", "b")),
        ("WITH w (x) AS (SELECT 1) SELECT w.x FROM w", ("x",)),
        ("INSERT INTO t (a, b) SELECT c, d FROM u ON CONFLICT (a) DO NOTHING RETURNING a, (SELECT 1) AS b", ("a", "b")),
        ("WITH w AS (SELECT 1 AS x) INSERT INTO t (a) SELECT w.x FROM w RETURNING a", ("a",)),
        ("UPDATE t SET a = 1 WHERE b = (SELECT c FROM d)", ()),
        ("DELETE FROM t WHERE a IN (SELECT b FROM t) RETURNING b;\n", ("b",)),
    ],
)
def test_columns_are_named_as_the_statement_names_them(text: str, expected: tuple[str, ...]) -> None:
    assert columns_of(text) == expected


@pytest.mark.parametrize(
    "text", ["SELECT count(*) FROM t", "SELECT a, b + 1 FROM t", "SELECT :a", "DELETE FROM t RETURNING 1 + a"]
)
def test_a_column_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"column \d has no name"):
        columns_of(text)


@pytest.mark.parametrize("record", [Pair, PairOfTuple])
def test_each_column_goes_to_the_field_of_its_name_wherever_it_stands(record: type[Any]) -> None:
    assert builder_of(record, ("first", "second"))(("a", "b")) == record(first="a", second="b")
    assert builder_of(record, ("second", "first"))(("b", "a")) == record(first="a", second="b")
    for columns in (("first",), ("first", "third"), ("first", "second", "third"), ()):
        with pytest.raises(ValueError, match=record.__name__):
            builder_of(record, columns)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_record_has_the_columns_of_its_statements(dialect: str) -> None:
    records = queries.records()
    load_statements(dialect, records)
    assert len(records) > 20
    assert records["find_account"].__name__ == "Account"
    assert records["list_referrals"] is referrals.Referral


@pytest.mark.parametrize("statement", ["find_contact", "list_referrals"])
async def test_a_record_that_does_not_fit_stops_the_opening(database_url: str, statement: str) -> None:
    with pytest.raises(ValueError, match=rf"statement {statement}: its columns are .*; Pair has first, second"):
        await open_database(database_url, {statement: Pair})
    with pytest.raises(ValueError, match="there is no statement find_nothing"):
        await open_database(database_url, {"find_nothing": Pair})


# Pages


async def test_a_page_has_the_rows_and_the_types_of_a_list(database: Database) -> None:
    await execute(database, *WORLD, "UPDATE users SET username = 'ä\"\\ 漢', username_key = 'x' WHERE id = 'bob'")
    parameters = {"referrer_id": "alice", "before_time": 2**62, "before_id": "~", "page_size": 10, "with_email": 1}
    async with database.reader() as conn:
        listed = await conn.all("list_referrals", referrals.Referral, **parameters)
        assert await conn.page("list_referrals", referrals.Referral, **parameters) == listed
        assert listed == [referrals.Referral(0, "bob", None, 'ä"\\ 漢', None, "bob", 1, "ALICES-1")]
        assert await conn.page("list_referrals", referrals.Referral, **{**parameters, "referrer_id": "nobody"}) == []
    async with database.transaction() as conn:
        assert await conn.page("list_referrals", referrals.Referral, **parameters) == listed


async def test_a_slow_statement_is_logged_however_it_is_asked_for(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referral.database, "SLOW_STATEMENT", -1.0)
    page = {"referrer_id": "nobody", "before_time": 1, "before_id": "", "page_size": 1, "with_email": 0}
    async with database.reader() as conn:
        for asking in (
            conn.run("find_contact", user_id="nobody"),
            conn.one("find_contact", users.Contact, user_id="nobody"),
            conn.value("find_contact", str, user_id="nobody"),
            conn.values("find_contact", str, user_id="nobody"),
            conn.all("list_referrals", referrals.Referral, **page),
            conn.page("list_referrals", referrals.Referral, **page),
        ):
            await asking
    slow = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert slow == ["slow statement find_contact"] * 4 + ["slow statement list_referrals"] * 2


# What may be deferred

# The rules of the tables that deferred statements write to, and why none of them can be broken: the next statement's caller
# would be told of a violation that is not theirs.
KEPT = {
    ("insert_event", "audit_events_pkey"): "ON CONFLICT (id) DO NOTHING",
    ("insert_event", "audit_events_email"): "the statement leaves the e-mail out where there is a user",
    ("insert_event", "audit_events_event"): "the events are a Literal, and each of them has the shape",
    ("count_left_out", "audit_events_pkey"): "ON CONFLICT (id) DO UPDATE",
    ("count_left_out", "audit_events_email"): "the statement has no e-mail",
    ("count_left_out", "audit_events_event"): "the statement names the event, which has the shape",
    ("increment_code_count", "users_code_count"): "a count that grows does not become negative",
    ("add_to_referral_count", "users_referral_count"): "a count that grows does not become negative",
    ("insert_first_session", "sessions_pkey"): "the id is new",
    ("insert_first_session", "reference user_id"): "the user was inserted by the same transaction",
    (
        "insert_event_once",
        "events_pkey",
    ): "whoever reports an event expects it of any statement of the transaction, and answers as the first time",
    ("insert_event_once", "events_value"): "reports with half of one, or less than nothing, are refused",
    ("insert_event_once", "events_refunded"): "nothing is refunded yet",
    ("insert_event_once", "events_refunds"): "refunds are inserted by another statement",
    ("insert_event_once", "events_attribution"): "the words are texts of the program, and have the shape",
    ("insert_event_once", "events_converts"): "it is a boolean",
    ("insert_event_once", "reference user_id"): "the user is locked, or was inserted by the same transaction",
    ("convert_referral", "referrals_conversions"): "a count that grows does not become negative",
    ("convert_referral", "referrals_converted"): "what converts has a time, and a count that grows is not 0",
    ("insert_event_once", "reference refunds"): "refunds are inserted by another statement",
    (
        "insert_event_context",
        "event_contexts_pkey",
    ): "whoever reports an event expects it of any statement of the transaction, and no kind comes twice",
    ("insert_event_context", "event_contexts_hash"): "HMACs have that length",
    ("insert_event_context", "reference event_id"): "the event was inserted by the same transaction",
    ("insert_event_context", "reference user_id"): "the event refers to the same user",
    ("insert_event_context", "reference key_id"): "it is read from its table",
    ("insert_mail", "outbox_pkey"): "the id is new",
    ("insert_mail", "outbox_kind"): "the kinds are a Literal, and each of them has the shape",
    ("insert_mail", "outbox_user"): "only a reset is queued for nobody",
    ("insert_mail", "reference user_id"): "users stay",
    ("take_links_over", "reference user_id"): "the user was inserted by the same transaction",
    ("insert_refresh_token", "refresh_tokens_pkey"): "the name is the hash of 256 random bits",
    (
        "insert_recovery_code",
        "recovery_codes_pkey",
    ): "they are 80 random bits each; former ones went with their factor",
    ("insert_recovery_code", "reference user_id"): "the second factor was confirmed by the same transaction",
    ("insert_session_cookie", "session_cookies_pkey"): "the name is the hash of 256 random bits",
    ("insert_session_cookie", "session_cookies_of_session"): "the session was inserted by the same transaction",
    ("insert_session_cookie", "reference session_id"): "the session was inserted by the same transaction",
    ("insert_refresh_token", "reference session_id"): "the session was inserted or extended by the same transaction",
    ("insert_reward", "rewards_pkey"): "the ids are new",
    ("insert_reward", "rewards_origin"): "those by a rule have what a rule gives, those by hand what their schema asks for",
    ("insert_reward", "rewards_value"): "a value of 0 is nothing, and a balance by hand has one",
    ("insert_reward", "rewards_reversed"): "nothing is reversed yet",
    ("insert_reward", "rewards_label"): "rules and calls without one are refused",
    ("insert_reward", "rewards_ordinal"): "the ordinal is a free one, up to the rule's times",
    ("insert_reward", "rewards_status"): "the states are texts of the program, and have the shape",
    ("insert_reward", "rewards_approved"): "what is approved at once has the time",
    ("insert_reward", "rewards_fulfilled"): "none is fulfilled yet",
    ("insert_reward", "rewards_due"): "only a pending one that nobody has to approve is due",
    ("insert_reward", "rewards_once"): "the event was inserted by the same transaction",
    ("insert_reward", "rewards_times"): "the referee is locked, and the ordinal is free",
    (
        "insert_reward",
        "rewards_caller_id",
    ): "whoever gives by hand expects it of any statement of the transaction, and answers as the first time",
    ("insert_reward", "reference user_id"): "the user is locked, or a referrer, who stays",
    ("insert_reward", "reference event_id"): "the event was inserted by the same transaction",
    ("insert_reward", "reference referral_user_id"): "the referee is locked",
    ("insert_reward", "reference referrer_id"): "users stay",
    ("insert_transfers", "transfers_pkey"): "the cause's row is locked, and its state says that it has not moved the like",
    ("insert_transfers", "transfers_amount"): "nobody moves nothing",
    ("insert_transfers", "transfers_legs"): "the legs are those of the program, and differ",
    ("insert_transfers", "transfers_line"): "exactly those that move `available` get a line",
    ("insert_transfers", "transfers_line_once"): "the account's row is this transaction's, and has counted the line",
    ("insert_transfers", "transfers_cause"): "each movement names one",
    ("insert_transfers", "reference reward_id"): "the reward was inserted or locked by the same transaction",
    ("insert_transfers", "reference redemption_id"): "the redemption was inserted or locked by the same transaction",
    ("insert_signals", "signals_pkey"): "ON CONFLICT (user_id, kind, reference) DO NOTHING",
    ("insert_signals", "signals_kind"): "the kinds are words of the program, and have the shape",
    ("insert_signals", "signals_weight"): "weights are checked with the settings, and those that are given by their schema",
    ("insert_signals", "signals_judged"): "nobody has judged a new one",
    ("insert_signals", "reference user_id"): "the user is locked, and came by somebody",
    ("open_review", "reviews_pkey"): "ON CONFLICT (user_id) DO UPDATE",
    ("open_review", "reviews_status"): "the statement names the state, which has the shape",
    ("open_review", "reviews_score"): "it is the sum of weights, which are not negative",
    ("open_review", "reviews_decided"): "the statement names the state, and leaves the decision empty",
    ("open_review", "reviews_decider"): "the statement leaves the decision empty",
    ("open_review", "reviews_suspends"): "the statement sets it to 0",
    ("open_review", "reference decided_by_user"): "the statement leaves it empty",
    ("update_score", "reviews_score"): "it is the sum of weights, which are not negative",
    ("set_review", "referrals_review"): "the words are texts of the program, and have the shape",
    ("advance_feed", "feed_order"): "the number grows, and only numbers up to it are gone",
}


def deferred_statements() -> Iterator[str]:
    for file in Path(queries.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "conn.defer":
                assert isinstance(node.args[0], ast.Constant)
                yield str(node.args[0].value)


def rules_touched(file: sqlite3.Connection, statement: str) -> set[str]:
    """The rules that have to do with a column that the statement writes."""
    written = re.search(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)", statement)
    if written is None:
        assert statement.lstrip().startswith(("--", "SELECT"))
        return set()
    table, updated = written[1], re.search(r"\bSET\b(.*?)\bWHERE\b", statement, re.DOTALL)
    # An insert writes every column, whatever it does where there is a row already.
    updated = None if written[0].startswith("INSERT") else updated
    if statement.lstrip().startswith("DELETE"):
        referring = f"SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%REFERENCES {table} %'"
        assert file.execute(referring).fetchone() == (0,), "rows of other tables may refer to it"
        return set()
    columns = (
        set(re.findall(r"(\w+) =", updated[1]))
        if updated
        else {row[1] for row in file.execute(f"SELECT * FROM pragma_table_info('{table}')")}
    )
    (definition,) = file.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchone()
    indexes = file.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?", (table,)).fetchall()
    definition = re.sub(r"--[^\n]*", "", definition)
    rules = dict(
        re.findall(r"CONSTRAINT (\w+) CHECK\s*(\(.*?\))(?=,?\s*(?:[^(),]*CONSTRAINT|\)\s*\Z))", definition, re.DOTALL)
    )
    rules |= {name: text for name, text in indexes if text and text.startswith("CREATE UNIQUE")}
    rules |= dict(re.findall(r"CONSTRAINT (\w+) (?:PRIMARY KEY|UNIQUE) (\([\w, ]+\))", definition))
    rules |= {f"{table}_pkey": name for name in re.findall(r"(\w+) TEXT NOT NULL PRIMARY KEY", definition)}
    rules |= {f"reference {name}": name for name in re.findall(r"(\w+) TEXT (?:NOT NULL )?REFERENCES", definition)}
    return {name for name, text in rules.items() if columns & set(re.findall(r"\w+", text))}


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_only_statements_that_can_break_no_rule_are_deferred(dialect: str, migrated_database: Path) -> None:
    names = set(deferred_statements())
    assert len(names) == 23
    with closing(sqlite3.connect(migrated_database)) as file:
        touched = {(name, rule) for name in names for rule in rules_touched(file, load_statements(dialect)[name].sql)}
        # The reading of rules finds what there is.
        assert rules_touched(file, "UPDATE codes SET uses = 1 WHERE code = 'X'") == {"codes_uses"}
        assert "users_email_key" in rules_touched(file, load_statements(dialect)["insert_user"].sql)
        assert "reference referrer_id" in rules_touched(file, load_statements(dialect)["insert_code"].sql)
        with pytest.raises(AssertionError, match="may refer to it"):
            rules_touched(file, "DELETE FROM users WHERE id = 'alice'")
    # Whoever defers a further statement, or adds a rule, says here how it is kept.
    assert touched == KEPT.keys()


async def test_the_deferred_insert_breaks_no_rule_whatever_it_is_given(database: Database, database_url: str) -> None:
    event = audit.Event("one", 1, "signed-in", None, "alice", "alice@example.com", None, None, "{}")
    async with database.transaction() as conn:
        await audit.insert_event(conn, event)
        # The same id, and a user beside an e-mail.
        await audit.insert_event(conn, event)
        for number, name in enumerate(get_args(audit.EventName)):
            await audit.insert_event(conn, audit.Event(f"{number}", 1, name, None, None, "x@example.com", None, None, "{}"))
    found = await sql(database_url, "SELECT id, user_id, email FROM audit_events WHERE user_id IS NOT NULL")
    assert list(map(tuple, found)) == [("one", "alice", None)]
    assert len(await sql(database_url, "SELECT id FROM audit_events")) == 1 + len(get_args(audit.EventName))


async def test_the_deferred_update_ends_every_unrevoked_code_of_a_user_at_once(database: Database) -> None:
    await execute(database, *WORLD)
    conn: Any
    async with database.transaction() as conn:
        conn._statements["end"] = Statement("SELECT 1 AS one")
        ended = conn.defer("revoke_codes_in_the_way", referrer_id="alice", now=3, replace=1)
        again = conn.defer("revoke_codes_in_the_way", referrer_id="alice", now=4, replace=1)
        await conn.run("end")
        assert (ended.values(str), again.values(str)) == (["ALICES-1"], [])
