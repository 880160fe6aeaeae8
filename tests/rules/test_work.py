"""The unit of work: each part of a transaction's end in its place, whatever becomes of the transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from referral.auth.identity import IDENTITY
from referral.background.mailer import MAILER
from referral.cache.codes import CODE_CACHE
from referral.cache.sessions import SESSION_CACHE
from referral.clock import now
from referral.database import DATABASE, Connection, DatabaseUnavailable, TransactionConflict
from referral.ids import OWN_REQUEST_ID
from referral.limits import ADDRESS
from referral.queries import audit, outbox, users
from referral.queries.sessions import LiveSession
from referral.rules.work import Work, work_on
from referral.texts import email_key
from tests.conftest import Client

EVERYTHING = ["codes told", "sessions told", "committed", "codes invalidated", "sessions invalidated", "woken"]

AtCommit = Callable[[], Awaitable[None]]


class Seen:
    """What an application does at the end of a transaction, in order; `at_commit` happens right after a commit."""

    def __init__(self, app: web.Application, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.steps: list[str] = []
        self.at_commit: AtCommit | None = None
        # What the caches say when they are told, and what happens when they are to invalidate.
        self.fails_after_commit: Exception | None = None
        # The application's own workers, whose transactions are none of this.
        self._others = asyncio.all_tasks() - {asyncio.current_task()}
        for name, key in (("codes", CODE_CACHE), ("sessions", SESSION_CACHE)):
            cache: Any = app[key]
            monkeypatch.setattr(cache, "before_commit", self._noting(cache.before_commit, f"{name} told"))
            monkeypatch.setattr(cache, "after_commit", self._noting(cache.after_commit, f"{name} invalidated"))
        monkeypatch.setattr(app[DATABASE], "transaction", self._transactions(app[DATABASE].transaction))
        monkeypatch.setattr(app[MAILER], "wake", lambda: self.steps.append("woken"))
        # It looks for mail when it starts, too, and sends it in tasks of its own.
        monkeypatch.setattr(app[MAILER], "claim", self._claim_nothing)

    async def _claim_nothing(self, *arguments: Any) -> list[Any]:
        return []

    def _noting(self, really: Any, step: str) -> Any:
        async def note(*arguments: Any, **options: Any) -> Any:
            self.steps.append(step)
            if step.endswith("invalidated") and self.fails_after_commit:
                raise self.fails_after_commit
            return await really(*arguments, **options)

        return note

    def _transactions(self, really: Any) -> Any:
        @asynccontextmanager
        async def transaction() -> AsyncIterator[Connection]:
            async with really() as conn:
                yield conn
            if asyncio.current_task() in self._others:
                return
            self.steps.append("committed")
            if self.at_commit:
                await self.at_commit()

        return transaction


@pytest.fixture
async def seen(client: Client, monkeypatch: pytest.MonkeyPatch) -> Seen:
    assert client.app
    return Seen(client.app, monkeypatch)


def request_of(app: web.Application, user_id: str | None = None, language: str = "en") -> web.Request:
    """A request as the middlewares hand it on."""
    request = make_mocked_request("POST", "/", {"Accept-Language": language}, app=app)
    request[ADDRESS], request[OWN_REQUEST_ID] = "192.0.2.1", "request-1"
    if user_id:
        request[IDENTITY] = LiveSession(user_id, "user", "session-1", 2**60)
    return request


async def make_alice(work: Work) -> None:
    email = "alice@example.com"
    user = users.NewUser("alice", email, email_key(email), None, None, "hash", "user", work.moment)
    await users.insert_user(work.conn, user)


async def do_everything(work: Work) -> None:
    """In another order than the end's."""
    work.ends_sessions("session-1", "session-2")
    await make_alice(work)
    await work.queue_mail(outbox.CODE, "alice", "alice@example.com", code="ALICE1")
    work.invalidates_code("ALICE1")
    await work.record("code-ended", code="ALICE1")


async def names(app: web.Application) -> list[str]:
    async with app[DATABASE].reader() as conn:
        return ["alice"] if await users.find_contact(conn, "alice") else []


async def test_the_end_does_everything_in_the_one_order(seen: Seen) -> None:
    before = now()
    async with work_on(request_of(seen.app, "alice")) as work:
        assert before <= work.moment <= now()
        await do_everything(work)
        assert seen.steps == []
    assert seen.steps == EVERYTHING
    assert await names(seen.app) == ["alice"]


async def test_what_is_not_said_is_not_done(seen: Seen) -> None:
    async with work_on(request_of(seen.app)) as work:
        await make_alice(work)
        work.ends_sessions()
        work.invalidates_code()
    assert seen.steps == ["committed"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError(), TransactionConflict("again")])
