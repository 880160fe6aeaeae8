"""By which name a mail server is greeted, and what becomes of mail when it is the service that a server refuses."""

from __future__ import annotations

import logging
import socket
from urllib.parse import quote

import pytest

from referral.background.queue import Rest
from referral.config.addresses import greeting_name
from referral.config.public_url import parse_public_url
from referral.database import Database
from tests.mail.conftest import Advance, MakeMailer, Queue, waiting
from tests.support.smtp_server import PASSWORD, USER, Certificate, MailServer


@pytest.fixture
def engine() -> str:
    """Servers refuse us whatever the database is."""
    return "sqlite"


@pytest.mark.parametrize(
    ("public_url", "greeting"),
    [
        ("https://referrals.example.com", "referrals.example.com"),
        ("https://Referrals.Example.com:8443/programme", "referrals.example.com"),
        ("https://referrals.example.com./", "referrals.example.com"),
        ("https://пример.рф/%D0%B0", "xn--e1afmkfd.xn--p1ai"),
        ("http://localhost:8000", "localhost"),
        ("http://192.0.2.7:8000", "[192.0.2.7]"),
        ("http://[2001:db8::7]:8000", "[IPv6:2001:db8::7]"),
    ],
)
async def test_a_server_is_greeted_by_the_name_of_the_public_url(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    public_url: str,
    greeting: str,
) -> None:
    for name in ("getfqdn", "gethostname"):
        monkeypatch.setattr(socket, name, lambda *_: "3f2a9c1d7e55")
    await queue("alice@example.com")

    await make_mailer(server, server_public_url=public_url).work_off()

    assert server.recipients == ["alice@example.com"]
    assert server.greetings == [greeting]
    assert greeting_name(parse_public_url(public_url).host) == greeting


async def test_another_name_is_an_option_of_the_url_and_said_after_starttls_too(
    certificate: Certificate, make_mailer: MakeMailer, queue: Queue
) -> None:
    await queue("alice@example.com")
    async with MailServer(tls="starttls", certificate=certificate) as server:
        url = f"smtp://127.0.0.1:{server.port}?tls=starttls&ehlo=mx.example.org&ca={certificate.file}"
        await make_mailer(url, server_public_url="https://referrals.example.com").work_off()

    assert server.recipients == ["alice@example.com"]
    assert server.greetings == ["mx.example.org", "mx.example.org"]


# Before any recipient is named


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("CONNECT", "554 5.7.1 mail.test: no service for 127.0.0.1"),
        ("EHLO", "504 5.5.2 <3f2a9c1d7e55>: Helo command rejected: need fully-qualified hostname"),
        ("EHLO", "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)"),
        ("EHLO", "502 5.5.2 Command not recognized"),
        ("STARTTLS", "554 5.7.3 Unable to initialize security subsystem"),
        ("AUTH", "535 5.7.8 Authentication credentials invalid"),
        ("MAIL", "550 5.7.1 Sender not authorized"),
        ("MAIL", "501 5.1.7 Bad sender address syntax"),
        ("MAIL", "552 5.2.2 Sender's quota is used up"),
    ],
)
async def test_a_refusal_before_any_recipient_is_an_outage_and_no_mail_is_given_up(
    certificate: Certificate,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    advance: Advance,
    stage: str,
    reply: str,
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    tls = "starttls" if stage == "STARTTLS" else "none"
    login = stage == "AUTH"
    async with MailServer(tls=tls, certificate=certificate, login=login) as server:
        server.refuse(stage, reply)
        who = f"{USER}:{quote(PASSWORD, safe='')}@" if login else ""
        mailer = make_mailer(f"smtp://{who}127.0.0.1:{server.port}?tls={tls}{f'&ca={certificate.file}' * (tls != 'none')}")
        for _ in range(20):
            with pytest.raises(Rest):
                await mailer.work_off()
            advance(7_200)
        assert [(mail.failed_at, mail.attempts) for mail in await waiting(database)] == [(None, 0), (None, 0)]
        server.behave()
        assert await mailer.work_off() == 2
    assert sorted(server.recipients) == ["alice@example.com", "bob@example.com"]


# When a recipient or a message is named, but not meant


@pytest.mark.parametrize("stage", ["RCPT", "DATA", "END"])
@pytest.mark.parametrize(
    "reply",
    [
        "504 5.5.2 <3f2a9c1d7e55>: Helo command rejected: need fully-qualified hostname",
        "550 5.7.1 <3f2a9c1d7e55>: Helo command rejected: Host not found",
        "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)",
        "554 5.7.1 <unknown[10.0.0.7]>: Client host rejected: Access denied",
        "554 5.7.1 <alice@example.com>: Relay access denied",
        "550 relay not permitted",
        "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
        "553 5.7.1 <referrals@localhost>: Sender address rejected: not owned by user mailer",
        "550 Sender verify failed",
        "550 5.1.8 Access denied, bad outbound sender",
        "502 Command not implemented",
    ],
)
async def test_a_refusal_that_means_us_is_an_outage_that_others_get_past(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    advance: Advance,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    reply: str,
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.refuse(stage, reply, times=1)
    mailer = make_mailer(server)

    with pytest.raises(Rest):
        await mailer.work_off()

    assert [mail.failed_at for mail in await waiting(database)] == [None, None]
    assert any(record.levelno == logging.ERROR and "mail.url" in record.getMessage() for record in caplog.records)
    advance(60)
    assert await mailer.work_off() == 2
    assert sorted(server.recipients) == ["alice@example.com", "bob@example.com"]


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 <alice@example.com>: Recipient address rejected: User unknown",
        "550 No such user here",
        "550 5.5.0 Requested action not taken: mailbox unavailable",
        "550 5.1.10 Recipient not found",
        "552 5.2.2 Mailbox full",
        "554 5.7.1 Not wanted",
        "550 5.1.1 <relay@helo.example>: no such mailbox",
        "501 5.1.3 Bad recipient address syntax",
        "553 Mailbox name not allowed",
    ],
)
async def test_a_refusal_of_the_recipient_is_final(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, reply: str
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.refuse("RCPT", reply, times=1)

    assert await make_mailer(server).work_off() == 2

    [failed] = await waiting(database)
    assert failed.failed_at is not None
    assert sorted([failed.recipient, *server.recipients]) == ["alice@example.com", "bob@example.com"]
