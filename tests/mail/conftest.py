"""Fixtures of the tests of mail: a mail server, a mailer that is not running, accounts with a mail in the queue, and
time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from referral import clock
from referral.background.mailer import Mailer
from referral.database import Database
from referral.ids import new_id
from referral.metrics import Metrics
from referral.queries import outbox, users
from referral.texts import email_key
from tests.conftest import MakeConfig
from tests.support.smtp_server import Certificate, MailServer

MakeMailer = Callable[..., Mailer]
Queue = Callable[..., Awaitable[str]]
Advance = Callable[[float], None]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with MailServer() as started:
        yield started


@pytest.fixture
def make_mailer(make_config: MakeConfig, database: Database) -> MakeMailer:
    """`make_mailer(url, mail_sender=...)`: a mailer that is not running."""

    def make(url: str | MailServer, **settings: str) -> Mailer:
        address = f"smtp://127.0.0.1:{url.port}" if isinstance(url, MailServer) else url
        return Mailer(make_config(mail_url=address, **settings), database, Metrics())

    return make


@pytest.fixture
def queue(database: Database) -> Queue:
    """`await queue("alice@example.com")`: makes an account and queues a verification mail to it; returns the mail's id."""

    async def insert(
        address: str, username: str | None = None, kind: outbox.MailKind = outbox.VERIFY_EMAIL, **params: Any
    ) -> str:
        user_id, mail_id = new_id(), new_id()
        async with database.transaction() as conn:
            user = users.NewUser(user_id, address, email_key(address), username, username, "x", "user", clock.now())
            await users.insert_user(conn, user)
            if kind != outbox.VERIFY_EMAIL:
                await users.verify_email(conn, user_id, None, clock.now())
            await outbox.insert_mail(conn, mail_id, kind, user_id, address, "en", clock.now(), **params)
        return mail_id

    return insert


async def waiting(database: Database) -> list[outbox.QueuedMail]:
    """The mail that is in the outbox."""
    async with database.reader() as conn:
        return await outbox.find_mail(conn)


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """`advance(60)`: it is a minute later."""
    real, offsets = clock.now, [0]
    monkeypatch.setattr(clock, "now", lambda: real() + sum(offsets))
    return lambda seconds: offsets.append(int(seconds * clock.SECOND))
