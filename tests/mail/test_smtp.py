"""Mail over SMTP against real servers: TLS, login, refusals for now and for good, hanging and dropping at every stage, one
connection a batch, international addresses, the operator's commands, a service killed between its answer and the mail."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import pytest
import uvloop

from referral import clock
from referral.background import mailer as mail
from referral.background.mailer import Mailer
from referral.background.queue import Rest
from referral.commands.outbox import list_mail
from referral.config import ConfigError, load_config
from referral.config.addresses import SMTPAddress, mailbox_of, parse_smtp_url
from referral.database import Database
from referral.database.opening import open_database
from referral.ids import new_id
from referral.log import TextFormatter
from referral.mail import smtp
from referral.mail.smtp import SMTPTransport
from referral.mail.transport import TransportFailure
from referral.metrics import Metrics
from referral.queries import outbox
from tests.conftest import SETTINGS, Command, MakeClient, MakeConfig
from tests.mail.conftest import Advance, MakeMailer, Queue, waiting
from tests.support.people import API
from tests.support.people import PASSWORD as PERSON_PASSWORD
from tests.support.service import run_py
from tests.support.smtp_server import PASSWORD, USER, Certificate, MailServer

LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"

both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """One dialect, unless marked `both_engines`: what a mail server does is the same to both. The marked ones are about what
    the outbox keeps: how a mail is postponed, given up, held by one worker of several, retried and deleted."""
    return str(getattr(request, "param", "sqlite"))


@contextmanager
def fails(server: MailServer, stage: str, trouble: str) -> Iterator[None]:
    """The server "hangs" at `stage`, "drops" the connection, or says "421". Only the limit that ends a hang is short: what
    is healthy may be slow on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        if trouble == "421":
            server.refuse(stage, "421 Enough for one connection", times=1)
        else:
            getattr(server, trouble).add(stage)
        if trouble == "hangs":
            patch.setattr(smtp, LIMITS[stage], 0.3 if stage == "CONNECT" else 0.7)
        yield


async def is_down_to(database: Database, count: int) -> bool:
    return len(await waiting(database)) == count


async def send_or_fail(mailer: Mailer) -> TransportFailure | None:
    try:
        await mailer.work_off()
    except Rest as rest:
        return cast(TransportFailure, rest.__cause__)
    return None


# Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail", SMTPAddress("mail", 25, "none", None, None, None, None)),
        ("smtp://mail:2525?tls=none", SMTPAddress("mail", 2525, "none", None, None, None, None)),
        ("smtp://u:p@mail?tls=starttls", SMTPAddress("mail", 587, "starttls", "u", "p", None, None)),
        ("smtp://u:p@mail:25?tls=none", SMTPAddress("mail", 25, "none", "u", "p", None, None)),
        ("smtps://mail/", SMTPAddress("mail", 465, "implicit", None, None, None, None)),
        ("smtps://u%40x.org:p%2F%3A%25@[::1]:4650", SMTPAddress("::1", 4650, "implicit", "u@x.org", "p/:%", None, None)),
        ("smtp://mail?ehlo=r.example.com", SMTPAddress("mail", 25, "none", None, None, None, "r.example.com")),
        ("smtp://mail?tls=none&ehlo=[192.0.2.1]", SMTPAddress("mail", 25, "none", None, None, None, "[192.0.2.1]")),
        (
            "smtps://mail?ehlo=[IPv6:2001:db8::1]",
            SMTPAddress("mail", 465, "implicit", None, None, None, "[IPv6:2001:db8::1]"),
        ),
    ],
)
def test_a_mail_url_names_a_server(url: str, expected: SMTPAddress) -> None:
    parsed = parse_smtp_url(url)
    assert parsed == expected
    assert "password" not in repr(parsed)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("smtp://", "must be smtp://user:password@host"),
        ("smtp:host", "must be smtp://user:password@host"),
        ("http://u:s3cret@mail", "must be smtp://user:password@host"),
        ("smtp://u:s3cret@mail/path", "percent-encoded"),
        ("smtp://u:s3cret/x@mail:25", "percent-encoded"),
        ("smtp://u:s3cret#x@mail:25", "percent-encoded"),
        ("smtp://u:s3cret@mail:port", "is no URL"),
        ("smtp://u:s3cret@mail:99999", "is no URL"),
        ("smtp://u:s3cret@[mail", "is no URL"),
        ("smtp://u:s3cret@ma℀il", "is no URL"),
        ("smtp://mail?tls=always", "must have tls=starttls or tls=none"),
        ("smtp://mail?tls=implicit", "must have tls=starttls or tls=none"),
        ("smtp://mail?tls", "is no URL"),
        ("smtp://mail?tls=none&tls=starttls", "one of them twice"),
        ("smtp://mail?tsl=starttls", "other than tls, ca and ehlo"),
        ("smtps://mail?tls=none", "needs no tls option"),
        ("smtp://user@mail", "both a user and a password"),
        ("smtp://:s3cret@mail", "both a user and a password"),
        ("smtp://u:s3cret@mail", "unencrypted"),
        ("smtp://mail?ca=x.pem", "has ca without TLS"),
        ("smtp://mail?ehlo=", "must have ehlo=NAME"),
        ("smtp://mail?ehlo=a%20b", "must have ehlo=NAME"),
        ("smtp://mail?ehlo=a%0D%0AMAIL", "must have ehlo=NAME"),
        ("smtp://mail?ehlo=my_host", "must have ehlo=NAME"),
        ("smtp://mail?ehlo=2001:db8::1", "must have ehlo=NAME"),
        ("smtps://mail?ca=no-such-file.pem", "no readable file of certificates"),
        ("file:", "file:FOLDER"),
        ("", "file:FOLDER"),
    ],
)
def test_a_wrong_mail_url_stops_the_start_with_one_line_that_keeps_the_password(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"REFERRAL_MAIL_URL": url})

    line = str(caught.value)
    assert line.startswith("mail.url: ")
    assert reason in line
    assert "\n" not in line
    assert "s3cret" not in line


