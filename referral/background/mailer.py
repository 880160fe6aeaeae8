"""Mail: composed from `templates/mail/`, taken from the outbox by a worker, handed to a transport.

At least once: a mail leaves the outbox only after the transport took it. A worker that dies in between leaves a lease
behind, after which the mail is sent again, under the same Message-ID.

Whose fault a failure is decides what follows. A mail that is refused for good is kept as failed; one that is refused for now
is tried again after its own growing pauses; when the transport itself fails, the mails keep their count of attempts and the
worker rests.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from referral import clock
from referral.auth.tokens import hash_token, new_token
from referral.config import Config
from referral.config.addresses import mailbox_of, parse_smtp_url
from referral.database import Database, DatabaseUnavailable
from referral.mail.smtp import SMTPTransport
from referral.mail.transport import FileTransport, PermanentFailure, Send, TemporaryFailure, Transport, TransportFailure
from referral.metrics import Metrics
from referral.queries import one_time_tokens, outbox, users

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "mail"
LANGUAGES = ("en", "ru")

VERIFICATION_TTL = 3 * clock.DAY
RESET_TTL = clock.DAY // 24

BATCH = 20
# No mail of a batch is begun later than this. With the longest time that one can take (smtp.LONGEST_SEND, and the first time
# a slow name server) it stays below the lease, so that no other worker takes a mail that is still being sent.
BATCH_TIME = 60 * clock.SECOND
# A mail whose worker died waits this long.
LEASE = 240 * clock.SECOND
# Pauses double from here, up to the hour, until the mail is this old.
FIRST_PAUSE = 10 * clock.SECOND
LONGEST_PAUSE = 3_600 * clock.SECOND
GIVE_UP_AFTER = 2 * clock.DAY
# When the transport fails, pauses double up to this: mail goes out as soon after its return.
LONGEST_REST = 300 * clock.SECOND
# How long mail that another process queued (or a clock that was set back) may go unnoticed, in seconds.
LONGEST_SLEEP = 15.0
# How long a worker that is stopped goes on with the mail in its hands, in seconds: cut off after its last line, it would be
# sent twice. Container runtimes kill after ten.
STOP_GRACE = 5.0


def open_transport(url: str) -> Transport:
    """The transport of a `mail.url` that the settings' check has passed."""
    if url.startswith("smtp"):
        return SMTPTransport(parse_smtp_url(url))
    return FileTransport(Path(url.removeprefix("file:").removeprefix("//")))


def _encoding(text: str) -> str:
    # Readable as it is where it can be: quoted-printable would break a link over two lines of an .eml file.
    return "7bit" if text.isascii() else "quoted-printable"


def language_of(accept_language: str) -> str:
    """The first of LANGUAGES in an Accept-Language header by its weights (RFC 9110 section 12.5.4); English without one."""
    best, best_weight = LANGUAGES[0], 0.0
    for item in accept_language[:1000].split(","):
        tag, _, weight = item.partition(";")
        language = tag.strip().lower().partition("-")[0]
        try:
            value = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if language in LANGUAGES and value > best_weight:
            best, best_weight = language, value
    return best