async def test_a_block_that_fails_leaves_nothing_and_invalidates_nothing(seen: Seen, error: BaseException) -> None:
    async def fail() -> None:
        async with work_on(request_of(seen.app)) as work:
            await do_everything(work)
            raise error

    with pytest.raises(type(error)):
        await fail()
    assert seen.steps == [], "nor is a worker woken"
    assert await names(seen.app) == []
    async with seen.app[DATABASE].reader() as conn:
        assert await outbox.find_mail(conn) == []
        assert await audit.find_events(conn, None, 0, 10) == []


async def test_a_commit_whose_outcome_nobody_knows_leaves_the_keys_in_doubt(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubts: list[set[str]] = []
    monkeypatch.setattr(seen.app[CODE_CACHE], "in_doubt", doubts.append)

    async def lose_the_answer() -> None:
        raise DatabaseUnavailable("lost")

    async def work_it() -> None:
        async with work_on(request_of(seen.app)) as work:
            await do_everything(work)

    seen.at_commit = lose_the_answer
    with pytest.raises(DatabaseUnavailable, match="lost"):
        await work_it()
    # Nothing is invalidated once and for all: what is read now may be the former state.
    assert seen.steps == [step for step in EVERYTHING if not step.endswith("invalidated")]
    assert doubts == [{"ALICE1"}]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_in_the_commit_leaves_no_part_out(seen: Seen, times: int) -> None:
    committing = asyncio.Event()

    async def stall() -> None:
        committing.set()
        await asyncio.sleep(60)

    async def work_it() -> None:
        async with work_on(request_of(seen.app)) as work:
            await do_everything(work)

    seen.at_commit = stall
    task = asyncio.create_task(work_it())
    await committing.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen.steps == EVERYTHING


async def test_a_cancellation_while_it_invalidates_waits_for_the_rest(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    really = seen.app[CODE_CACHE].after_commit

    async def slowly(*arguments: Any, **options: Any) -> None:
        begun.set()
        await go_on.wait()
        await really(*arguments, **options)

    monkeypatch.setattr(seen.app[CODE_CACHE], "after_commit", slowly)

    async def work_it() -> None:
        async with work_on(request_of(seen.app)) as work:
            await do_everything(work)

    task = asyncio.create_task(work_it())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen.steps == EVERYTHING


@pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), TransactionConflict("undone")])
async def test_what_cannot_be_invalidated_fails_the_request_but_never_makes_it_again(seen: Seen, error: Exception) -> None:
    async def work_it() -> None:
        async with work_on(request_of(seen.app)) as work:
            await do_everything(work)

    seen.fails_after_commit = error
    with pytest.raises(DatabaseUnavailable) as failed:
        await work_it()
    # A conflict would be tried again by the middleware, though the request's own transaction is committed.
    assert not isinstance(failed.value, TransactionConflict)
    assert seen.steps == EVERYTHING
    assert await names(seen.app) == ["alice"]


async def test_a_worker_may_be_woken_later(seen: Seen, eventually: Callable[..., Awaitable[Any]]) -> None:
    async with work_on(request_of(seen.app)) as work:
        await work.queue_mail(outbox.RESET_PASSWORD, None, "alice@example.com", wake_after=0.1)
    assert seen.steps == ["committed"]
    await eventually(lambda: seen.steps == ["committed", "woken"])


async def test_mail_is_queued_in_the_language_of_the_request_as_of_the_moment(seen: Seen) -> None:
    async with work_on(request_of(seen.app, language="de, ru;q=0.8")) as work:
        await make_alice(work)
        await work.queue_mail(outbox.CODE, "alice", "alice@example.com", code="ALICE1")
    async with seen.app[DATABASE].transaction() as conn:
        [mail] = await outbox.claim_mail(conn, work.moment, work.moment + 1, 10)
    assert (mail.kind, mail.user_id, mail.recipient, mail.language) == ("code", "alice", "alice@example.com", "ru")
    assert (mail.created_at, orjson.loads(mail.params)) == (work.moment, {"code": "ALICE1"})


@pytest.mark.parametrize(
    ("signed_in", "named", "expected"),
    [
        (None, {}, (None, None)),
        (None, {"actor": "alice"}, ("alice", "alice")),
        (None, {"user": "bob"}, (None, "bob")),
        ("alice", {}, ("alice", "alice")),
        ("alice", {"user": "bob"}, ("alice", "bob")),
        ("alice", {"actor": "carol", "user": "bob"}, ("carol", "bob")),
    ],
)
async def test_who_did_it_and_to_whom_is_recorded(
    seen: Seen, signed_in: str | None, named: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    async with work_on(request_of(seen.app, signed_in)) as work:
        await work.record("code-ended", **named, code="ALICE1", replaced=None)
    async with seen.app[DATABASE].reader() as conn:
        [event] = await audit.find_events(conn, None, 0, 10)
    assert (event.actor_id, event.user_id) == expected
    assert (event.event, event.at, event.address, event.request_id) == (
        "code-ended",
        work.moment,
        "192.0.2.1",
        "request-1",
    )
    assert orjson.loads(event.detail) == {"code": "ALICE1"}