@pytest.mark.parametrize("sender", ["nobody", "@example.com", "a b@example.com", "a@-.рф", "a@b, c@d"])
def test_a_wrong_sender_stops_the_start(sender: str) -> None:
    with pytest.raises(ConfigError, match=r"^mail\.sender: must be an address"):
        load_config(environ={"REFERRAL_MAIL_SENDER": sender})


def test_no_batch_outlasts_its_lease() -> None:
    assert Mailer.lease / clock.SECOND > mail.BATCH_TIME / clock.SECOND + smtp.LONGEST_SEND
    assert smtp.LONGEST_SEND >= smtp.CONNECT_TIMEOUT + 2 * smtp.ENVELOPE_TIMEOUT + smtp.DATA_TIMEOUT + smtp.QUIT_TIMEOUT


# What arrives


@both_engines
async def test_a_mail_arrives_whole(server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database) -> None:
    mail_id = await queue("alice@example.com", "Алиса")
    before = clock.now()

    assert await make_mailer(server, mail_sender="Рефералы <referrals@example.org>").work_off() == 1

    [received] = server.messages
    assert (received.sender, received.recipients) == ("referrals@example.org", ["alice@example.com"])
    message = received.message
    assert message.defects == []
    assert all(not getattr(value, "defects", None) for value in message.values())
    assert message["Message-ID"] == f"<{mail_id}@example.org>"
    assert abs(email.utils.parsedate_to_datetime(message["Date"]).timestamp() * 1000 - before) < 60_000
    assert message["From"] == "Рефералы <referrals@example.org>"
    assert message["To"] == "alice@example.com"
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        assert part is not None
        assert part.defects == []
        assert re.search(r"/account/verify\?token=[\w-]{20,}", part.get_content())
    assert received.content.isascii()
    assert max(len(line) for line in received.content.split(b"\r\n")) <= 998
    assert b"\n" not in received.content.replace(b"\r\n", b"")
    assert await waiting(database) == []


async def test_a_long_sender_domain_leaves_the_message_id_in_one_piece(
    server: MailServer, make_mailer: MakeMailer, queue: Queue
) -> None:
    mail_id = await queue("alice@example.com")
    domain = "a-long-name-of-a-department." * 4 + "example.org"

    await make_mailer(server, mail_sender=f"x@{domain}").work_off()

    assert f"<{mail_id}@{domain}>".encode() in server.messages[0].content


async def test_a_batch_goes_over_one_connection(server: MailServer, make_mailer: MakeMailer, queue: Queue) -> None:
    addresses = [f"person{number}@example.com" for number in range(5)]
    for address in addresses:
        await queue(address)

    assert await make_mailer(server).work_off() == 5

    assert sorted(server.recipients) == addresses
    assert server.connections == 1
    assert server.reached[-1] == "QUIT"


async def test_no_connection_is_made_for_nothing(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database
) -> None:
    async with database.transaction() as conn:
        await outbox.insert_mail(conn, new_id(), outbox.RESET_PASSWORD, None, "nobody@example.com", "en", clock.now())

    assert await make_mailer(server).work_off() == 1

    assert server.connections == 0
    assert await waiting(database) == []