def mask(address: str) -> str:
    """`a***@example.com`: enough to recognise an address one knows."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def _pause_after(failures: int, longest: int) -> int:
    """Milliseconds, doubling with each failure in a row; a quarter more or less, so that not everything is tried at once."""
    return int(min(FIRST_PAUSE * 2 ** min(failures - 1, 20), longest) * random.uniform(0.75, 1.25))


class Mailer:
    """Sends what is in the outbox. `run()` is its worker; `wake()` tells it that something was queued."""

    def __init__(self, config: Config, database: Database, metrics: Metrics) -> None:
        self._sender = mailbox_of(config.mail.sender)
        self._service = config.server.public_url.rstrip("/")
        self._links = (config.mail.link_base or f"{self._service}/account").rstrip("/")
        self._database = database
        self._metrics = metrics
        self._transport = open_transport(config.mail.url)
        self._outages = 0
        self._queued = asyncio.Event()
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            undefined=StrictUndefined,
            autoescape=select_autoescape(("html",)),
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def wake(self) -> None:
        """Call after the commit that queued mail."""
        self._queued.set()

    async def run(self) -> None:
        """Send what is due, and sleep until more is, for ever."""
        while True:
            self._queued.clear()
            try:
                while await self.send_due():
                    pass
                pause = await self._pause()
            except TransportFailure:
                # What is queued meanwhile waits, too: one attempt a pause is enough to find out that the other side is back.
                await asyncio.sleep(_pause_after(self._outages, LONGEST_REST) / 1000)
                continue
            except DatabaseUnavailable as error:
                log.warning("the outbox cannot be read: %s", error)
                pause = LONGEST_SLEEP
            except Exception:
                log.exception("the mail worker failed and goes on")
                pause = LONGEST_SLEEP
            try:
                async with asyncio.timeout(pause):
                    await self._queued.wait()
            except TimeoutError:
                pass

    async def _pause(self) -> float:
        async with self._database.reader() as conn:
            due = await outbox.find_next_mail_time(conn)
        return LONGEST_SLEEP if due is None else min(max((due - clock.now()) / 1000, 0.0), LONGEST_SLEEP)

    async def send_due(self) -> int:
        """Send one batch of what is due and return how many mails were taken from the queue.

        Raises TransportFailure, having put off what is left of the batch.
        """
        now = clock.now()
        async with self._database.reader() as conn:
            due = await outbox.find_next_mail_time(conn)
        if due is None or due > now:
            return 0
        async with self._database.transaction() as conn:
            batch = await outbox.claim_mail(conn, now, now + LEASE, BATCH)
        async with self._transport.batch() as send:
            for position, mail in enumerate(batch):
                if clock.now() > now + BATCH_TIME:
                    # The rest is due again, for whichever worker, when the lease ends.
                    break
                try:
                    await _finish(self._send(mail, send))
                except TransportFailure as failure:
                    await self._put_off(batch[position:], failure)
                    raise
        return len(batch)

    async def _send(self, mail: outbox.Mail, send: Send) -> None:
        try:
            message = await self._compose(mail)
            if message is not None:
                await send(message)
                self._outages = 0
                self._metrics.mail.labels(mail.kind, "sent").inc()
        except (TransportFailure, DatabaseUnavailable):
            raise
        except PermanentFailure as error:
            await self._give_up(mail, str(error))
        except TemporaryFailure as error:
            await self._retry_or_give_up(mail, str(error))
        except Exception as error:
            # A mail that cannot even be composed must not hold the others up, nor be tried for ever.
            log.exception("mail %s (%s) cannot be sent", mail.id, mail.kind)
            await self._retry_or_give_up(mail, f"{type(error).__name__}: {error}")
        else:
            async with self._database.transaction() as conn:
                await outbox.delete_mail(conn, mail.id)

    async def _put_off(self, mails: list[outbox.Mail], failure: TransportFailure) -> None:
        # A failure midway shows that the other side is there, and may be the fault of a mail that the others must get past.
        self._outages = 1 if failure.midway else self._outages + 1
        log.log(
            logging.ERROR if failure.misconfigured else logging.WARNING,
            "%s: %s",
            "mail cannot be sent until mail.url, mail.sender or the server is put right"
            if failure.misconfigured
            else "mail waits",
            failure,
        )
        for position, mail in enumerate(mails):
            if failure.midway and position == 0:
                await self._retry_or_give_up(mail, str(failure))
            else:
                await self._postpone(mail, str(failure), _pause_after(self._outages, LONGEST_REST), mail.attempts - 1)

    async def _retry_or_give_up(self, mail: outbox.Mail, error: str) -> None:
        await self._postpone(mail, error, _pause_after(mail.attempts, LONGEST_PAUSE), mail.attempts)

    async def _postpone(self, mail: outbox.Mail, error: str, pause: int, attempts: int) -> None:
        next_attempt_at = clock.now() + pause
        if next_attempt_at > mail.created_at + GIVE_UP_AFTER:
            await self._give_up(mail, error)
            return
        error = error.replace(mail.recipient, mask(mail.recipient))
        log.warning("mail %s (%s) is tried again in %d s: %s", mail.id, mail.kind, pause // 1000, error)
        self._metrics.mail.labels(mail.kind, "postponed").inc()
        async with self._database.transaction() as conn:
            await outbox.postpone_mail(conn, mail.id, next_attempt_at, attempts, error)

    async def _give_up(self, mail: outbox.Mail, error: str) -> None:
        error = error.replace(mail.recipient, mask(mail.recipient))
        log.error("mail %s (%s) is given up: %s", mail.id, mail.kind, error)
        self._metrics.mail.labels(mail.kind, "failed").inc()
        async with self._database.transaction() as conn:
            await outbox.fail_mail(conn, mail.id, clock.now(), error)

    async def _compose(self, mail: outbox.Mail) -> EmailMessage | None:
        """The message, or None when there is nobody to write to any more."""
        async with self._database.reader() as conn:
            contact = (
                await users.find_contact(conn, mail.user_id)
                if mail.user_id
                else await users.find_contact_by_email(conn, mail.recipient)
            )
        if contact is None:
            return None
        facts = {"username": contact.username, "service": self._service, **orjson.loads(mail.params)}
        if mail.kind == outbox.VERIFY_EMAIL:
            facts["link"] = await self._link("verify", contact, one_time_tokens.VERIFY_EMAIL, VERIFICATION_TTL)
        elif mail.kind == outbox.RESET_PASSWORD:
            facts["link"] = await self._link("reset", contact, one_time_tokens.RESET_PASSWORD, RESET_TTL)
        name = f"{mail.kind}.{mail.language}"
        subject, _, text = self._templates.get_template(f"{name}.txt").render(facts).partition("\n")
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = mailbox_of(contact.email)
        message["Subject"] = subject.strip()
        message["Date"] = format_datetime(datetime.fromtimestamp(mail.created_at / 1000, UTC))
        message["Message-ID"] = f"<{mail.id}@{self._sender.domain}>"
        # RFC 3834: no out-of-office answers to a machine.
        message["Auto-Submitted"] = "auto-generated"
        html = self._templates.get_template(f"{name}.html").render(facts, subject=subject)
        message.set_content(text.lstrip("\n"), cte=_encoding(text))
        message.add_alternative(html, subtype="html", cte=_encoding(html))
        message["Content-Language"] = mail.language
        return message

    async def _link(self, page: str, contact: users.Contact, purpose: one_time_tokens.Purpose, ttl: int) -> str:
        # Made when the mail is sent and not when it is queued, so that no token that works lies in the outbox.
        token, now = new_token(), clock.now()
        async with self._database.transaction() as conn:
            await one_time_tokens.insert_one_time_token(conn, hash_token(token), contact.user_id, purpose, now, now + ttl)
        return f"{self._links}/{page}?token={quote(token)}"


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await the work; when cancelled meanwhile, let it go on for STOP_GRACE before cancelling it, too."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=STOP_GRACE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


MAILER = web.AppKey("mailer", Mailer)
