"""The worker of webhooks: what it sends, when it tries again, and what no slow receiver, killed worker, lost database or
changed clock makes it lose, send twice or hold up."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from referral import clock
from referral.auth.sealing import Seal, open_seal
from referral.background import housekeeping, queue, relay, webhooks
from referral.background.mailer import Mailer
from referral.background.webhooks import PAUSES, WebhookQueue, Webhooks
from referral.config.addresses import networks
from referral.database import Connection, Database, DatabaseUnavailable, is_postgres
from referral.database.opening import open_database
from referral.database.statements import load_statements
from referral.metrics import Metrics
from referral.queries import changes
from referral.queries import webhooks as queries
from referral.webhooks.guard import Guard
from referral.webhooks.sending import Sender
from referral.webhooks.signing import new_secret
from tests.conftest import Eventually, MakeClient, MakeConfig
from tests.support.hooks import LOOPBACK, Advance, Hook, add_changes, add_deliveries, ids, metric, signed
from tests.support.people import Person, Product, read_mails, text_of
from tests.support.receivers import Receiver, Reply, answer, closes, endless, hangs, held, late, resets, running_receiver
from tests.support.rows import count, make_admin, sql
from tests.support.servers import PostgresServer, Proxy

ONCE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"])
ONCE_POSTGRES = pytest.mark.parametrize("engine", ["postgres"])
COLUMNS = "status, attempts, next_attempt_at, leased_until, last_status, last_error, delivered_at"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """`advance(60)`: it is a minute later. Otherwise the clock stands still."""
    moments = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: sum(moments))
    return lambda seconds: moments.append(round(seconds * clock.SECOND))


@pytest.fixture
async def admin(make_client: MakeClient) -> Product:
    """An admin of a service whose receivers have a second."""
    return await Product.with_key(await make_client(**LOOPBACK, webhooks_timeout="1"), "admin")


@dataclass
class Work:
    """Workers of webhooks that work only when they are told to."""

    database: Database
    url: str
    seal: Seal
    parts: Webhooks
    hooks: list[str] = field(default_factory=list)

    async def hook(self, receiver: Receiver, name: str = "hook") -> WebhookQueue:
        async with self.database.transaction() as conn:
            await queries.insert_webhook(conn, name, receiver.url(), '["*"]', self.seal.seal(new_secret()), clock.now())
        return self.worker(name)

    def worker(self, name: str = "hook") -> WebhookQueue:
        """Another worker of the webhook."""
        return WebhookQueue(name, self.parts)

    async def queue(self, many: int = 1, name: str = "hook") -> int:
        """Have so many changes more sent; returns the number of the first one."""
        first = await add_changes(self.url, many, clock.now())
        await add_deliveries(self.url, name, first, many)
        return first

    async def rows(self, columns: str = COLUMNS) -> list[tuple[Any, ...]]:
        return await sql(self.url, f"SELECT {columns} FROM deliveries ORDER BY webhook_id, seq")

    async def webhook(self, columns: str = "status, failing_since", name: str = "hook") -> tuple[Any, ...]:
        return (await sql(self.url, f"SELECT {columns} FROM webhooks WHERE id = '{name}'"))[0]


@pytest.fixture
async def work(database: Database, database_url: str, make_config: MakeConfig) -> AsyncIterator[Work]:
    async with working(database, database_url, make_config) as found:
        yield found


@asynccontextmanager
async def working(database: Database, url: str, make_config: MakeConfig) -> AsyncIterator[Work]:
    config = make_config(**LOOPBACK, webhooks_timeout="1")
    guard = Guard(networks(config.webhooks.allowed_networks))
    sender, seal = Sender(guard, config.webhooks.timeout), open_seal(config.auth)
    mailer, metrics = Mailer(config, database, Metrics()), Metrics()
    yield Work(database, url, seal, Webhooks(config.webhooks, database, seal, sender, mailer, metrics))
    await sender.close()
    await guard.close()


async def received(receiver: Receiver, many: int) -> None:
    """So many calls have come."""
    async with asyncio.timeout(10):
        while len(receiver.seen) < many:
            await asyncio.sleep(0.01)


# What is sent, and when


async def test_a_change_is_sent_as_the_feed_has_it_and_signed(
    admin: Product, receiver: Receiver, eventually: Eventually
) -> None:
    hook = await Hook.make(admin, receiver.url(path="/a%2Fb?key=k&b=%26%2B"), "user.*")
    user = await admin.user("alice", metadata={"ä": "漢 \u2028 </script>", "number": 1.5, "yes": True})
    await admin.post("/users/ext:alice/codes", {"ttl_days": 1})
    await eventually(lambda: hook.are(delivered=1))
    (received,) = receiver.seen
    (change,) = (await admin.get("/changes?types=user.*")).body["items"]
    assert received.line == "POST /a%2Fb?key=k&b=%26%2B HTTP/1.1"
    assert received.headers["webhook-id"] == change["id"]
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("referral/")
    assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 10
    body = signed(received, hook.secret)
    assert body == {
        "type": "user.created",
        "timestamp": change["at"],
        "subject_id": user["id"],
        "version": 1,
        "data": change["data"],
    }
    assert body["data"]["metadata"] == user["metadata"]
    assert metric(admin.client, "delivered") == 1


async def test_ten_attempts_are_made_with_growing_pauses_and_then_it_has_failed(
    work: Work, receiver: Receiver, advance: Advance
) -> None:
    receiver.replies_with(answer(500, b"No"))
    worker = await work.hook(receiver)
    await work.queue()
    expected = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    assert [pause // clock.SECOND for pause in PAUSES] == list(expected)
    for attempt, pause in enumerate(expected, 1):
        # So that it is not disabled for its failures.
        await sql(work.url, "UPDATE webhooks SET failing_since = NULL")
        assert await worker.work_off() == 1
        assert await worker.work_off() == 0
        ((status, attempts, due, leased, last_status, error, _),) = await work.rows()
        assert (status, attempts, leased, last_status, error) == ("waiting", attempt, None, 500, "No")
        waits = (due - clock.now()) / clock.SECOND
        assert 0.8 * pause <= waits <= 1.2 * pause
        advance(waits - 0.01)
        assert await worker.work_off() == 0
        advance(0.01)
    await sql(work.url, "UPDATE webhooks SET failing_since = NULL")
    assert await worker.work_off() == 1
    assert await work.rows() == [("failed", 10, None, None, 500, "No", None)]
    advance(30 * 86_400)
    assert await worker.work_off() == 0
    assert len(set(ids(receiver))) == 1
    assert len(receiver.seen) == 10
    assert await count(work.url, "delivery_failures", "status = 500 AND error = 'No'") == 10
    assert work.parts.metrics.deliveries.labels("postponed")._value.get() == 9
    assert work.parts.metrics.deliveries.labels("failed")._value.get() == 1
    # Each attempt is signed anew.
    assert len({received.headers["webhook-timestamp"] for received in receiver.seen}) == 10


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("1", 4, 6),
        ("600", 600, 600),
        ("100000000000000000000", 86_400, 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400, 86_400),
        ("-600", 4, 6),
        ("soon", 4, 6),
    ],
)
@ONCE_SQLITE
async def test_a_receiver_may_ask_for_a_longer_pause_of_at_most_a_day(
    work: Work, receiver: Receiver, advance: Advance, value: str, least: float, most: float
) -> None:
    receiver.replies_with(answer(429, retry_after=value), answer(200))
    worker = await work.hook(receiver)
    await work.queue()
    await worker.work_off()
    ((due,),) = await work.rows("next_attempt_at")
    assert least <= (due - clock.now()) / clock.SECOND <= most
    advance(most)
    assert await worker.work_off() == 1
    assert (await work.rows("status, attempts")) == [("delivered", 2)]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (answer(301, location="http://127.0.0.1:1/"), 301),
        (answer(304), 304),
        (answer(404), 404),
        (answer(503), 503),
        (closes(), None),
        (resets(b"HTTP/1.1 2"), None),
        (hangs, None),
        (endless(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 100_000), 500),
        (endless(b"HTTP/1.1 500 No\r\n\r\n", b"\xff", 0.1), 500),
        (answer(500, b"\x00\x1b[31m\xed\xa0\x80\\u0000" + b"\"'" * 300), 500),
    ],
)
async def test_whatever_is_no_success_is_tried_again(
    work: Work, receiver: Receiver, reply: Reply, status: int | None
) -> None:
    receiver.replies_with(reply)
    worker = await work.hook(receiver)
    await work.queue()
    assert await worker.work_off() == 1
    ((state, attempts, _, leased, last_status, error, _),) = await work.rows()
    assert (state, attempts, leased, last_status) == ("waiting", 1, None, status)
    assert error is not None
    assert len(error) <= 500
    assert (await sql(work.url, "SELECT status, error FROM delivery_failures")) == [(status, error)]


@ONCE_SQLITE
@pytest.mark.parametrize(
    "reply", [answer(200, b"x" * 70_000), answer(299), endless(b"HTTP/1.1 202 Yes\r\n\r\n", b"x" * 100_000)]
)
async def test_a_success_stands_however_long_the_answer_is(work: Work, receiver: Receiver, reply: Reply) -> None:
    receiver.replies_with(reply)
    worker = await work.hook(receiver)
    await work.queue()
    await worker.work_off()
    assert (await work.rows("status, last_error")) == [("delivered", None)]
    assert receiver.sent < 20_000_000


# Disabled


async def test_a_receiver_that_is_gone_is_sent_nothing_more_and_the_admins_are_told(
    admin: Product, receiver: Receiver, database_url: str, mail_folder: Any, eventually: Eventually
) -> None:
    for name in ("ann", "dan", "sam"):
        person = await Person.register(admin.client, name)
        await make_admin(database_url, person.id) if name != "dan" else None
    assert (await admin.post(f"/users/{person.id}/suspend", {"reason": "Odd"})).status == 200
    async with running_receiver() as other_receiver:
        other = await Hook.make(admin, other_receiver.url(), "webhook.*")
        hook = await Hook.make(admin, receiver.url(), "user.*")
        receiver.replies_with(late(0.1, answer(410, b"Gone")))
        await asyncio.gather(*(admin.user(f"u{number}") for number in range(30)))
        shown = await eventually(lambda: disabled(hook))
        assert shown["disabled_reason"] == "The receiver answered 410: it wants nothing more."
        await eventually(lambda: are_done(hook))
        states = await hook.states()
        # Of those that were under way, each has its answer; the rest is dropped.
        assert states == {"failed": len(receiver.seen), "dropped": states["dropped"]}
        assert len(receiver.seen) <= 8
        await eventually(lambda: other.are(delivered=1))
        told = signed(other_receiver.seen[0], other.secret)
        assert (told["type"], told["subject_id"], told["data"]["status"]) == ("webhook.disabled", hook.id, "disabled")
        assert told["data"]["disabled_reason"] == shown["disabled_reason"]

        def mails(name: str) -> list[str]:
            texts = [text_of(mail) for mail in read_mails(mail_folder, f"{name}@example.com")]
            return [text for text in texts if "410" in text]

        (mail,) = await eventually(lambda: mails("ann"))
        assert receiver.url() in mail
        assert not mails("dan") + mails("sam")
        # Enabled again, it begins anew.
        receiver.replies_with(answer(200))
        await hook.change(status="enabled")
        await admin.user("one more")
        await eventually(lambda: delivered(hook, 1))


async def disabled(hook: Hook) -> dict[str, Any] | None:
    found = await hook.get()
    return found if found["status"] == "disabled" else None


async def delivered(hook: Hook, many: int) -> bool:
    return (await hook.states())["delivered"] == many


async def are_done(hook: Hook) -> bool:
    return (await hook.states())["waiting"] == 0


async def test_a_webhook_is_disabled_when_everything_has_failed_for_five_days_and_never_by_a_count(
    work: Work, receiver: Receiver, advance: Advance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (clock.SECOND,) * 9)
    receiver.replies_with(answer(500))
    worker = await work.hook(receiver)
    await work.queue(100)
    start = clock.now()
    for _ in range(10):
        assert await worker.work_off() == 100
        advance(2)
    assert await work.webhook() == ("enabled", start)
    assert await work.rows("status") == [("failed",)] * 100
    # A success, and the five days begin anew.
    advance(4 * 86_400)
    receiver.replies_with(answer(200), answer(500))
    await work.queue()
    await worker.work_off()
    assert await work.webhook() == ("enabled", None)
    await work.queue()
    await worker.work_off()
    start = clock.now()
    # A clock that was set back makes that time no longer.
    advance(-86_400)
    await work.queue()
    await worker.work_off()
    start -= clock.DAY
    assert await work.webhook() == ("enabled", start)
    advance(5 * 86_400 - 1)
    await worker.work_off()
    assert await work.webhook() == ("enabled", start)
    advance(2)
    await worker.work_off()
    assert await work.webhook("status, disabled_reason") == ("disabled", "Every delivery has failed for five days.")
    assert await sql(work.url, "SELECT type, subject_id FROM announcements") == [("webhook.disabled", "hook")]
    await work.queue()
    assert await worker.work_off() == 0


@pytest.mark.parametrize("is_enabled_again", [True, False])
async def test_what_an_address_that_was_replaced_answers_disables_nothing(
    work: Work, receiver: Receiver, is_enabled_again: bool
) -> None:
    receiver.replies_with(held(answer(410)))
    worker = await work.hook(receiver)
    await work.queue(2)
    sending = asyncio.create_task(worker.work_off())
    async with running_receiver() as other:
        await received(receiver, 1)
        async with work.database.transaction() as conn:
            await queries.update_webhook(conn, "hook", receiver.url() if is_enabled_again else other.url(), '["*"]')
        receiver.released.set()
        await sending
        state = await work.webhook("status")
        assert state == (("disabled",) if is_enabled_again else ("enabled",))
        if is_enabled_again:
            # By the same worker, at once: an old 410 is no answer to what is sent now.
            async with work.database.transaction() as conn:
                await queries.enable_webhook(conn, "hook")
            receiver.replies_with(answer(200))
        await work.queue()
        assert await worker.work_off() == 1
        assert await work.rows("status") == [("failed",), ("failed",), ("delivered",)]
        assert len(other.seen) == (0 if is_enabled_again else 1)
        assert (await work.webhook())[1] is None


# Slow receivers, and many workers


async def test_a_slow_or_dead_receiver_holds_up_no_other_and_no_request(
    make_client: MakeClient, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    admin = await Product.with_key(await make_client(**LOOPBACK, webhooks_timeout="20"), "admin")
    async with running_receiver() as dead, running_receiver() as slow:
        dead.replies_with(hangs)
        slow.replies_with(held(answer(200)))
        hooks = [await Hook.make(admin, one.url(), "user.*") for one in (dead, dead, dead, slow, receiver)]
        first = await add_changes(database_url, 20)
        for hook in hooks:
            await add_deliveries(database_url, hook.id, first, 20)
        started = time.monotonic()
        admin.client.app[webhooks.WEBHOOKS].deliver([hook.id for hook in hooks])
        await eventually(lambda: hooks[-1].are(delivered=20))
        await admin.user("alice")
        await eventually(lambda: hooks[-1].are(delivered=21))
        assert time.monotonic() - started < 10
        assert len(dead.seen) == 3 * 4
        assert len(slow.seen) == 4
        slow.released.set()
        await eventually(lambda: hooks[3].are(delivered=21))
        assert (await hooks[0].states())["waiting"] == 21


async def test_a_webhook_that_is_disabled_amid_a_slow_call_holds_up_no_other(
    make_client: MakeClient, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    admin = await Product.with_key(await make_client(**LOOPBACK), "admin")
    async with running_receiver() as slow:
        slow.replies_with(held(answer(200)))
        hook = await Hook.make(admin, slow.url(), "user.*")
        await add_deliveries(database_url, hook.id, await add_changes(database_url, 8), 8)
        admin.client.app[webhooks.WEBHOOKS].deliver([hook.id])
        await eventually(lambda: len(slow.seen) == 4)
        await hook.change(status="disabled")
        await asyncio.sleep(0.1)
        started = time.monotonic()
        other = await Hook.make(admin, receiver.url(), "user.*")
        await admin.user("another")
        await eventually(lambda: other.are(delivered=1))
        assert time.monotonic() - started < 5
        # What was under way ends as it does, and the rest is dropped.
        slow.released.set()
        await eventually(lambda: hook.are(delivered=4, dropped=4))


async def test_two_services_send_each_change_once_and_never_more_at_once_than_is_set(
    make_client: MakeClient, eventually: Eventually
) -> None:
    seen: Counter[str] = Counter()
    now, most = 0, 0

    async def receive(request: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        seen[request.headers["webhook-id"]] += 1
        await asyncio.sleep(0.005)
        now -= 1
        return web.Response(status=204)

    async with served(receive) as url:
        clients = [await make_client(**LOOPBACK, cache_url="none://") for _ in range(2)]
        admins = [await Product.with_key(client, "admin") for client in clients]
        hook = await Hook.make(admins[0], url, "user.*")
        # Both workers know the webhook.
        clients[1].app[webhooks.WEBHOOKS].wake()
        await eventually(lambda: all(client.app[webhooks.WEBHOOKS]._queues for client in clients))
        for part in range(4):
            await asyncio.gather(*(admins[n % 2].user(f"u{part} {n}") for n in range(50)))
        await eventually(lambda: hook.are(delivered=200))
        assert seen.total() == len(seen) == 200
        assert 2 <= most <= 4
        sent = [metric(client, "delivered") for client in clients]
        assert sum(sent) == 200
        assert await hook.deliveries() == [{**one, "attempts": 1} for one in await hook.deliveries()]


@asynccontextmanager
async def served(receive: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/hook"
    await runner.cleanup()


async def test_while_one_worker_has_a_batch_no_other_one_claims_anything_of_that_webhook(
    work: Work, receiver: Receiver
) -> None:
    receiver.replies_with(held(answer(200)))
    first, second = await work.hook(receiver), work.worker()
    await work.queue(6)
    sending = asyncio.create_task(first.work_off())
    await received(receiver, 4)
    await work.queue(3)
    assert await second.work_off() == 0
    receiver.released.set()
    assert await sending == 6
    assert sum(await asyncio.gather(first.work_off(), second.work_off())) == 3
    assert len(receiver.seen) == len(set(ids(receiver))) == 9


async def test_what_a_batch_has_not_begun_in_its_time_is_handed_back_as_it_was(
    work: Work, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "BATCH_TIME", 50)
    receiver.replies_with(late(0.06, answer(200)))
    worker = await work.hook(receiver)
    await work.queue(12)
    assert await worker.work_off() == 12
    assert Counter(await work.rows("status, attempts, leased_until")) == {("delivered", 1, None): 4, ("waiting", 0, None): 8}
    assert await worker.work_off() == 8


# Killed, stopped, without a database


async def test_a_worker_that_is_killed_between_sending_and_marking_sends_it_again_under_the_same_id(
    work: Work, receiver: Receiver, advance: Advance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "STOP_GRACE", 0)
    worker, other = await work.hook(receiver), work.worker()
    await work.queue(3)

    async def never() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(worker, "_mark", never)
    sending = asyncio.create_task(worker.work_off())
    await received(receiver, 3)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert await work.rows("status, attempts") == [("waiting", 1)] * 3
    advance(worker.lease / clock.SECOND - 1)
    assert await other.work_off() == 0
    advance(1.1)
    assert await other.work_off() == 3
    assert await work.rows("status, attempts") == [("delivered", 2)] * 3
    assert set(Counter(ids(receiver)).values()) == {2}


async def test_whoever_was_too_slow_for_its_lease_marks_nothing(work: Work, receiver: Receiver, advance: Advance) -> None:
    receiver.replies_with(held(answer(500)), answer(200))
    slow, quick = await work.hook(receiver), work.worker()
    await work.queue()
    sending = asyncio.create_task(slow.work_off())
    await received(receiver, 1)
    advance(slow.lease / clock.SECOND + 1)
    assert await quick.work_off() == 1
    done = await work.rows()
    assert done[0][:2] == ("delivered", 2)
    receiver.released.set()
    await sending
    assert await work.rows() == done
    assert await count(work.url, "delivery_failures") == 0


@pytest.mark.parametrize("is_handed_back", [True, False])
async def test_whoever_was_too_slow_leaves_what_another_one_has_now_to_that_one(
    work: Work, receiver: Receiver, advance: Advance, is_handed_back: bool
) -> None:
    receiver.replies_with(held(answer(500)))
    slow, other = await work.hook(receiver), work.worker()
    await work.queue()
    sending = asyncio.create_task(slow.work_off())
    await received(receiver, 1)
    advance(slow.lease / clock.SECOND + 1)
    async with work.database.transaction() as conn:
        batch = await other.claim(conn, clock.now(), clock.now() + other.lease)
    if is_handed_back:
        await other._hand_back(batch)
    found = await work.rows()
    assert found[0][:2] == ("waiting", 1 if is_handed_back else 2)
    receiver.released.set()
    await sending
    assert await work.rows() == found
    assert await count(work.url, "delivery_failures") == 0


async def test_a_service_that_stops_marks_what_it_has_sent_and_hands_back_what_it_has_not(
    make_client: MakeClient, database_url: str, receiver: Receiver, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(**LOOPBACK)
    hook = await Hook.make(await Product.with_key(client, "admin"), receiver.url(), "user.*")
    receiver.replies_with(held(answer(200)))
    await sql(database_url, "UPDATE webhooks SET types = '[\"user.created\"]'")
    first = await add_changes(database_url, 10)
    await add_deliveries(database_url, hook.id, first, 10)
    client.app[webhooks.WEBHOOKS].deliver([hook.id])
    await eventually(lambda: len(receiver.seen) == 4)
    stopping = asyncio.create_task(client.close())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    receiver.released.set()
    await stopping
    found = await sql(database_url, "SELECT status, attempts, leased_until FROM deliveries")
    assert Counter(found) == {("delivered", 1, None): 4, ("waiting", 0, None): 6}
    # The next one has no receiver that answers in time.
    monkeypatch.setattr(webhooks, "STOP_GRACE", 0.1)
    receiver.replies_with(hangs)
    receiver.seen.clear()
    client = await make_client(**LOOPBACK)
    await eventually(lambda: len(receiver.seen) == 4)
    await client.close()
    found = await sql(
        database_url,
        "SELECT attempts, count(leased_until), count(*) FROM deliveries WHERE status = 'waiting' GROUP BY attempts",
    )
    assert sorted(found) == [(0, 0, 2), (1, 4, 4)]


class Out:
    """A database that is out when it is said to be."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.is_out = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    def reader(self) -> Any:
        return self._of("reader")

    def transaction(self) -> Any:
        return self._of("transaction")

    @asynccontextmanager
    async def _of(self, name: str) -> AsyncIterator[Connection]:
        if self.is_out:
            raise DatabaseUnavailable("out")
        async with getattr(self.database, name)() as conn:
            yield conn