async def test_a_name_or_a_parameter_cannot_add_a_header_or_a_recipient(
    server: MailServer, make_mailer: MakeMailer, queue: Queue
) -> None:
    evil = "x\r\nBcc: victim@example.com\r\n\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"
    await queue("alice@example.com", evil, outbox.CODE, code=f"{evil}.", expires_at=evil)

    await make_mailer(server).work_off()

    [received] = server.messages
    assert received.recipients == ["alice@example.com"]
    message = received.message
    assert sorted(message.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Language"]
    )
    assert message["Subject"] == "Your referral code x"
    assert "victim@example.com" in str(message.get_body(("plain",)))


async def test_names_are_text_in_html(server: MailServer, make_mailer: MakeMailer, queue: Queue) -> None:
    await queue("alice@example.com", "<img src=x>", outbox.CODE, code="ALICES-1", expires_at="2030-01-31")

    await make_mailer(server).work_off()

    html = server.messages[0].message.get_body(("html",))
    assert html is not None
    assert "&lt;img src=x&gt;" in html.get_content()
    assert "<img" not in html.get_content()


# International addresses


async def test_an_international_address_needs_and_uses_smtputf8(make_mailer: MakeMailer, queue: Queue) -> None:
    await queue("иван@пример.рф")
    async with MailServer(smtputf8=True) as server:
        await make_mailer(server).work_off()

    [received] = server.messages
    assert received.recipients == ["иван@xn--e1afmkfd.xn--p1ai"]
    assert "SMTPUTF8" in received.options
    assert "To: иван@xn--e1afmkfd.xn--p1ai".encode() in received.content


async def test_a_server_without_smtputf8_makes_an_international_address_fail_for_good_and_no_other(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database
) -> None:
    await queue("иван@example.com")
    await queue("bob@example.com")

    await make_mailer(server).work_off()

    [failed] = await waiting(database)
    assert failed.recipient == "иван@example.com"
    assert failed.failed_at is not None
    assert failed.last_error == "the mail server does not take international addresses (SMTPUTF8)"
    assert server.recipients == ["bob@example.com"]


async def test_an_international_domain_needs_no_smtputf8(server: MailServer, make_mailer: MakeMailer, queue: Queue) -> None:
    await queue("ivan@пример.рф")

    await make_mailer(server, mail_sender="Почта <post@пример.рф>").work_off()

    [received] = server.messages
    assert (received.sender, received.recipients) == ("post@xn--e1afmkfd.xn--p1ai", ["ivan@xn--e1afmkfd.xn--p1ai"])
    assert received.message["From"].addresses[0].display_name == "Почта"
    assert received.content.isascii()


async def test_an_international_address_is_readable_in_an_eml_file(
    mail_folder: Path, make_mailer: MakeMailer, queue: Queue
) -> None:
    await queue("иван@example.com")

    await make_mailer(f"file:{mail_folder}").work_off()

    [file] = mail_folder.glob("[!.]*.eml")
    assert "To: иван@example.com" in file.read_text(encoding="utf-8")


def test_a_mailbox_is_an_address_with_or_without_a_name() -> None:
    assert str(mailbox_of('"Doe, Jo" <jo@example.com>')) == '"Doe, Jo" <jo@example.com>'
    for wrong in ("", "jo", "jo@", "@example.com", "jo doe@example.com", "a@b\r\nBcc: c@d"):
        with pytest.raises(ValueError, match=r".+"):
            mailbox_of(wrong)


# TLS and login


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_mail_goes_encrypted_and_after_a_login(
    certificate: Certificate, make_mailer: MakeMailer, queue: Queue, tls: str
) -> None:
    await queue("alice@example.com")
    scheme, options = ("smtps", "?") if tls == "implicit" else ("smtp", "?tls=starttls&")
    async with MailServer(tls=tls, certificate=certificate, login=True) as server:
        await make_mailer(f"{scheme}://{LOGIN}localhost:{server.port}{options}ca={certificate.file}").work_off()

    [received] = server.messages
    assert received.tls
    assert received.user == USER


async def test_a_login_without_tls_works_where_it_is_asked_for(make_mailer: MakeMailer, queue: Queue) -> None:
    await queue("alice@example.com")
    async with MailServer(login=True) as server:
        await make_mailer(f"smtp://{LOGIN}127.0.0.1:{server.port}?tls=none").work_off()

    assert [received.user for received in server.messages] == [USER]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_tls_works_and_a_hanging_server_is_left_on_the_loop_of_the_service(certificate: Certificate, tls: str) -> None:
    scheme, options = ("smtps", "?") if tls == "implicit" else ("smtp", "?tls=starttls&")
    message = EmailMessage()
    message["From"], message["To"] = "referrals@example.org", "alice@example.com"
    message.set_content("Hello")

    async def send(url: str) -> None:
        try:
            async with SMTPTransport(parse_smtp_url(url), "localhost").batch() as hand_over:
                await hand_over(message, "an-account")
        finally:
            # A connection that is aborted closes in the next turns of the loop, which ends here.
            await asyncio.sleep(0.1)

    async with MailServer(tls=tls, certificate=certificate, login=True) as server:
        url = f"{scheme}://{LOGIN}127.0.0.1:{server.port}{options}ca={certificate.file}"
        await asyncio.to_thread(uvloop.run, send(url))
        assert [received.tls for received in server.messages] == [True]
        with fails(server, "CONTENT", "hangs"), pytest.raises(TransportFailure, match=r"did not answer in time"):
            await asyncio.to_thread(uvloop.run, send(url))


