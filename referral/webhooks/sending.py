"""One call of a webhook: what is sent, how long it may take, and what its answer means."""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from time import monotonic
from types import SimpleNamespace

from aiohttp import (
    AddrInfoType,
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
    TraceConnectionReuseconnParams,
)
from yarl import URL

from referral import __version__, clock
from referral.webhooks.guard import REMEDY, Guard, url_error

# How much of a body is read, so that its connection can be kept; and how long, if the head has said that all is well.
LONGEST_BODY = 65_536
CHUNK = 16_384
LONGEST_READ = 1.0

LONGEST_ERROR = 500
LONGEST_RETRY_AFTER = clock.DAY


@dataclass(frozen=True, slots=True)
class Sent:
    """How a call went. `status` is None when no head of an answer came. `error` is None after a success; after another
    answer, it is the beginning of its body, which may be empty; without one, it is a sentence. `retry_after` is in ms."""

    status: int | None
    error: str | None
    milliseconds: int
    retry_after: int | None

    @property
    def is_success(self) -> bool:
        return _is_success(self.status)

    @property
    def is_gone(self) -> bool:
        return self.status == 410


class Refused(OSError):
    """The guard refuses the address. An OSError, so that the other addresses of the name are tried."""


@dataclass(slots=True)
class _Call:
    """What becomes known of a call while it lasts."""

    status: int | None = None
    retry_after: int | None = None
    body: bytearray = field(default_factory=bytearray)
    on_kept_connection: bool = False
    refusals: list[str] = field(default_factory=list)


# The call that the current task makes: aiohttp does not tell a socket factory whom the socket is for, and of the errors of
# several addresses it keeps only the last.
_current: ContextVar[_Call] = ContextVar("current_call")


class Sender:
    """An HTTP client for receivers whom nobody vouches for. It follows no redirects and knows no proxies, cookies or
    compression. Make it in the event loop, and call `close` in the end."""

    def __init__(self, guard: Guard, timeout_seconds: float) -> None:
        self._guard = guard
        self._timeout = timeout_seconds
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        # The connections are kept apart, because only https: may go to everybody.
        self._sessions = {scheme: self._open_session(scheme) for scheme in ("https", "http")}

    async def close(self) -> None:
        """Close every connection. The guard stays open."""
        for session in self._sessions.values():
            await session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """POST the body, in `timeout_seconds` at most. Never raises because of the receiver.

        The head of the answer decides: a 2xx is a success, whatever becomes of its body. The body may arrive twice.
        """
        started = monotonic()
        call = _Call()
        error = url_error(url)
        if error is None:
            token = _current.set(call)
            try:
                async with asyncio.timeout(self._timeout):
                    await self._exchange(call, URL(url), headers, body)
            except TimeoutError:
                error = f"no answer came within {self._timeout:g} seconds"
            except (ClientError, OSError) as failure:
                error = _sentence(failure)
            finally:
                _current.reset(token)
        if call.status is not None:
            # It stands, however the body ended.
            error = None if _is_success(call.status) else call.body.decode(errors="replace")
        elif error is not None:
            error = "; ".join((error, *(refusal for refusal in call.refusals if refusal not in error)))
        milliseconds = int((monotonic() - started) * 1000)
        return Sent(call.status, None if error is None else _clean(error), milliseconds, call.retry_after)

    async def _exchange(self, call: _Call, url: URL, headers: Mapping[str, str], body: bytes) -> None:
        try:
            await self._send(self._sessions[url.scheme], call, url, headers, body)
        except ClientConnectionError as failure:
            if not (call.on_kept_connection and call.status is None and _is_unanswered(failure)):
                raise
            # The receiver may have closed the connection just when this was sent, as anybody may at any time (RFC 9112,
            # 9.3.1). aiohttp tries again by itself only what is idempotent; a webhook is, as receivers know it by its id.
            async with self._open_session(url.scheme) as fresh:
                await self._send(fresh, call, url, headers, body)

    async def _send(self, session: ClientSession, call: _Call, url: URL, headers: Mapping[str, str], body: bytes) -> None:
        async with session.post(url, headers=headers, data=body, allow_redirects=False, trace_request_ctx=call) as response:
            call.status = response.status
            call.retry_after = _retry_after(response.headers.get("Retry-After"))
            try:
                async with asyncio.timeout(LONGEST_READ if _is_success(call.status) else None):
                    await _read_beginning(response, call.body)
            finally:
                if not response.content.at_eof():
                    _hang_up(response)

    def _open_session(self, scheme: str) -> ClientSession:
        async def note(session: ClientSession, context: SimpleNamespace, _: TraceConnectionReuseconnParams) -> None:
            context.trace_request_ctx.on_kept_connection = True

        trace = TraceConfig()
        trace.on_connection_reuseconn.append(note)
        connector = TCPConnector(
            resolver=self._guard.resolver,
            ssl=self._tls,
            # Whoever calls bounds the number of calls. A queue here would take time from them.
            limit=0,
            socket_factory=partial(self._open_socket, plain=scheme == "http"),
        )
        return ClientSession(
            connector=connector,
            # `post` bounds the time of the whole call.
            timeout=ClientTimeout(total=None, sock_connect=None),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=CHUNK,
            headers={"Accept-Encoding": "identity", "User-Agent": f"referral/{__version__}"},
            trace_configs=[trace],
        )

    def _open_socket(self, address: AddrInfoType, *, plain: bool) -> socket.socket:
        """A socket for an address that is just about to be connected to: no later look-up can bring another one."""
        refusal = self._guard.refusal(str(address[4][0]), plain=plain)
        if refusal is not None:
            text = f"{refusal}: {REMEDY}"
            refusals = _current.get().refusals
            if text not in refusals:
                refusals.append(text)
            raise Refused(text)
        return socket.socket(*address[:3])