@pytest.fixture
async def flickering(
    engine: str, database_url: str, make_config: MakeConfig, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Work, Callable[[bool], Awaitable[None]]]]:
    """Workers on a database, and what takes it away and gives it back: on PostgreSQL, its connections are cut."""
    if engine == "sqlite":
        database = Out(await open_database(database_url))

        async def take(is_out: bool) -> None:
            database.is_out = is_out

        async with working(database, database_url, make_config) as work:
            yield work, take
        await database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    async with Proxy(server.port) as proxy:
        through = await open_database(database_url.replace(str(server.port), str(proxy.port)))

        async def cut(is_out: bool) -> None:
            await (proxy.cut() if is_out else proxy.mend())

        async with working(through, database_url, make_config) as work:
            yield work, cut
        await through.close()


async def test_a_database_that_is_out_while_something_is_sent_loses_nothing_and_nothing_is_sent_again(
    flickering: tuple[Work, Callable[[bool], Awaitable[None]]], receiver: Receiver
) -> None:
    work, take = flickering
    receiver.replies_with(held(answer(200)), held(answer(500, b"No")), answer(200))
    worker = await work.hook(receiver)
    await work.queue(20)
    sending = asyncio.create_task(worker.work_off())
    await received(receiver, 18)
    await take(True)
    receiver.released.set()
    await asyncio.sleep(0.3)
    assert not sending.done()
    await take(False)
    assert await sending == 20
    states = Counter(await work.rows("status, attempts, last_error"))
    assert states[("waiting", 1, "No")] == 1
    assert sum(states.values()) == 20
    while await worker.work_off():
        pass
    assert len(receiver.seen) == len(set(ids(receiver))) == 20
    assert Counter(await work.rows("status")) == {("delivered",): 19, ("waiting",): 1}
    assert await count(work.url, "delivery_failures") == 1


