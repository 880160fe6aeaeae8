"""Mail over SMTP: the transport that hands messages to a mail server."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email import policy
from email.message import EmailMessage
from typing import cast

import aiosmtplib

from referral.config.addresses import SMTPAddress
from referral.mail.transport import PermanentFailure, Send, TemporaryFailure, TransportFailure, is_international
from referral.texts import without_addresses

# In seconds. RFC 5321 section 4.5.3.2 would wait minutes at each step. A server that hangs must not hold the queue up that
# long, and a mail that is given up too early is only sent again. The wait after the last line is the longest: a server may
# look for viruses then, and giving up there makes a mail arrive twice.
CONNECT_TIMEOUT = 10.0  # the connection, TLS, the greeting and the login together
ENVELOPE_TIMEOUT = 10.0
DATA_TIMEOUT = 60.0
QUIT_TIMEOUT = 2.0
# The longest that one message can take: a connection turns out to be dead, another one is made, the message, the goodbye.
LONGEST_SEND = 2 * ENVELOPE_TIMEOUT + CONNECT_TIMEOUT + DATA_TIMEOUT + QUIT_TIMEOUT

# Refusals of a recipient or a message that are our fault: commands out of order and, by RFC 4954 section 6, the login.
OUR_FAULT = (503, 530, 534, 535, 538)
SHUTTING_DOWN = 421
# Many servers judge the client, its greeting and the sender only when they hear of a recipient. These are the enhanced codes
# (RFC 3463) of the protocol and of the sender's mailbox, and the words of such refusals. 5.5.0 says nothing: some servers
# answer it for a mailbox that does not exist.
STATUS = re.compile(r"5\.\d+\.\d+\b")
OUR_STATUS = re.compile(r"5\.(5\.[1-9]\d*|1\.[78])\b")
OUR_WORDS = re.compile(r"\b(helo|ehlo|relay|relaying|client host|sender address|sender verif\w+)\b", re.IGNORECASE)
NO_SUCH_COMMAND = (500, 502, 504)

# Bytes beyond ASCII become base64: any server takes that, and no server on the way has to convert it, which would break a
# signature (RFC 6376 section 5.3).
ASCII = policy.SMTP.clone(cte_type="7bit")


class SMTPTransport:
    """Hands messages to one server, over one connection a batch. It greets the server by `name`, unless the address has
    another one: the name of this machine is often a container's, which many servers refuse."""

    def __init__(self, server: SMTPAddress, name: str) -> None:
        self._server = server
        self._name = server.ehlo or name
        self._tls_context = server.tls_context()

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Send]:
        smtp = aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            local_hostname=self._name,
            username=self._server.username,
            password=self._server.password,
            use_tls=self._server.tls == "implicit",
            start_tls=self._server.tls == "starttls",
            tls_context=self._tls_context,
            # Our own time limits span several commands.
            timeout=None,
        )

        async def send(message: EmailMessage, user_id: str) -> None:
            if not await _is_ready(smtp):
                await _connect(smtp)
            await _hand_over(smtp, message)

        try:
            yield send
        finally:
            await _quit(smtp)

    async def forget(self, user_id: str) -> None:
        """Nothing: what was handed over is the server's."""


async def _connect(smtp: aiosmtplib.SMTP) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await smtp.ehlo()
    except aiosmtplib.SMTPResponseException as error:
        raise TransportFailure(_reply(error), misconfigured=error.code >= 500) from error
    except TimeoutError as error:
        raise TransportFailure(f"the mail server was not ready within {CONNECT_TIMEOUT:g} s") from error
    except (OSError, aiosmtplib.SMTPException) as error:
        # An error that is neither an answer nor a lost connection: the server lacks STARTTLS, or the login.
        ours = not isinstance(error, OSError) or any(isinstance(e, ssl.SSLError) for e in (error, error.__cause__))
        raise TransportFailure(_printable(str(error)), misconfigured=ours) from error