async def test_starttls_never_falls_back_to_plain_text(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await queue("alice@example.com")

    failure = await send_or_fail(make_mailer(f"smtp://{LOGIN}127.0.0.1:{server.port}?tls=starttls"))

    assert failure is not None
    assert failure.misconfigured
    assert server.messages == []
    assert not {"AUTH", "MAIL"} & set(server.reached)
    assert "STARTTLS" in str((await waiting(database))[0].last_error)
    assert any(record.levelno == logging.ERROR and "mail.url" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_certificate_that_is_not_the_servers_ends_the_connection_before_the_login(
    certificate: Certificate, make_mailer: MakeMailer, queue: Queue, database: Database, tls: str, wrong: str
) -> None:
    await queue("alice@example.com")
    scheme, options = ("smtps", "?") if tls == "implicit" else ("smtp", "?tls=starttls&")
    # 127.0.0.2 reaches the same server, and is not in its certificate.
    host, ca = ("127.0.0.2", f"ca={certificate.file}") if wrong == "name" else ("127.0.0.1", "")
    async with MailServer(tls=tls, certificate=certificate, login=True, host="0.0.0.0") as server:
        failure = await send_or_fail(make_mailer(f"{scheme}://{LOGIN}{host}:{server.port}{options}{ca}".rstrip("?&")))

    assert failure is not None
    assert failure.misconfigured
    assert "certificate" in str((await waiting(database))[0].last_error)
    assert "AUTH" not in server.reached


async def test_a_wrong_password_is_no_mails_fault(
    certificate: Certificate, make_mailer: MakeMailer, queue: Queue, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await queue("alice@example.com")
    async with MailServer(tls="implicit", certificate=certificate, login=True) as server:
        mailer = make_mailer(f"smtps://{USER}:wr0ng@127.0.0.1:{server.port}?ca={certificate.file}")
        failure = await send_or_fail(mailer)

    assert failure is not None
    assert failure.misconfigured
    [put_off] = await waiting(database)
    assert (put_off.failed_at, put_off.attempts) == (None, 0)
    assert "535" in str(put_off.last_error)
    assert any(record.levelno == logging.ERROR and "put right" in record.getMessage() for record in caplog.records)
    assert "wr0ng" not in caplog.text


# Refusals


@pytest.mark.parametrize("code", ["450", "550", "MAIL"])
async def test_no_address_that_a_server_quotes_is_kept_however_it_spells_it(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    code: str,
) -> None:
    await queue("Alice.Smith@xn--mller-kva.example")
    hostile = (
        "<ALICE.SMITH@XN--MLLER-KVA.EXAMPLE>, alice.smith@mueller.example; orcpt=rfc822;alice.smith+40xn--mller-kva.example "
        'to "alice smith"@mueller.example /unsubscribe?to=alice.smith%40xn--mller-kva.example '
        f"{'x' * 60} alice.smith@mueller.example"
    )
    server.refuse("MAIL" if code == "MAIL" else "RCPT", f"{'553' if code == 'MAIL' else code} 5.1.1 {hostile}", times=1)
    mailer = make_mailer(server)
    with suppress(Rest):
        await mailer.work_off()
    [kept] = await waiting(database)
    assert kept.last_error is not None
    assert "5.1.1" in kept.last_error
    written = "\n".join(TextFormatter().format(record) for record in caplog.records if record.name.startswith("referral"))
    assert "5.1.1" in written
    for text in (kept.last_error, written):
        assert not re.search("alice|smith|ller|xn--", text, re.IGNORECASE), text


@both_engines
@pytest.mark.parametrize("stage", ["RCPT", "DATA", "END"])
async def test_a_mail_refused_for_good_is_kept_as_failed_and_the_others_go(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance, stage: str
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.refuse(stage, "554 5.7.1 No, \x1b[31m<alice@example.com>", times=1)
    mailer = make_mailer(server)

    assert await mailer.work_off() == 2

    [failed] = await waiting(database)
    assert failed.failed_at is not None
    assert failed.last_error == "the mail server answered 554 5.7.1 No, [31m<[address]>"
    assert (failed.recipient, server.recipients) == ("alice@example.com", ["bob@example.com"])
    assert server.connections == 1
    advance(3 * 86_400)
    assert await mailer.work_off() == 0


@both_engines
async def test_a_greylisted_mail_is_tried_again_after_growing_pauses(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    await queue("alice@example.com")
    server.refuse("RCPT", "451 4.7.1 Greylisted, come back later", times=4)
    mailer, pauses = make_mailer(server), []
    for attempt in range(1, 5):
        assert await mailer.work_off() == 1
        [put_off] = await waiting(database)
        assert put_off.attempts == attempt
        assert "451 4.7.1" in str(put_off.last_error)
        pauses.append((put_off.next_attempt_at - clock.now()) / clock.SECOND)
        advance(pauses[-1] - 1)
        assert await mailer.work_off() == 0
        advance(1.1)
    assert await mailer.work_off() == 1

    assert server.recipients == ["alice@example.com"]
    assert await waiting(database) == []
    for pause, middle in zip(pauses, (10, 20, 40, 80), strict=True):
        assert 0.7 * middle < pause < 1.3 * middle


async def test_a_greylisted_mail_holds_no_other_up(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database
) -> None:
    for name in ("alice", "bob", "carol"):
        await queue(f"{name}@example.com")
    server.refuse("RCPT", "450 Later", times=1)

    await make_mailer(server).work_off()

    assert server.recipients == ["bob@example.com", "carol@example.com"]
    assert [queued.recipient for queued in await waiting(database)] == ["alice@example.com"]
    assert server.connections == 1


@both_engines
async def test_a_mail_is_given_up_after_two_days_with_its_error(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    await queue("alice@example.com")
    server.refuse("RCPT", "451 Never today")
    mailer = make_mailer(server)
    hours = 0
    while (queued := (await waiting(database))[0]).failed_at is None:
        advance(3_600)
        hours += 1
        await mailer.work_off()

    assert 40 <= hours <= 50
    assert queued.last_error == "the mail server answered 451 Never today"
    assert queued.attempts > 20


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("CONNECT", "554 5.3.2 Not you"),
        ("EHLO", "550 Not you"),
        ("MAIL", "550 5.7.1 Not this sender"),
        ("RCPT", "530 5.7.0 Authentication required"),
        ("DATA", "503 5.5.1 Say who you are first"),
    ],
)
async def test_a_refusal_of_us_puts_the_whole_batch_off_and_is_logged_as_an_error(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    reply: str,
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.refuse(stage, reply)

    assert await send_or_fail(make_mailer(server)) is not None

    assert [(queued.failed_at, queued.attempts) for queued in await waiting(database)] == [(None, 0), (None, 0)]
    assert server.reached.count(stage) == 1
    assert any(record.levelno == logging.ERROR and reply in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("stage", ["CONNECT", "MAIL", "RCPT"])
async def test_a_server_that_shuts_down_puts_the_whole_batch_off(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, stage: str
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.refuse(stage, "421 4.3.2 Shutting down")

    failure = await send_or_fail(make_mailer(server))

    assert failure is not None
    assert not failure.misconfigured
    assert [(queued.failed_at, queued.attempts) for queued in await waiting(database)] == [(None, 0), (None, 0)]
    assert server.connections == 1


async def test_an_answer_that_is_not_smtp_puts_the_batch_off(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database
) -> None:
    await queue("alice@example.com")
    server.refuse("CONNECT", "HTTP/1.1 400 Bad Request")

    assert await send_or_fail(make_mailer(server)) is not None

    assert [queued.failed_at for queued in await waiting(database)] == [None]


# A server that is gone, hangs or drops the connection


@both_engines
async def test_a_refused_connection_puts_the_whole_batch_off_after_one_try(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    for number in range(5):
        await queue(f"person{number}@example.com")
    await server.stop()
    mailer, pauses = make_mailer(server), []
    for _ in range(8):
        assert await send_or_fail(mailer) is not None
        put_off = await waiting(database)
        assert len({queued.next_attempt_at for queued in put_off}) > 1
        assert {queued.attempts for queued in put_off} == {0}
        pauses.append(max(queued.next_attempt_at for queued in put_off) - clock.now())
        assert await mailer.work_off() == 0
        advance(pauses[-1] / 1000 + 1)

    assert 10_000 * 0.7 < pauses[0] < 10_000 * 1.3
    assert mail.LONGEST_REST * 0.7 < pauses[-1] <= mail.LONGEST_REST * 1.25
    await server.start()
    assert await mailer.work_off() == 5
    assert len(server.messages) == 5
    # A delivery ends the outage: the next one begins with the shortest pause.
    await server.stop()
    await queue("another@example.com")
    assert await send_or_fail(mailer) is not None
    assert (await waiting(database))[0].next_attempt_at - clock.now() < 10_000 * 1.3


@both_engines
async def test_an_outage_of_two_days_gives_the_mail_up(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    await queue("alice@example.com")
    await server.stop()
    advance(2 * 86_400)

    await send_or_fail(make_mailer(server))

    [failed] = await waiting(database)
    assert failed.failed_at is not None
    assert "Error connecting" in str(failed.last_error)


# The steps of a delivery, and the time limit that covers each.
LIMITS = {
    **dict.fromkeys(("CONNECT", "EHLO", "STARTTLS", "AUTH"), "CONNECT_TIMEOUT"),
    **dict.fromkeys(("RSET", "MAIL", "RCPT"), "ENVELOPE_TIMEOUT"),
    **dict.fromkeys(("DATA", "CONTENT", "END"), "DATA_TIMEOUT"),
    "QUIT": "QUIT_TIMEOUT",
}
STAGES = [stage for stage in LIMITS if stage not in ("RSET", "QUIT")]


@pytest.mark.parametrize("trouble", ["hangs", "drops"])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_server_that_hangs_or_drops_the_connection_puts_the_batch_off_after_one_try(
    certificate: Certificate,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    advance: Advance,
    stage: str,
    trouble: str,
) -> None:
    for number in range(5):
        await queue(f"person{number}@example.com")
    async with MailServer(tls="starttls", certificate=certificate, login=True) as server:
        mailer = make_mailer(f"smtp://{LOGIN}127.0.0.1:{server.port}?tls=starttls&ca={certificate.file}")
        with fails(server, stage, trouble):
            assert await send_or_fail(mailer) is not None

        assert server.reached.count(stage) == 1
        put_off = await waiting(database)
        assert [queued.failed_at for queued in put_off] == [None] * 5
        in_hand = int(stage in ("MAIL", "RCPT", "DATA", "CONTENT", "END"))
        assert sorted(queued.attempts for queued in put_off) == [0, 0, 0, 0, in_hand]
        server.behave()
        advance(60)
        assert await mailer.work_off() == 5

    assert await waiting(database) == []
    assert set(server.recipients) == {f"person{number}@example.com" for number in range(5)}
    # What was cut off after its last line is sent again, so that a reader's program can tell that it is the same.
    assert len(server.messages) == 5 + (stage == "END")
    assert len({received.message["Message-ID"] for received in server.messages}) == 5


async def test_a_server_that_hangs_in_the_tls_handshake_costs_one_time_limit(
    make_mailer: MakeMailer, queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue("alice@example.com")
    monkeypatch.setattr(smtp, "CONNECT_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(30):
            assert await send_or_fail(make_mailer(f"smtps://127.0.0.1:{silent.getsockname()[1]}")) is not None

    assert "not ready" in str((await waiting(database))[0].last_error)


@pytest.mark.parametrize("trouble", ["hangs", "drops"])
async def test_a_server_that_takes_the_mail_and_then_fails_to_say_goodbye_got_it_once(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, trouble: str
) -> None:
    await queue("alice@example.com")

    with fails(server, "QUIT", trouble):
        assert await make_mailer(server).work_off() == 1

    assert await waiting(database) == []
    assert len(server.messages) == 1


@pytest.mark.parametrize("trouble", ["hangs", "drops", "421"])
async def test_a_connection_that_ended_between_two_mails_is_replaced(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, trouble: str
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")

    with fails(server, "RSET", trouble):
        assert await make_mailer(server).work_off() == 2

    assert server.recipients == ["alice@example.com", "bob@example.com"]
    assert server.connections == 2
    assert await waiting(database) == []


@both_engines
async def test_a_mail_that_makes_the_server_stumble_does_not_hold_the_others_up(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    poison = await queue("poison@example.com")
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.drops.add("poison@example.com")
    mailer = make_mailer(server)
    for _ in range(12):
        await send_or_fail(mailer)
        advance(15)

    assert set(server.recipients) >= {"alice@example.com", "bob@example.com"}
    [left] = await waiting(database)
    assert left.id == poison
    assert left.attempts < 6


async def test_a_mail_that_cannot_be_composed_holds_no_other_up_and_is_given_up(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    await queue("alice@example.com", kind=outbox.CODE)
    await queue("bob@example.com")
    mailer = make_mailer(server)

    assert await mailer.work_off() == 2

    assert server.recipients == ["bob@example.com"]
    assert "UndefinedError" in str((await waiting(database))[0].last_error)
    advance(2 * 86_400)
    await mailer.work_off()
    assert (await waiting(database))[0].failed_at is not None


async def test_the_worker_outlives_an_outage_and_asks_an_absent_server_rarely(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    monkeypatch.setattr(Mailer, "backoff", replace(Mailer.backoff, first=200))
    server.drops.add("CONNECT")
    mailer = make_mailer(server)
    task = asyncio.create_task(mailer.run())
    try:
        for number in range(10):
            await queue(f"person{number}@example.com")
            mailer.wake()
            await asyncio.sleep(0.01)
        # The first failure makes the worker rest; without it, each of these would have been a connection.
        assert server.connections < 5
        server.behave()
        await eventually(lambda: len(server.messages) == 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await waiting(database) == []


@both_engines
async def test_a_worker_that_is_stopped_finishes_the_mail_in_its_hands(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.delays["END"] = 0.3
    task = asyncio.create_task(make_mailer(server).run())
    await eventually(lambda: "END" in server.reached)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert server.recipients == ["alice@example.com"]
    assert [queued.recipient for queued in await waiting(database)] == ["bob@example.com"]


async def test_a_worker_is_stopped_though_the_server_hangs(
    server: MailServer,
    make_mailer: MakeMailer,
    queue: Queue,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    monkeypatch.setattr(mail, "STOP_GRACE", 0.1)
    monkeypatch.setattr(smtp, "QUIT_TIMEOUT", 0.1)
    await queue("alice@example.com")
    server.hangs.add("CONTENT")
    task = asyncio.create_task(make_mailer(server).run())
    await eventually(lambda: "CONTENT" in server.reached)

    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(task, return_exceptions=True)

    assert len(await waiting(database)) == 1


# Several workers


@both_engines
async def test_two_workers_on_one_database_never_send_twice(
    server: MailServer,
    make_config: MakeConfig,
    database_url: str,
    queue: Queue,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    monkeypatch.setattr(Mailer, "batch_size", 5)
    addresses = {f"person{number}@example.com" for number in range(60)}
    for address in addresses:
        await queue(address)
    second = await open_database(database_url)
    config, counts = make_config(mail_url=f"smtp://127.0.0.1:{server.port}"), [Metrics(), Metrics()]
    mailers = [Mailer(config, opened, count) for opened, count in zip((database, second), counts, strict=True)]
    tasks = [asyncio.create_task(mailer.run()) for mailer in mailers]
    try:
        await eventually(lambda: len(server.messages) >= 60)
        await eventually(lambda: is_down_to(database, 0))
        for count in counts:
            assert b'referral_mail_total{kind="verify-email",result="sent"}' in count.text()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await second.close()

    assert sorted(server.recipients) == sorted(addresses)


@both_engines
async def test_a_mail_whose_worker_died_is_sent_by_another_when_the_lease_ends(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    await queue("alice@example.com")
    async with database.transaction() as conn:
        await outbox.claim_mail(conn, clock.now(), clock.now() + Mailer.lease, Mailer.batch_size)
    mailer = make_mailer(server)

    assert await mailer.work_off() == 0
    advance(Mailer.lease / clock.SECOND + 1)
    assert await mailer.work_off() == 1

    assert server.recipients == ["alice@example.com"]


@both_engines
async def test_a_slow_batch_ends_before_its_lease(
    server: MailServer, make_mailer: MakeMailer, queue: Queue, database: Database, advance: Advance
) -> None:
    for name in ("alice", "bob"):
        await queue(f"{name}@example.com")
    server.on_message = lambda: advance(mail.BATCH_TIME / clock.SECOND + 1)
    mailer = make_mailer(server)

    await mailer.work_off()
    assert server.recipients == ["alice@example.com"]
    advance(Mailer.lease / clock.SECOND)
    await mailer.work_off()

    assert server.recipients == ["alice@example.com", "bob@example.com"]


# The operator, and the service itself


class Service:
    """The service as a process of its own, on the test's database and mail server."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = {**os.environ, **SETTINGS, "REFERRAL_LOG_LEVEL": "warning", "REFERRAL_SERVER_PORT": "0", **environ}
        self.process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command: its exit status, and what it wrote."""
        process = await self._start(*arguments)
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def start(self) -> None:
        self.process = await self._start("serve", stderr=asyncio.subprocess.DEVNULL)
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            line = (await self.process.stdout.readline()).decode()
        found = re.search(r"http://\S+", line)
        assert found, line
        self.url = found.group()

    async def stop(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        await self.process.communicate()
        self.process = None

    async def _start(self, *arguments: str, stderr: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *run_py(), *arguments, env=self._environ, stdout=asyncio.subprocess.PIPE, stderr=stderr
        )


@pytest.fixture
async def service(database_url: str, server: MailServer) -> AsyncIterator[Service]:
    made = Service({"REFERRAL_DATABASE_URL": database_url, "REFERRAL_MAIL_URL": f"smtp://127.0.0.1:{server.port}"})
    yield made
    if made.process is not None:
        with suppress(ProcessLookupError):
            await made.stop(signal.SIGKILL)


@both_engines
async def test_every_acknowledged_mail_arrives_though_the_service_is_killed_before_sending_it(
    server: MailServer, service: Service, eventually: Callable[..., Awaitable[Any]]
) -> None:
    server.hangs.add("RCPT")
    await service.start()
    addresses = [f"person{number}@example.com" for number in range(8)]
    async with aiohttp.ClientSession() as session:
        for address in addresses:
            body = {"email": address, "password": PERSON_PASSWORD}
            async with session.post(f"{service.url}{API}/auth/register", json=body) as answer:
                assert answer.status == 201
        async with session.post(f"{service.url}{API}/auth/password/reset", json={"email": addresses[0]}) as answer:
            assert answer.status == 202
    await eventually(lambda: "RCPT" in server.reached)
    await service.stop(signal.SIGKILL)
    assert server.messages == []
    server.behave()

    # What the dead worker held is due when its lease ends, or when the operator says so.
    status, out, err = await service.run("outbox")
    assert status == 0, err
    ids = re.findall(r"^\S{36}(?=  )", out, re.MULTILINE)
    assert len(ids) == 9
    status, out, err = await service.run("outbox", "retry", *ids)
    assert (status, out) == (0, "9 mails are due now.\n"), err
    await service.start()
    await eventually(lambda: len(server.messages) == 9)

    assert sorted(server.recipients) == sorted([*addresses, addresses[0]])
    await service.stop(signal.SIGTERM)


@both_engines
async def test_the_operator_sees_the_queue_and_sends_failed_mail_again(
    server: MailServer, command: Command, make_mailer: MakeMailer, queue: Queue, database: Database
) -> None:
    assert await command("outbox") == "Nothing waits, nothing failed.\n"
    refused, greylisted = await queue("alice@example.com"), await queue("bob@example.com")
    server.refuse("RCPT", "550 Unknown", times=1)
    server.refuse("END", "452 Full", times=1)
    mailer = make_mailer(server)
    await mailer.work_off()

    heading, first, second = (await command("outbox")).splitlines()

    assert heading.split("  ")[0] == "ID"
    assert re.fullmatch(
        rf"{refused}  verify-email +a\*\*\*@example\.com +1  failed +the mail server answered 550 Unknown", first
    )
    assert re.fullmatch(
        rf"{greylisted}  verify-email +b\*\*\*@example\.com +1  \d{{4}}-\S+Z +the mail server answered 452 Full", second
    )
    assert await command("outbox", "retry") == "1 mail is due now.\n"
    await mailer.work_off()
    assert server.recipients == ["alice@example.com"]
    left = await waiting(database)
    with pytest.raises(ConfigError) as caught:
        await command("outbox", "retry", greylisted, "no-such-mail")
    assert str(caught.value) == "outbox retry: there is no mail no-such-mail (read from the command line)"
    assert await waiting(database) == left
    assert [mail.id for mail in left] == [greylisted]
    assert await command("outbox", "retry", greylisted) == "1 mail is due now.\n"
    await mailer.work_off()
    assert server.recipients == ["alice@example.com", "bob@example.com"]


@both_engines
async def test_failed_mail_that_is_retried_has_all_its_time_again(
    server: MailServer, make_mailer: MakeMailer, make_config: MakeConfig, queue: Queue, database: Database, advance: Advance
) -> None:
    mail_id = await queue("alice@example.com")
    server.refuse("RCPT", "451 Later", times=2)
    mailer = make_mailer(server)
    advance(3 * 86_400)
    await mailer.work_off()
    assert (await list_mail(make_config()))[0].failed_at is not None

    async with database.transaction() as conn:
        assert await outbox.retry_mail(conn, mail_id, clock.now())
    await mailer.work_off()
    [again] = await waiting(database)
    assert (again.failed_at, again.attempts) == (None, 1)
    advance(15)
    await mailer.work_off()

    assert server.recipients == ["alice@example.com"]


@both_engines
async def test_the_service_deletes_mail_that_failed_thirty_days_ago(
    server: MailServer,
    make_mailer: MakeMailer,
    make_client: MakeClient,
    queue: Queue,
    database: Database,
    advance: Advance,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    server.refuse("RCPT", "550 Unknown")
    for address, days in (("old@example.com", 20), ("new@example.com", 11)):
        await queue(address)
        await make_mailer(server).work_off()
        advance(days * 86_400)
    assert len(await waiting(database)) == 2

    await make_client()

    await eventually(lambda: is_down_to(database, 1))
    assert [queued.recipient for queued in await waiting(database)] == ["new@example.com"]