async def test_a_database_that_stays_out_has_all_sent_again_when_the_leases_end(
    flickering: tuple[Work, Callable[[bool], Awaitable[None]]],
    receiver: Receiver,
    advance: Advance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, take = flickering
    monkeypatch.setattr(webhooks, "MARGIN", 0)
    receiver.replies_with(held(answer(200)))
    worker = await work.hook(receiver)
    await work.queue(3)
    sending = asyncio.create_task(worker.work_off())
    await received(receiver, 3)
    await take(True)
    receiver.released.set()
    with pytest.raises(DatabaseUnavailable):
        await sending
    await take(False)
    assert await worker.work_off() == 0
    advance(worker.lease / clock.SECOND + 0.1)
    assert await worker.work_off() == 3
    assert await work.rows("status, attempts") == [("delivered", 2)] * 3
    assert set(Counter(ids(receiver)).values()) == {2}


# The clock


async def test_a_clock_that_is_set_back_a_day_holds_up_nothing_that_is_due_at_once(
    work: Work, receiver: Receiver, advance: Advance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "STOP_GRACE", 0)
    receiver.replies_with(hangs)
    dead = await work.hook(receiver)
    await work.queue(150)
    sending = asyncio.create_task(dead.work_off())
    await received(receiver, 4)
    # Killed, so that not even the rest is handed back.
    monkeypatch.setattr(dead, "_hand_back", lambda _: asyncio.sleep(0))
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert await count(work.url, "deliveries", "leased_until IS NOT NULL") == 100
    advance(-86_400)
    receiver.seen.clear()
    receiver.replies_with(held(answer(200)))
    # Newer ones are due before.
    await sql(work.url, "UPDATE deliveries SET next_attempt_at = 1 WHERE leased_until IS NOT NULL")
    first, second = work.worker(), work.worker()
    sending = asyncio.create_task(first.work_off())
    await received(receiver, 4)
    assert await second.work_off() == 0, "leases from before the clock was set hide no others"
    receiver.released.set()
    assert await sending == 100
    assert await second.work_off() == 50
    assert await work.rows("status") == [("delivered",)] * 150
    assert len(set(ids(receiver))) == 150


# Keys


async def test_secrets_are_sealed_anew_by_another_key_and_without_the_one_before_they_sign_nothing(
    make_client: MakeClient, database_url: str, receiver: Receiver, eventually: Eventually
) -> None:
    client = await make_client(**LOOPBACK)
    admin = await Product.with_key(client, "admin")
    hook = await Hook.make(admin, receiver.url(), "user.*")
    rotated = (await hook.post("rotate")).body["secret"]
    sealed = await sql(database_url, "SELECT secret, previous_secret FROM webhooks")
    await client.close()
    old, new, other = (f"a secret of the tests, of more than 32 characters{end}" for end in ("", ", too", ", as well"))

    async def restarted(**secrets: str) -> Hook:
        nonlocal client
        await client.close()
        client = await make_client(**LOOPBACK, **secrets)
        return Hook(Product(client, "", tokens=admin.tokens), hook.id, hook.secret)

    hook = await restarted(auth_secret=new, auth_previous_secret=old)

    async def anew() -> bool:
        found = await sql(database_url, "SELECT secret, previous_secret FROM webhooks")
        return not set(found[0]) & set(sealed[0])

    await eventually(anew)
    # By now the key before is not needed any more.
    hook = await restarted(auth_secret=new)
    await hook.admin.user("alice")
    await eventually(lambda: hook.are(delivered=1))
    signed(receiver.seen[0], hook.secret, rotated)
    # Nobody has either key: nothing is sent, nothing is tried and nothing is lost.
    hook = await restarted(auth_secret=other)
    assert (await hook.post("test")).problem == "webhook-sealed"
    await hook.admin.user("bob")
    await eventually(lambda: hook.are(delivered=1, waiting=1))
    await asyncio.sleep(0.2)
    assert await sql(database_url, "SELECT attempts FROM deliveries WHERE status = 'waiting'") == [(0,)]
    hook = await restarted(auth_secret=new)
    await eventually(lambda: hook.are(delivered=2))
    signed(receiver.seen[1], hook.secret, rotated)


# Much


async def test_a_claim_of_a_long_backlog_takes_no_longer_than_one_of_a_short(work: Work, receiver: Receiver) -> None:
    short, long = await work.hook(receiver), await work.hook(receiver, "long")
    await work.queue(200)
    await work.queue(20_000, "long")
    if is_postgres(work.url):
        await sql(work.url, "ANALYZE")

    async def seconds(worker: WebhookQueue) -> float:
        best = 60.0
        for _ in range(2):
            started = time.perf_counter()
            async with work.database.transaction() as conn:
                batch = await worker.claim(conn, clock.now(), 1)
            best = min(best, time.perf_counter() - started)
            assert len(batch) == 100
            await sql(work.url, "UPDATE deliveries SET leased_until = NULL WHERE leased_until IS NOT NULL")
        return best

    short_time, long_time = await seconds(short), await seconds(long)
    assert long_time < 5 * short_time + 0.02
    took = []
    for _ in range(3):
        async with work.database.reader() as conn:
            started = time.perf_counter()
            assert await long.find_next_time(conn) == 0
            took.append(time.perf_counter() - started)
    assert min(took) < 0.05


async def test_what_waits_is_measured_without_a_look_at_what_was_delivered(work: Work, receiver: Receiver) -> None:
    await work.hook(receiver)
    first = await add_changes(work.url, 50_000)
    await add_deliveries(work.url, "hook", first, 50_000, "delivered")
    if is_postgres(work.url):
        await sql(work.url, "ANALYZE")
    prefix = "EXPLAIN" if is_postgres(work.url) else "EXPLAIN QUERY PLAN"
    for name in ("find_oldest_waiting_delivery", "count_waiting_deliveries"):
        statement = load_statements("postgres" if is_postgres(work.url) else "sqlite")[name].sql
        statement = statement.replace(":sample_size", "10").replace("$1", "10")
        plan = "\n".join(str(row[-1]) for row in await sql(work.url, f"{prefix} {statement}"))
        # By what waits, of one webhook after the other.
        assert re.search(r"deliveries_due|webhook_id=\? AND status=\?|webhook_id = w\.id\) AND \(status = ", plan), plan


async def test_a_hundred_webhooks_half_of_them_dead_are_sent_what_they_want(
    make_client: MakeClient, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    admin = await Product.with_key(await make_client(**LOOPBACK), "admin")
    async with running_receiver() as dead:
        dead.replies_with(hangs)
        await asyncio.gather(
            *(Hook.make(admin, (dead if number % 2 else receiver).url(), "user.created") for number in range(100))
        )
        await asyncio.gather(*(admin.user(f"u{number}") for number in range(4)))
        await eventually(lambda: len(receiver.seen) == 200)
        assert (await admin.get("/health/ready")).status == 200
        assert set(Counter(ids(receiver)).values()) == {50}
        await eventually(lambda: _count_is(database_url, "status = 'delivered'", 200))


async def _count_is(url: str, where: str, many: int) -> bool:
    return await count(url, "deliveries", where) == many


async def test_what_waits_and_for_how_long_is_measured(
    make_client: MakeClient, receiver: Receiver, database_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MEASURE_PAUSE", 0)
    client = await make_client(**LOOPBACK)
    admin = await Product.with_key(client, "admin")
    hook = await Hook.make(admin, receiver.url(), "code.*")
    first = await add_changes(database_url, 3, clock.now() - 1_000_000)
    await add_deliveries(database_url, hook.id, first, 3, due=clock.now() + clock.DAY)
    client.app[webhooks.WEBHOOKS].wake()

    async def measured() -> dict[str, float]:
        async with client.get("/metrics") as response:
            text = await response.text()
        lines = [line.split() for line in text.splitlines() if line.startswith("referral_webhook")]
        return {name: float(value) for name, value in lines}

    async def are(waiting: float, age: float) -> bool:
        found = await measured()
        oldest = found["referral_webhook_oldest_waiting_seconds"]
        return found["referral_webhook_deliveries_waiting"] == waiting and age <= oldest < age + 60

    await eventually(lambda: are(3, 1_000))
    await sql(database_url, "UPDATE deliveries SET next_attempt_at = 0")
    receiver.replies_with(answer(500), answer(204))
    client.app[webhooks.WEBHOOKS].deliver([hook.id])
    await eventually(lambda: hook.are(delivered=2, waiting=1))
    await hook.change(status="disabled")
    await eventually(lambda: are(0, 0))
    attempts = {name: value for name, value in (await measured()).items() if "_total" in name}
    assert sorted(attempts.values()) == [1, 2]


async def test_old_changes_go_with_their_deliveries_in_batches_and_the_feed_is_gone_then(
    database: Database,
    database_url: str,
    make_client: MakeClient,
    receiver: Receiver,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(housekeeping, "OLD_CHANGES", 10)
    async with database.transaction() as conn:
        await queries.insert_webhook(conn, "hook", receiver.url(), '["ping"]', "x", 1)
        await queries.disable_webhook(conn, "hook", "disabled", "A test", 1)
    await add_changes(database_url, 45, clock.now() - 31 * clock.DAY)
    await add_changes(database_url, 5, clock.now() - 29 * clock.DAY)
    await add_deliveries(database_url, "hook", 1, 50, "failed")
    await sql(
        database_url,
        "INSERT INTO delivery_failures (id, seq, webhook_id, at, error, milliseconds) "
        "SELECT cast(seq AS text), seq, webhook_id, 0, 'No', 1 FROM deliveries",
    )
    ends: list[int | None] = []
    real = changes.find_end_of_old

    async def noted(*arguments: Any) -> int | None:
        ends.append(await real(*arguments))
        return ends[-1]

    monkeypatch.setattr(changes, "find_end_of_old", noted)
    admin = await Product.with_key(await make_client(**LOOPBACK), "admin")
    await eventually(lambda: None in ends)
    assert ends == [10, 20, 30, 40, 45, None]
    for table in ("changes", "deliveries", "delivery_failures"):
        assert await count(database_url, table) == 5
    assert (await admin.get("/changes?after=44")).problem == "gone"
    assert (await admin.get("/changes?after=44")).status == 410
    assert len((await admin.get("/changes?after=45")).body["items"]) == 5


# Everything at once


@ONCE_POSTGRES
async def test_everything_that_can_meet_at_a_webhook_meets_without_a_deadlock(
    make_client: MakeClient,
    database_url: str,
    receiver: Receiver,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (20,) * 9)
    monkeypatch.setattr(webhooks, "MARK_PAUSE", 0.005)
    monkeypatch.setattr(queue, "LONGEST_SLEEP", 0.05)
    monkeypatch.setattr(webhooks, "LONGEST_SLEEP", 0.05)
    monkeypatch.setattr(relay, "LONGEST_SLEEP", 0.05)
    replies = [answer(500, b"No"), answer(200), late(0.01, answer(429, retry_after="0")), resets()]
    receiver.replies_with(*replies * 2_000)
    clients = [await make_client(**LOOPBACK, cache_url="none://") for _ in range(2)]
    admins = [await Product.with_key(client, "admin") for client in clients]
    hooks = [await Hook.make(admins[0], receiver.url()) for _ in range(3)]
    people = await asyncio.gather(*(Person.register(clients[n % 2], f"p{n}") for n in range(10)))
    allowed = (200, 202, 204, 404, 409)

    async def churn(number: int) -> None:
        admin, hook = admins[number % 2], hooks[number % 3]
        for turn in range(4):
            path = f"/webhooks/{hook.id}"
            items = (await admin.get(f"{path}/deliveries?limit=10")).body["items"]
            answers = await asyncio.gather(
                admin.post(f"{path}/replay", {"since": "2020-01-01T00:00:00Z"}),
                admin.post(f"{path}/rotate"),
                admin.patch(path, {"status": ("disabled", "enabled")[turn % 2]}),
                *(admin.post(f"{path}/deliveries/{item['change_id']}/retry") for item in items[:3]),
                people[number].patch("/users/me", {"username": f"n{number} {turn}".replace(" ", "x")}),
            )
            assert {one.status for one in answers} <= set(allowed), [one.body for one in answers]
            brief = await admin.post("/webhooks", {"url": receiver.url(), "types": ["*"]})
            assert brief.status == 201
            await admin.user(f"of {number} {turn}")
            assert (await admin.delete(f"/webhooks/{brief.body['id']}")).status == 204

    async def leave(person: Person) -> None:
        await asyncio.sleep(0.1)
        gone = await person.delete("/users/me", {"password": person.password})
        assert gone.status == 204, gone.body

    await asyncio.gather(*(churn(number) for number in range(6)), *(leave(person) for person in people[6:]))
    receiver.replies_with(answer(200))
    for hook in hooks:
        await hook.change(status="enabled")

    async def is_quiet() -> bool:
        return await count(database_url, "deliveries", "status = 'waiting'") == 0 and (
            await count(database_url, "replays") == 0 and await count(database_url, "webhooks") == len(hooks)
        )

    await eventually(is_quiet, 20)
    found = await sql(database_url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert found == [(0,)]
    bad = [record for record in caplog.records if record.name.startswith("referral") and record.levelname == "ERROR"]
    assert not bad, [record.getMessage() for record in bad]
