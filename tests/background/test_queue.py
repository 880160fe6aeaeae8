"""The one worker of queues: claims under a lease, backs off, gives up, rests, sleeps until it is woken, and never dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from referral import clock
from referral.background import queue
from referral.background.queue import Backoff, QueueWorker, Rest, finish
from referral.database import Connection, Database, DatabaseUnavailable
from tests.conftest import Eventually


@dataclass
class Job:
    """An item of a queue that lies in memory."""

    name: str
    created_at: int = 0
    attempts: int = 0
    due: int = 0


@dataclass
class Table:
    jobs: list[Job] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    given_up: list[tuple[str, str]] = field(default_factory=list)


class Worker(QueueWorker[Job]):
    name = "the jobs"
    batch_size = 3
    lease = 1_000
    backoff = Backoff(100, 400, 2_000)

    def __init__(self, database: Database, table: Table, work: Callable[[Job], Awaitable[str | None]]) -> None:
        super().__init__(database)
        self.table = table
        self.work = work
        self.looks = 0

    async def find_next_time(self, conn: Connection) -> int | None:
        self.looks += 1
        return min((job.due for job in self.table.jobs), default=None)

    async def claim(self, conn: Connection, now: int, lease_until: int) -> list[Job]:
        claimed = [job for job in self.table.jobs if job.due <= now][: self.batch_size]
        for job in claimed:
            job.due, job.attempts = lease_until, job.attempts + 1
        return claimed

    async def process(self, batch: list[Job]) -> None:
        for job in batch:
            error = await self.work(job)
            if error:
                await self.retry_or_give_up(job, error)
            else:
                self.table.jobs.remove(job)
                self.table.done.append(job.name)

    async def postpone(self, item: Job, error: str, pause: int, attempts: int) -> None:
        item.due, item.attempts = clock.now() + pause, attempts

    async def give_up(self, item: Job, error: str) -> None:
        self.table.jobs.remove(item)
        self.table.given_up.append((item.name, error))


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """The queues of the service itself are tried on both dialects, in the tests of their workers."""
    return str(request.param)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`moment(1_000)`: so many ms later."""
    now = 0

    def move(ms: int) -> None:
        nonlocal now
        now += ms

    monkeypatch.setattr(clock, "now", lambda: now)
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    return move


async def succeed(job: Job) -> None:
    return None


async def fail(job: Job) -> str:
    return "not now"


async def test_what_is_due_is_claimed_batch_by_batch_and_done_once(
    database: Database, moment: Callable[[int], None]
) -> None:
    table = Table([Job(str(number)) for number in range(7)] + [Job("later", due=50)])
    worker = Worker(database, table, succeed)
    assert [await worker.work_off() for _ in range(4)] == [3, 3, 1, 0]
    assert table.done == list("0123456")
    moment(50)
    assert [await worker.work_off() for _ in range(2)] == [1, 0]


async def test_what_fails_is_tried_again_after_doubling_pauses_and_given_up_in_the_end(
    database: Database, moment: Callable[[int], None]
) -> None:
    table = Table([job := Job("one")])
    worker, pauses, passed = Worker(database, table, fail), [], 0
    while await worker.work_off() and table.jobs:
        pauses.append(job.due - passed)
        moment(job.due - passed)
        passed = job.due
    assert pauses == [100, 200, 400, 400, 400, 400]
    assert table.given_up == [("one", "not now")]


async def test_what_a_worker_that_died_had_claimed_is_due_again_when_the_lease_ends(
    database: Database, moment: Callable[[int], None]
) -> None:
    async def die(job: Job) -> str:
        raise asyncio.CancelledError

    table = Table([Job("one")])
    with pytest.raises(asyncio.CancelledError):
        await Worker(database, table, die).work_off()
    other = Worker(database, table, succeed)
    moment(999)
    assert await other.work_off() == 0
    moment(1)
    assert await other.work_off() == 1
    assert table.done == ["one"]


def test_a_pause_is_a_quarter_more_or_less_and_never_without_end() -> None:
    backoff = Backoff(100, 10_000, 0)
    for failures, expected in ((1, 100), (2, 200), (7, 6_400), (8, 10_000), (1_000_000, 10_000)):
        pauses = {backoff.pause(failures) for _ in range(200)}
        assert 0.75 * expected <= min(pauses) < 0.85 * expected
        assert 1.15 * expected < max(pauses) <= 1.25 * expected
    assert backoff.pause(1_000, 500) <= 1.25 * 500


async def test_a_worker_sleeps_until_it_is_woken_or_something_is_due(
    database: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table()
    worker = Worker(database, table, succeed)
    task = asyncio.create_task(worker.run())
    await eventually(lambda: worker.looks >= 2)
    await asyncio.sleep(0.1)
    looks = worker.looks
    await asyncio.sleep(0.2)
    assert worker.looks == looks, "it sleeps"
    table.jobs.append(Job("woken"))
    worker.wake()
    await eventually(lambda: table.done == ["woken"], 5)
    table.jobs.append(Job("due soon", due=clock.now() + 200))
    worker.wake()
    await eventually(lambda: table.done == ["woken", "due soon"], 5)
    # What another process queued is found, too.
    monkeypatch.setattr(queue, "LONGEST_SLEEP", 0.2)
    worker.wake()
    await asyncio.sleep(0.05)
    table.jobs.append(Job("from elsewhere"))
    await eventually(lambda: table.done[-1] == "from elsewhere", 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_queued_while_a_batch_was_worked_on_is_not_slept_over(
    database: Database, eventually: Eventually
) -> None:
    table = Table([Job("one")])

    async def work(job: Job) -> None:
        if job.name == "one":
            # Queued, and told of, in the midst of the work.
            table.jobs.append(Job("two"))
            worker.wake()

    worker = Worker(database, table, work)
    task = asyncio.create_task(worker.run())
    await eventually(lambda: table.done == ["one", "two"], 5)
    task.cancel()


@pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), ZeroDivisionError()])
async def test_a_worker_outlives_whatever_goes_wrong(
    database: Database,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    monkeypatch.setattr(queue, "LONGEST_SLEEP", 0.05)
    errors = [error]

    async def work(job: Job) -> None:
        if errors:
            job.due = 0
            raise errors.pop()

    table = Table([Job("one")])
    task = asyncio.create_task(Worker(database, table, work).run())
    await eventually(lambda: table.done == ["one"], 5)
    task.cancel()
    said = [record.getMessage() for record in caplog.records if record.name == "referral.background.loop"]
    assert said == [
        "the jobs cannot be read: gone"
        if isinstance(error, DatabaseUnavailable)
        else "the worker of the jobs failed and goes on"
    ]


async def test_while_it_rests_a_worker_is_not_woken(database: Database, eventually: Eventually) -> None:
    rests = [Rest(0.3)]

    async def work(job: Job) -> None:
        if rests:
            job.due = 0
            raise rests.pop()

    table = Table([Job("one")])
    worker = Worker(database, table, work)
    task = asyncio.create_task(worker.run())
    await eventually(lambda: not rests)
    looks = worker.looks
    for _ in range(10):
        worker.wake()
        await asyncio.sleep(0.01)
    assert worker.looks == looks
    await eventually(lambda: table.done == ["one"], 5)
    task.cancel()


@pytest.mark.parametrize(("takes", "ended"), [(0.05, True), (60, False)])
async def test_work_in_hand_is_finished_within_the_grace(takes: float, ended: bool) -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(takes)
        done.append(True)

    task = asyncio.create_task(finish(work(), 0.3))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ([True] if ended else [])