async def _is_ready(smtp: aiosmtplib.SMTP) -> bool:
    """Whether the connection takes another message. Some servers end it after a number of messages, or when idle."""
    if not smtp.is_connected:
        return False
    try:
        async with asyncio.timeout(ENVELOPE_TIMEOUT):
            await smtp.rset()
    except (OSError, aiosmtplib.SMTPException):
        _abort(smtp)
        return False
    return True


async def _hand_over(smtp: aiosmtplib.SMTP, message: EmailMessage) -> None:
    international = is_international(message)
    if international and not (smtp.supports_extension("smtputf8") and smtp.supports_extension("8bitmime")):
        raise PermanentFailure("the mail server does not take international addresses (SMTPUTF8)")
    encoding, options = ("utf-8", ["SMTPUTF8", "BODY=8BITMIME"]) if international else ("ascii", [])
    content = message.as_bytes(policy=policy.SMTPUTF8 if international else ASCII)
    sender, recipient = (message[name].addresses[0].addr_spec for name in ("From", "To"))
    try:
        async with asyncio.timeout(ENVELOPE_TIMEOUT):
            await smtp.mail(sender, options=options, encoding=encoding)
            await smtp.rcpt(recipient, encoding=encoding)
        async with asyncio.timeout(DATA_TIMEOUT):
            await smtp.data(content)
    except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as error:
        raise _refusal(error) from error
    except aiosmtplib.SMTPResponseException as error:
        # The sender was refused, or the answer is not SMTP: the next message would fare no better.
        raise TransportFailure(_reply(error), misconfigured=error.code >= 500) from error
    except TimeoutError as error:
        _abort(smtp)
        raise TransportFailure("the mail server did not answer in time", midway=True) from error
    except OSError as error:
        raise TransportFailure(_printable(str(error)), midway=True) from error


def _refusal(error: aiosmtplib.SMTPResponseException) -> Exception:
    if error.code in OUR_FAULT:
        return TransportFailure(_reply(error), misconfigured=True)
    if 500 <= error.code < 600:
        if _is_about_us(error):
            # It may be wrong all the same: this message must not hold up others.
            return TransportFailure(_reply(error), midway=True, misconfigured=True)
        return PermanentFailure(_reply(error))
    if 400 <= error.code < 500 and error.code != SHUTTING_DOWN:
        return TemporaryFailure(_reply(error))
    return TransportFailure(_reply(error))


def _is_about_us(error: aiosmtplib.SMTPResponseException) -> bool:
    """Whether the server refuses not this recipient or message but whoever sends it."""
    text = error.message
    if OUR_STATUS.match(text) or (error.code in NO_SUCH_COMMAND and not STATUS.match(text)):
        return True
    # Without addresses, whose names may be such words.
    return OUR_WORDS.search(re.sub(r"\S+@\S+", "", text)) is not None


async def _quit(smtp: aiosmtplib.SMTP) -> None:
    with suppress(OSError, aiosmtplib.SMTPException):
        if smtp.is_connected:
            async with asyncio.timeout(QUIT_TIMEOUT):
                await smtp.quit()
    _abort(smtp)


def _abort(smtp: aiosmtplib.SMTP) -> None:
    # Closing a TLS connection waits for the other side, which may be the one that hangs.
    # Cast, not checked: uvloop's transports are no subclasses of asyncio's.
    transport = cast("asyncio.WriteTransport | None", smtp.transport)
    smtp.close()
    if transport is not None:
        transport.abort()


def _reply(error: aiosmtplib.SMTPResponseException) -> str:
    return f"the mail server answered {error.code} {_printable(error.message)}".rstrip()


def _printable(text: str) -> str:
    # A server may answer anything; this goes to the log, to the database and to a terminal. Half an address would not look
    # like one: addresses go before the text is cut.
    printable = "".join(character if character.isprintable() else " " for character in text[:4_000])
    return " ".join(without_addresses(printable)[:300].split())