async def _read_beginning(response: ClientResponse, into: bytearray) -> None:
    while len(into) < LONGEST_BODY and (chunk := await response.content.read(LONGEST_BODY - len(into))):
        into += chunk


def _hang_up(response: ClientResponse) -> None:
    """Drop the connection. To close it in the way of TLS would be to read on until the receiver agrees."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300


def _is_unanswered(failure: ClientConnectionError) -> bool:
    """Whether the connection broke before an answer began: aiohttp gives a head that had begun as the message. A reset
    leaves it open, and counts as before."""
    return not isinstance(failure, ServerDisconnectedError) or isinstance(failure.message, str)


def _retry_after(value: str | None) -> int | None:
    """The ms of a Retry-After (RFC 9110, 10.2.3), in seconds or as a date; None for anything else."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]+", value):
        # A float takes any number of digits.
        pause = float(value) * 1000
    else:
        try:
            date = parsedate_to_datetime(value)
            # The obsolete form of asctime names no zone; it means UTC.
            pause = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000 - clock.now()
        except (ValueError, OverflowError):
            return None
    return int(min(max(pause, 0), LONGEST_RETRY_AFTER))


def _clean(text: str) -> str:
    """The beginning of a text of a stranger's, such as every database and terminal takes."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[:LONGEST_ERROR])


def _sentence(failure: ClientError | OSError) -> str:
    """What went wrong, for whoever looks after the receiver. Some of aiohttp's own texts hold the URL, and with it its
    query."""
    match failure:
        case ClientConnectorDNSError():
            return f"{failure.host} does not resolve: {failure.os_error.strerror or failure.os_error}"
        case ClientConnectorCertificateError():
            reason = getattr(failure.certificate_error, "verify_message", "") or "it is not valid"
            return f"the certificate of {failure.host} is refused: {reason}"
        case ClientConnectorSSLError():
            return f"TLS with {failure.host} fails: {getattr(failure.os_error, 'reason', None) or 'no reason is known'}"
        case ClientConnectorError():
            return f"no connection to {failure.host}: {_reason(failure.os_error)}"
        case ClientResponseError():
            return f"the answer is not understood: {failure.message}"
        case ClientConnectionError():
            return "the connection broke before an answer came"
        case _:
            return type(failure).__name__


def _reason(error: OSError) -> str:
    """The system's words, which asyncio replaces by its own; or those of the guard, and of several addresses."""
    return os.strerror(error.errno) if error.errno else error.strerror or str(error) or "it was closed"
