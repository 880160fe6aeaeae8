"""The worker that sends the mail of the outbox.

A mail is sent at least once: it leaves the outbox only after the transport took it. A worker that dies in between leaves a
lease behind; when that ends, the mail is sent again under the same Message-ID.

What follows a failure depends on whose fault it is. A mail that is refused for good is kept as failed. A mail that is
refused for now is tried again after growing pauses. When the transport itself fails, the mails keep their count of attempts
and the worker rests.
"""

import logging
from email.message import EmailMessage
from urllib.parse import quote

import orjson
from aiohttp import web

from referral import clock
from referral.auth.tokens import hash_token, new_token
from referral.background.queue import Backoff, QueueWorker, Rest, finish
from referral.config import Config
from referral.config.addresses import mailbox_of
from referral.config.public_url import parse_public_url
from referral.database import Connection, Database, DatabaseUnavailable, committed
from referral.mail import open_transport
from referral.mail.compose import compose
from referral.mail.transport import PermanentFailure, Send, TemporaryFailure, TransportFailure
from referral.metrics import Metrics
from referral.queries import locks, one_time_tokens, outbox, users
from referral.texts import without_addresses

log = logging.getLogger(__name__)

# Of each mail with a link: the page that the link leads to, what it is good for, and for how long (ms).
LINKS: dict[str, tuple[str, one_time_tokens.Purpose, int]] = {
    outbox.VERIFY_EMAIL: ("verify", one_time_tokens.VERIFY_EMAIL, 3 * clock.DAY),
    outbox.CHANGE_EMAIL: ("verify", one_time_tokens.CHANGE_EMAIL, 3 * clock.DAY),
    outbox.RESET_PASSWORD: ("reset", one_time_tokens.RESET_PASSWORD, clock.DAY // 24),
}

# No mail of a batch is begun later than this. Together with the longest time that a mail can take (smtp.LONGEST_SEND) this
# is less than the lease, so that no other worker claims a mail that is being sent.
BATCH_TIME = 60 * clock.SECOND
# When the transport fails, pauses double up to this: so soon after its return mail goes out.
LONGEST_REST = 300 * clock.SECOND
# Seconds that a worker which is stopped goes on with the mail in its hands: cut off after its last line, the mail would be
# sent twice. Container runtimes kill after ten.
STOP_GRACE = 5.0


# The pause (ms) before a mail is tried again whose account left the address while the mail was made.
MOVED_PAUSE = clock.SECOND


class _Moved(Exception):
    """The account that a link was for no longer has the address. Another one may have it."""


class Mailer(QueueWorker[outbox.Mail]):
    """Sends what is in the outbox."""

    name = "the outbox"
    batch_size = 20
    lease = 240 * clock.SECOND
    backoff = Backoff(10 * clock.SECOND, 3_600 * clock.SECOND, 2 * clock.DAY)

    def __init__(self, config: Config, database: Database, metrics: Metrics) -> None:
        super().__init__(database)
        self._sender = mailbox_of(config.mail.sender)
        public = parse_public_url(config.server.public_url)
        self._service = public.url()
        self._links = (config.mail.link_base or public.url("/account")).rstrip("/")
        self._metrics = metrics
        self._transport = open_transport(config.mail.url, public.host)
        self._outages = 0

    async def forget(self, user_id: str) -> None:
        """Delete the mails for this account that were written to files. Raises OSError."""
        await self._transport.forget(user_id)

    async def find_next_time(self, conn: Connection) -> int | None:
        return await outbox.find_next_mail_time(conn)

    async def claim(self, conn: Connection, now: int, lease_until: int) -> list[outbox.Mail]:
        claimed = await outbox.claim_mail(conn, now, lease_until, self.batch_size)
        # The oldest first: no database promises an order of what an update returns.
        return sorted(claimed, key=lambda mail: (mail.created_at, mail.id))

    async def process(self, batch: list[outbox.Mail]) -> None:
        """Send the batch. When the transport fails, the rest of the batch is put off and the worker rests."""
        end = clock.now() + BATCH_TIME
        async with self._transport.batch() as send:
            for position, mail in enumerate(batch):
                if clock.now() > end:
                    # The rest is due again, for any worker, when the lease ends.
                    break
                try:
                    await finish(self._send(mail, send), STOP_GRACE)
                except TransportFailure as failure:
                    await self._put_off_all(batch[position:], failure)
                    raise Rest(self.backoff.pause(self._outages, LONGEST_REST) / 1000) from failure

    async def _send(self, mail: outbox.Mail, send: Send) -> None:
        try:
            contact = await self._find_contact(mail)
            message = await self._compose(mail, contact) if contact else None
            if contact and message:
                await send(message, contact.user_id)
                async with self.database.reader() as conn:
                    is_erased = await users.find_contact(conn, contact.user_id) is None
                if is_erased:
                    # Meanwhile, together with the mails that were there then.
                    await self.forget(contact.user_id)
                self._outages = 0
                self._metrics.mail.labels(mail.kind, "sent").inc()
        except _Moved as moved:
            await self.put_off(mail, str(moved), MOVED_PAUSE, mail.attempts - 1)
        except (TransportFailure, DatabaseUnavailable):
            raise
        except PermanentFailure as error:
            await self.give_up(mail, str(error))
        except TemporaryFailure as error:
            await self.retry_or_give_up(mail, str(error))
        except Exception as error:
            # A mail that cannot even be composed must not hold up the others, nor be tried for ever.
            log.exception("mail %s (%s) cannot be sent", mail.id, mail.kind)
            await self.retry_or_give_up(mail, f"{type(error).__name__}: {error}")
        else:
            await committed(self.database, lambda conn: outbox.delete_mail(conn, mail.id))

    async def _put_off_all(self, mails: list[outbox.Mail], failure: TransportFailure) -> None:
        # After a failure midway the other side is there, and the mail itself may be to blame: the others must get past it.
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
                await self.retry_or_give_up(mail, str(failure))
            else:
                pause = self.backoff.pause(self._outages, LONGEST_REST)
                await self.put_off(mail, str(failure), pause, mail.attempts - 1)

    async def postpone(self, item: outbox.Mail, error: str, pause: int, attempts: int) -> None:
        error = without_addresses(error)
        log.warning("mail %s (%s) is tried again in %d s: %s", item.id, item.kind, pause // 1000, error)
        self._metrics.mail.labels(item.kind, "postponed").inc()
        due = clock.now() + pause
        await committed(self.database, lambda conn: outbox.postpone_mail(conn, item.id, due, attempts, error))

    async def give_up(self, item: outbox.Mail, error: str) -> None:
        error = without_addresses(error)
        log.error("mail %s (%s) is given up: %s", item.id, item.kind, error)
        self._metrics.mail.labels(item.kind, "failed").inc()
        await committed(self.database, lambda conn: outbox.fail_mail(conn, item.id, clock.now(), error))

    async def _compose(self, mail: outbox.Mail, contact: users.Contact) -> EmailMessage | None:
        """The message, or None when it must not be sent any more, or there is nothing to ask for."""
        if contact.suspended_at is not None:
            return None
        if mail.kind == outbox.VERIFY_EMAIL and contact.email_verified_at is not None:
            return None
        if mail.kind == outbox.RESET_PASSWORD and contact.external_id is not None and contact.email_verified_at is None:
            # Nobody but the product has ever said that this address is the user's: whoever reads it is not let in.
            return None
        # Where the account's address is about to change, or just has, the mail says to whom it goes.
        recipient = mail.recipient if mail.kind in (outbox.CHANGE_EMAIL, outbox.EMAIL_CHANGED) else contact.email
        if recipient is None:
            return None
        # Where nobody has proved the address, what a stranger calls themselves is not to be read there.
        username = contact.username if contact.email_verified_at is not None else None
        facts = {"username": username, "service": self._service, **orjson.loads(mail.params)}
        if mail.kind in LINKS:
            page, purpose, ttl = LINKS[mail.kind]
            token = await self._make_token(mail, contact.user_id, purpose, recipient, facts.get("generation"), ttl)
            if token is None:
                return None
            facts["link"] = f"{self._links}/{page}?token={quote(token)}"
            facts["disown_link"] = f"{self._links}/disown?token={quote(token)}"
        return compose(mail, self._sender, recipient, facts)

    async def _find_contact(self, mail: outbox.Mail) -> users.Contact | None:
        async with self.database.reader() as conn:
            if mail.user_id:
                return await users.find_contact(conn, mail.user_id)
            return await users.find_contact_by_email(conn, mail.recipient)

    async def _make_token(
        self,
        mail: outbox.Mail,
        user_id: str,
        purpose: one_time_tokens.Purpose,
        email: str,
        generation: int | None,
        ttl: int,
    ) -> str | None:
        """The token of a link; None when the mail was taken out of the outbox meanwhile, so that no link may go out."""
        # It is made when the mail is sent, not when it is queued: no token that works lies in the outbox.
        token, now = new_token(), clock.now()

        async def keep(conn: Connection) -> str | None:
            if not await outbox.hold_mail(conn, mail.id):
                return None
            await locks.hold_address(conn, user_id)
            contact = await users.find_contact(conn, user_id)
            if contact is None or (mail.kind != outbox.CHANGE_EMAIL and contact.email != email):
                raise _Moved("the account has just left the address")
            await one_time_tokens.insert_one_time_token(
                conn, hash_token(token), user_id, purpose, email, generation, now, now + ttl
            )
            return token

        return await committed(self.database, keep)


MAILER = web.AppKey("mailer", Mailer)
