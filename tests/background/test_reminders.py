"""Reviews that nobody decides: the admins are reminded of each once, on however many workers, and nothing else happens."""

from __future__ import annotations

import asyncio

import pytest

from referral.app import create_app
from referral.background.mailer import MAILER
from referral.background.relay import RELAY
from referral.background.reminders import ReminderWorker
from referral.clock import DAY, now
from referral.config import CONFIG
from referral.database import DATABASE
from tests.conftest import Client, MakeConfig
from tests.support.feed import Follower, kinds
from tests.support.people import Person, Product
from tests.support.programme import Programme
from tests.support.rows import everything, make_admin, sql
from tests.support.serving import client_of


@pytest.fixture(autouse=True)
def nobody_else_reminds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest(_: ReminderWorker) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ReminderWorker, "run", rest)


@pytest.fixture(autouse=True)
def no_mail_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("referral.background.mailer.Mailer.run", rest)


def worker(client: Client) -> ReminderWorker:
    app = client.app
    return ReminderWorker(app[CONFIG].fraud, app[DATABASE], app[RELAY], app[MAILER])


async def opened(programme: Programme, url: str, days: float, *referees: str) -> None:
    """Reviews that were opened so many days ago."""
    for referee in referees:
        await programme.come(referee)
        await programme.suspect(referee)
        whose = f"(SELECT id FROM users WHERE external_id = '{referee}')"
        await sql(url, f"UPDATE reviews SET opened_at = {now() - int(days * DAY)} WHERE user_id = {whose}")


async def test_the_admins_get_one_mail_and_each_review_is_told_once(
    programme: Programme, client: Client, database_url: str
) -> None:
    for name in ("root", "boss", "gone", "user"):
        person = await Person.register(client, name)
        if name != "user":
            await make_admin(database_url, person.id)
    await sql(database_url, "UPDATE users SET suspended_at = 1, suspended_reason = 'x' WHERE username = 'gone'")
    await sql(database_url, "DELETE FROM outbox")
    follower = Follower(await Product.with_key(client, "read"))
    await opened(programme, database_url, 7.1, "bob", "carol")
    await opened(programme, database_url, 6.9, "dave")
    await opened(programme, database_url, 8, "erin")
    await programme.decide("clear", "erin")
    await follower.news()

    assert await worker(client).work_off() == 2
    told = await follower.news()
    assert kinds(told) == ["review.overdue"] * 2
    assert {change["data"]["external_id"] for change in told} == {"bob", "carol"}
    mails = await sql(database_url, "SELECT recipient, kind, params FROM outbox ORDER BY recipient")
    assert [tuple(mail) for mail in mails] == [
        (f"{name}@example.com", "reviews-overdue", '{"count":2,"days":7}') for name in ("boss", "root")
    ]
    assert (await programme.review("bob"))["reminded_at"] is not None
    assert (await programme.review("dave"))["reminded_at"] is None
    # Time decides nothing, and nobody is reminded again.
    assert (await programme.review("bob"))["status"] == "open"
    before = await everything(database_url)
    assert await worker(client).work_off() == 0
    assert await everything(database_url) == before
    # One that opens again is another matter.
    await programme.decide("clear", "bob")
    await programme.suspect("bob")
    assert (await programme.review("bob"))["reminded_at"] is None


async def test_several_workers_remind_of_each_once(programme: Programme, client: Client, database_url: str) -> None:
    root = await Person.register(client, "root")
    await make_admin(database_url, root.id)
    await sql(database_url, "DELETE FROM outbox")
    names = [f"user{number}" for number in range(9)]
    await opened(programme, database_url, 30, *names)
    counts = await asyncio.gather(*(worker(client).work_off() for _ in range(8)))
    assert sum(counts) == len(names)
    follower = Follower(await Product.with_key(client, "read"))
    assert sum(change["type"] == "review.overdue" for change in await follower.news()) == len(names)
    mails = await sql(database_url, "SELECT params FROM outbox")
    assert len(mails) == sum(count > 0 for count in counts)


async def test_reminders_and_decisions_at_once_do_not_get_in_each_others_way(
    programme: Programme, client: Client, database_url: str
) -> None:
    names = [f"user{number}" for number in range(8)]
    await opened(programme, database_url, 30, *names)
    await asyncio.gather(
        worker(client).work_off(), *(programme.decide("reject", name) for name in names), worker(client).work_off()
    )
    found = {review["status"] for review in (await programme.admin.get("/reviews")).body["items"]}
    assert found == {"rejected"}


async def test_the_application_runs_the_worker(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()

    async def run(_: ReminderWorker) -> None:
        started.set()

    monkeypatch.setattr(ReminderWorker, "run", run)
    async with client_of(create_app(make_config())):
        await asyncio.wait_for(started.wait(), 5)
