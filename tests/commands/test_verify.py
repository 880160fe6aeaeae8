"""`run.py verify`: every sum, count and state recomputed from its rows, and each difference named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from referral.commands import Failed
from referral.database import is_postgres
from tests.conftest import Command
from tests.support.programme import SHARE, Programme
from tests.support.rows import sql
from tests.support.service import run_py


@pytest.fixture
async def busy(programme: Programme) -> Programme:
    """A programme in which everything has happened once."""
    await programme.rule(
        give=SHARE,
        times=3,
        hold_days=30,
        limits={
            "budget": {"unit": "USD", "amount": 9000, "period": "month"},
            "per_referrer": {"count": 9, "period": "day"},
        },
    )
    await programme.rule("referee", {"kind": "coupon", "label": "A month"})
    await programme.come()
    first = (await programme.buy(1000, event="one")).body["rewards"]
    second = (await programme.buy(2000, event="two")).body["rewards"]
    await programme.buy(3000, event="three")
    await programme.step(first[0], "approve", now=True)
    await programme.step(first[0], "reverse", id="by hand", amount=20, reason="x")
    await programme.refund("one", 100, "part")
    await programme.step(second[0], "reject", reason="x")
    await programme.step(first[1], "fulfil")
    await programme.give("alice", 700)
    await programme.redeem("alice", 100, "done")
    await programme.redeem("alice", 50, "reserved", hold_seconds=600)
    await programme.redeem("alice", 50, "captured", hold_seconds=600)
    await programme.admin.post("/redemptions/captured/capture")
    await programme.suspect()
    await programme.decide("clear")
    return programme


async def test_a_programme_that_is_right_has_no_difference(busy: Programme, command: Command) -> None:
    assert (await command("verify")) == (
        "No difference: 1 accounts, 13 transfers, 5 rewards and 3 redemptions are verified.\n"
    )


@contextlib.asynccontextmanager
async def _unguarded(url: str) -> AsyncIterator[None]:
    """What refuses a change of transfers is put aside: by whoever restores a database half-way, or edits it."""
    off, on = "ALTER TABLE transfers DISABLE TRIGGER USER", "ALTER TABLE transfers ENABLE TRIGGER USER"
    triggers = []
    if is_postgres(url):
        await sql(url, off)
    else:
        triggers = await sql(url, "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'transfers'")
        for name, _ in triggers:
            await sql(url, f"DROP TRIGGER {name}")
    yield
    if is_postgres(url):
        await sql(url, on)
    for _, text in triggers:
        await sql(url, text)


CHANGES = [
    ("UPDATE accounts SET programme = programme - 1, pending = pending + 1", ["programme is", "pending is"]),
    ("UPDATE accounts SET available = available - 3, spent = spent + 3", ["available is", "spent is"]),
    ("UPDATE accounts SET reserved = reserved + 1, programme = programme - 1", ["programme is", "reserved is"]),
    ("UPDATE accounts SET earned = earned + 1", ["earned is"]),
    ("UPDATE accounts SET reversed = reversed + 1", ["reversed is"]),
    ("UPDATE accounts SET lines = lines + 1", ["the number of lines is"]),
    ("UPDATE transfers SET available_after = available_after + 1 WHERE line = 2", ["line 2 says"]),
    ("UPDATE transfers SET line = 99 WHERE line = 7", ["line 99 says"]),
    (
        "UPDATE transfers SET amount = amount + 1 WHERE kind = 'reservation' AND line = 6",
        ["available is", "reserved is", "line 6", "redemption"],
    ),
    ("DELETE FROM transfers WHERE kind = 'capture'", ["spent is", "reserved is", "redemption captured of 50 is done"]),
    ("DELETE FROM transfers WHERE kind = 'void'", ["programme is", "pending is", "is void: (0, 0, 0) were approved"]),
    (
        "UPDATE rewards SET reversed = reversed + 1 WHERE status = 'approved' AND kind = 'balance' AND rule_id IS NOT NULL",
        ["are reversed, and refunds", "were approved"],
    ),
    ("UPDATE rewards SET reversed_by_hand = 19 WHERE reversed_by_hand = 20", ["19 are reversed by hand"]),
    ("UPDATE rewards SET status = 'approved', approved_at = 1, due_at = NULL WHERE status = 'pending'", ["is approved: "]),
    ("UPDATE rewards SET value = value + 1 WHERE status = 'pending'", ["were promised in the ledger", "budget of rule"]),
    ("UPDATE rewards SET status = 'reversed' WHERE kind = 'coupon' AND status = 'fulfilled'", ["say otherwise"]),
    ("UPDATE rule_usage SET used = used - 1 WHERE subject = 'budget'", ["budget of rule"]),
    ("UPDATE rule_usage SET used = used - 1 WHERE subject <> 'budget'", ["are counted of referrer"]),
    ("UPDATE events SET refunded = 50 WHERE id = 'one'", ["event one: 50 are refunded", "refunds and reversals take"]),
    ("UPDATE referrals SET review = 'open'", ["its review is said to be open, and is cleared"]),
    ("UPDATE referrals SET conversions = 2", ["2 events are said to convert it, and 3 do"]),
    ("UPDATE users SET converted_count = 2 WHERE external_id = 'alice'", ["said to have 2 converted ones, and has 1"]),
    ("UPDATE users SET referral_count = 2 WHERE external_id = 'alice'", ["said to have 2 referrals, and has 1"]),
    ("UPDATE redemptions SET status = 'cancelled' WHERE id = 'done'", ["redemption done of 100 is cancelled"]),
    ("UPDATE redemptions SET amount = 101 WHERE id = 'done'", ["redemption done of 101 is done"]),
    ("UPDATE referrals SET converted_at = 7", ["do, since 7"]),
    (
        "UPDATE rewards SET user_id = (SELECT id FROM users WHERE external_id = 'bob') WHERE caller_id IS NOT NULL",
        ["are another user's"],
    ),
    ("UPDATE rewards SET unit = 'EUR' WHERE caller_id IS NOT NULL", ["are another user's, or of another unit"]),
    ("UPDATE rewards SET side = 'referee' WHERE status = 'pending'", ["who is not the referee"]),
    ("UPDATE rewards SET due_at = NULL WHERE status = 'pending'", ["will not be released at its time"]),
    ("UPDATE rules SET version = 2 WHERE side = 'referee'", ["said to be in version 2, and its latest is 1"]),
]


async def test_each_difference_is_named(
    busy: Programme, command: Command, capsys: pytest.CaptureFixture[str], database_url: str, tmp_path: Path
) -> None:
    tables = (
        "accounts",
        "transfers",
        "rewards",
        "rule_usage",
        "events",
        "referrals",
        "users",
        "redemptions",
        "rules",
        "reviews",
    )
    for change, expected in CHANGES:
        async with _unguarded(database_url):
            for table in tables:
                await sql(database_url, f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
            await sql(database_url, change)
            with pytest.raises(Failed, match=r"\d+ differences; 1 accounts"):
                await command("verify")
            printed = capsys.readouterr().out
            assert [text for text in expected if text not in printed] == [], (change, printed)
            assert len(printed.splitlines()) <= len(expected) + 2, (change, printed)
            changed = change.split()[1] if change.startswith("UPDATE") else change.split()[2]
            await _restore(database_url, changed)
            for table in tables:
                await sql(database_url, f"DROP TABLE kept_{table}")
    assert "No difference" in await command("verify")


async def _restore(url: str, table: str) -> None:
    """Bring a table's rows back to what was kept of them."""
    if table == "transfers":
        await sql(url, "DELETE FROM transfers")
        await sql(url, "INSERT INTO transfers SELECT * FROM kept_transfers")
        return
    if is_postgres(url):
        columns = [
            row[0]
            for row in await sql(url, f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'")
        ]
    else:
        columns = [row[0] for row in await sql(url, f"SELECT name FROM pragma_table_info('{table}')")]
    keys = {
        "accounts": ("user_id", "unit"),
        "referrals": ("user_id",),
        "rule_usage": ("rule_id", "subject"),
    }.get(table, ("id",))
    matches = " AND ".join(f"k.{key} = {table}.{key}" for key in keys)
    sets = ", ".join(
        f"{name} = (SELECT k.{name} FROM kept_{table} k WHERE {matches})" for name in columns if name not in keys
    )
    await sql(url, f"UPDATE {table} SET {sets}")


@pytest.mark.parametrize("table", ["stat_days", "stat_deltas"])
async def test_statistics_that_the_rows_do_not_come_to_are_named(
    busy: Programme, command: Command, capsys: pytest.CaptureFixture[str], database_url: str, table: str
) -> None:
    wrong = f"INSERT INTO {table} (day, what, unit, count, amount) VALUES (86400000, 'reward', 'EUR', 2, -5)"
    await sql(database_url, wrong)
    with pytest.raises(Failed, match="1 differences"):
        await command("verify")
    assert "statistics of 1970-01-02: reward EUR is +2 in number and -5 in amount beside" in capsys.readouterr().out
    # Those that do not have all of it yet say nothing.
    await sql(database_url, "UPDATE stat_state SET filled = 0")
    assert "No difference" in await command("verify")


async def test_a_doubled_ordinal_would_be_named(
    busy: Programme, command: Command, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    schema = "SELECT indexdef FROM pg_indexes" if is_postgres(database_url) else "SELECT sql FROM sqlite_schema"
    column = "indexname" if is_postgres(database_url) else "name"
    ((index,),) = await sql(database_url, f"{schema} WHERE {column} = 'rewards_times'")
    numbered = "kind = 'balance' AND ordinal IS NOT NULL"
    kept = await sql(database_url, f"SELECT id, ordinal FROM rewards WHERE {numbered}")
    await sql(database_url, "DROP INDEX rewards_times")
    await sql(database_url, f"UPDATE rewards SET ordinal = 1 WHERE {numbered}")
    with pytest.raises(Failed, match="1 differences"):
        await command("verify")
    assert "gave the referrer the 1. reward for the referral of" in capsys.readouterr().out
    # Another test gets this database.
    for reward_id, ordinal in kept:
        await sql(database_url, f"UPDATE rewards SET ordinal = {ordinal} WHERE id = '{reward_id}'")
    await sql(database_url, index)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_the_command_ends_with_one_and_says_how_many(busy: Programme, database_url: str) -> None:
    async def verify() -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *run_py(),
            "verify",
            env={"REFERRAL_DATABASE_URL": database_url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    code, out, err = await verify()
    assert (code, err) == (0, "")
    assert out.startswith("No difference")
    await sql(database_url, "UPDATE accounts SET earned = earned + 1")
    code, out, err = await verify()
    assert code == 1
    assert "earned is" in out
    assert "1 differences; 1 accounts" in err


async def test_it_sees_one_moment_beside_a_service_that_goes_on(busy: Programme, command: Command) -> None:
    done = 0

    async def work() -> None:
        nonlocal done
        while done < 6:
            await busy.buy(1000, f"new {done}", code=busy.codes["alice"])
            await busy.give("alice", 5)
            await busy.redeem("alice", 3)
            done += 1

    working = asyncio.create_task(work())
    while not working.done():
        assert "No difference" in await command("verify")
    await working


async def test_what_is_wrong_with_reviews_is_named(
    programme: Programme, command: Command, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    await programme.rule(times=None)
    for referee in ("bob", "carol"):
        await programme.come(referee)
        await programme.buy(referee=referee)
        await programme.suspect(referee, 60)
        await programme.suspect(referee, 7)
    await programme.decide("reject", "carol")
    await programme.come("dave")
    bob, carol = [(await programme.admin.get(f"/users/ext:{name}")).body["id"] for name in ("bob", "carol")]
    review = f"user_id = '{bob}'"
    for change, back, said in (
        (
            f"UPDATE reviews SET user_id = (SELECT id FROM users WHERE external_id = 'dave') WHERE {review}",
            f"UPDATE reviews SET user_id = '{bob}' WHERE status = 'open'",
            f"referral of user {bob}: its review is said to be open, and is none",
        ),
        (
            "UPDATE reviews SET score = 60 WHERE status = 'open'",
            "UPDATE reviews SET score = 67 WHERE status = 'open'",
            f"referral of user {bob}: its review has a score of 60, and its signals come to 67",
        ),
        (
            f"UPDATE rewards SET status = 'approved' WHERE referral_user_id = '{carol}'",
            f"UPDATE rewards SET status = 'reversed' WHERE referral_user_id = '{carol}'",
            f"referral of user {carol} is rejected, and has 0 conversions and 1 rewards that are left",
        ),
        (
            f"UPDATE referrals SET conversions = 1, converted_at = 1 WHERE user_id = '{carol}'",
            f"UPDATE referrals SET conversions = 0, converted_at = NULL WHERE user_id = '{carol}'",
            f"referral of user {carol} is rejected, and has 1 conversions and 0 rewards that are left",
        ),
    ):
        await sql(database_url, change)
        with pytest.raises(Failed):
            await command("verify")
        assert said in capsys.readouterr().out
        await sql(database_url, back)
    assert (await command("verify")).startswith("No difference")
