"""The HTTP server of one process: how long a connection may take its time, how many there may be, and how it ends."""

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any, cast

from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, InvalidURLError
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL, PublicURL
from referral.contract.problems import Problem
from referral.ids import REQUEST_ID, new_id
from referral.log import LOG_REQUEST, LogRequest, flush_log
from referral.web.answers import PIECE
from referral.web.drain import LEAVING, Drain, empty_queue, has_arrived
from referral.web.headers import setting_headers
from referral.web.prefix import stripped_requests, stripping

# Seconds in which a request's head must arrive, from its first byte on; `bodies.py` has the time of a body.
HEAD_TIMEOUT = 20.0
# Seconds in which a client whose request is refused half-way can read the answer before the connection is closed.
LINGER_TIME = 1.0
# Connections that may wait to be accepted. The system's own bound may be lower (net.core.somaxconn).
BACKLOG = 1024
# Seconds in which a drain lets requests be answered, then for the rest to be broken off, and of these, in which they may
# still be answered. With the mail in the mailer's hands the stop takes less than half a minute, whatever clients do.
SHUTDOWN_TIMEOUT = 20.0
BREAK_OFF_TIMEOUT = 2.0
LAST_CHANCE = 0.1
# Bytes of answers that the system takes from a connection before it has sent the former ones. By itself it would take some
# megabytes. What is on its way does not count, so that a fast client notices nothing.
UNSENT = 131_072
# Seconds that a client may leave an answer unread, nothing of it taken, and between two looks at what waits to be read.
UNREAD_TIMEOUT = 30.0
LOOK_PAUSE = 5.0


class Connection(RequestHandler):
    """aiohttp's connection, with differences: a head that stalls half-way is cut, where aiohttp would wait as long as for
    an idle connection; one on which nothing was ever sent is idle, too; an answer that nobody reads is given up; what the
    parser refuses is answered by a problem; after an answer that ends the connection, nothing more is parsed, where aiohttp
    would go on for ten seconds; and a drain ends it after an answer, or when it is quiet."""

    __slots__ = (
        "_drain",
        "_first_timer",
        "_gone",
        "_head_timer",
        "_log_request",
        "_public_url",
        "_set_headers",
        "_unread",
        "_unread_since",
        "_wire",
    )

    def __init__(self, server: "Server", *arguments: Any, **options: Any) -> None:
        super().__init__(server, *arguments, **options)
        self._set_headers = server.set_headers
        self._log_request = server.log_request
        self._public_url = server.public_url
        self._drain = server.drain
        self._head_timer: asyncio.TimerHandle | None = None
        # Exists once nothing more is parsed, and is set when the client has gone.
        self._gone: asyncio.Event | None = None
        self._first_timer: asyncio.TimerHandle | None = None
        # aiohttp forgets the transport when it closes it, which is not before everything has been read.
        self._wire: asyncio.Transport | None = None
        self._unread = 0
        self._unread_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = self.transport
        assert self._wire is not None
        # A client that reads slowly holds no more of an answer than this, and the system no more that it has yet to send.
        self._wire.set_write_buffer_limits(PIECE)
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._first_timer = self._loop.call_later(self._keepalive_timeout, self.force_close)

    def data_received(self, data: bytes) -> None:
        if self._first_timer is not None:
            self._first_timer.cancel()
            self._first_timer = None
        if self._gone is not None:
            return
        super().data_received(data)
        self._give_up_parsing_if_refused()
        # If the handler still waits for a request although data has come, that was part of a head.
        if self._waiter is not None and not self._waiter.done():
            if self._head_timer is None:
                self._head_timer = self._loop.call_later(HEAD_TIMEOUT, self.force_close)
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_parsing_if_refused(self) -> None:
        """Whatever follows what the parser refused is thrown away. Parsed, each part would be refused again.

        The refusal quotes what was sent, some times over, and hangs in a circle with its traceback until the next collection
        of garbage, which comes seldom. Nothing is left of it but its reason.
        """
        if self._gone is not None or not self._messages or not isinstance(self._messages[-1][0], _ErrInfo):
            return
        self._gone = asyncio.Event()
        refusal, payload = self._messages.pop()
        assert isinstance(refusal, _ErrInfo)
        reason = refusal.message
        if isinstance(refusal.exc, InvalidURLError):
            reason = "Invalid address"
        # Further lines repeat what was sent.
        reason = reason.strip().partition("\n")[0].partition(":")[0].rstrip(".")
        refusal.exc.__traceback__ = refusal.exc.__context__ = refusal.exc.__cause__ = None
        self._messages.append((_ErrInfo(400, BadHttpMessage(reason), reason), payload))
        if self._current_request is not None and not self._current_request.content.is_eof():
            # Its handler would wait for the rest of the body.
            self._current_request.content.set_exception(web.RequestPayloadError(reason))

    def connection_lost(self, error: BaseException | None) -> None:
        super().connection_lost(error)
        if self._gone is not None:
            self._gone.set()
        for timer in (self._head_timer, self._first_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._first_timer = self._wire = None

    def give_up_unread(self, now: float) -> None:
        """Cut the connection if its client has read nothing for UNREAD_TIMEOUT seconds of what waits for it; `now` is the
        loop's time. To close it would not do: closing waits until everything has been read."""
        unread = _unread_bytes(self._wire)
        if unread == 0 or unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since >= UNREAD_TIMEOUT and self._wire is not None:
            self._wire.abort()

    def close_if_quiet(self, now: float, seconds: float) -> None:
        """Close the connection if for so long no request has come on it, nor the beginning of one; `now` is the loop's
        time."""
        is_waiting = self._waiter is not None and not self._waiter.done() and self._head_timer is None
        # aiohttp's deadline counts from the latest answer or, before the first, from the connection's beginning.
        idle_since = self._next_keepalive_close_time - self._keepalive_timeout
        if is_waiting and now - idle_since >= seconds and self._wire is not None and not has_arrived(self._wire):
            self.force_close()

    async def shutdown(self, timeout: float | None = LAST_CHANCE) -> None:
        """Let the request in hand be answered and the answer be read for so many seconds, then break both off."""
        with suppress(TimeoutError):
            async with asyncio.timeout((timeout or 0) + BREAK_OFF_TIMEOUT):
                await super().shutdown(timeout)
                while _unread_bytes(self._wire):  # noqa: ASYNC110 - nobody tells when a transport has written everything
                    await asyncio.sleep(0.05)
        if self._wire is not None:
            self._wire.abort()

    async def finish_response(
        self, request: web.BaseRequest, response: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer. If it is one that ends the connection while the request's body still comes, the rest is thrown
        away unparsed, for LINGER_TIME at most: it may have no end.

        The rest must not lie unread when the socket closes: the client's system would throw the answer away then (RFC 9112
        section 9.6).
        """
        if self._drain.is_ending and not response.prepared:
            response.headers["Connection"] = "close"
            response.force_close()
        if request.content.is_eof():
            finished = await super().finish_response(request, response, start_time)
            # What followed a request to upgrade is parsed here.
            self._give_up_parsing_if_refused()
            return finished
        if request.content_length is None and not response.prepared:
            # Chunks of a byte each cost a hundred times what they bring, and nobody knows when they end.
            response.headers["Connection"] = "close"
            response.force_close()
        if response.headers.get("Connection") != "close":
            return await super().finish_response(request, response, start_time)
        self._lingering_time = 0.0
        self._gone = asyncio.Event()
        finished = await super().finish_response(request, response, start_time)
        if self.transport is not None:
            self.transport.write_eof()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_TIME):
                    await self._gone.wait()
        return finished

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what aiohttp's parser refuses, before any middleware, with a problem, and end the connection: nobody knows
        where the next request would begin."""
        request_id = new_id()
        if isinstance(exc, HttpProcessingError):
            problem = Problem("bad-request", f"The request does not follow HTTP: {exc.message}.")
            if self._log_request:
                self._log_request((time.perf_counter(), "(other)", "(none)", 400, 0.0, request_id, None, None, None))
        else:
            # This logs the unforeseen error, and raises it if the answer has begun.
            super().handle_error(request, status, exc, message)
            problem = Problem("internal-error", "The service failed; the fault was logged.")
        request[REQUEST_ID] = request_id
        response = problem.response(request, request_id, self._public_url)
        # No application handles this request, so that none of its signals sets headers.
        self._set_headers(request, response)
        response.force_close()
        return response

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Logs what went wrong, but not that the rest of a malformed body, read to be thrown away, is malformed, too, nor
        that a client hung up before it was told to go on with `Expect`."""
        if not isinstance(options.get("exc_info"), (web.RequestPayloadError, ClientConnectionResetError)):
            super().log_exception(*arguments, **options)


def _unread_bytes(transport: asyncio.Transport | None) -> int:
    """How much of what was written has not reached the client; 0 if all of it is in the system's hands."""
    if transport is None or not transport.get_write_buffer_size():
        return 0
    # The system's own buffer drains long before there is room in it for more of this one.
    queued = bytearray(4)
    with suppress(OSError, ValueError):
        ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


class Server(web.Server):
    """Makes a Connection for everybody who connects."""

    set_headers: Callable[[web.BaseRequest, web.StreamResponse], None]
    log_request: LogRequest | None
    public_url: PublicURL
    drain: Drain

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An application with the connections of this module, which ends them by a drain."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        """With aiohttp's options."""
        super().__init__(
            app,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=app[CONFIG].server.keepalive,
            shutdown_timeout=LAST_CHANCE,
            **options,
        )
        self._drain = Drain(self._connections)
        self._looking: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        await super().setup()
        self._looking = asyncio.create_task(self._give_up_unread())
        # Objects that exist by now live on. Collecting garbage among them again and again took 2.4 % of the time, in pauses.
        gc.collect()
        gc.freeze()

    async def cleanup(self) -> None:
        if self.server is not None:
            await self.drain()
        await super().cleanup()
        if self._looking is not None:
            self._looking.cancel()

    async def drain(self) -> None:
        """End all connections and close the sockets, as far as SHUTDOWN_TIMEOUT allows it."""
        await self._drain.run(self.shutdown, self._close_sockets, SHUTDOWN_TIMEOUT)

    async def _close_sockets(self) -> None:
        # Others accept what is in the queue where only this process goes.
        if self.app[LEAVING].has_begun:
            # Neither aiohttp nor asyncio has them in its types.
            listeners = [listener for site in self.sites for listener in cast(Any, site)._server.sockets]
            await asyncio.gather(*(empty_queue(listener.fileno()) for listener in listeners))
        for site in self.sites:
            await site.stop()

    def _connections(self) -> list[Connection]:
        # All are made by this module's Server.
        return cast(list[Connection], self.server.connections if self.server else [])

    async def _give_up_unread(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_PAUSE)
            for connection in self._connections():
                connection.give_up_unread(loop.time())

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # aiohttp has no parameter for another class.
        server.__class__ = Server
        assert isinstance(server, Server)
        public = server.public_url = self.app[PUBLIC_URL]
        if public.prefix:
            routes = [resource.canonical for resource in self.app.router.resources()]
            server.request_factory = stripped_requests(server.request_factory, stripping(public, routes))
        server.set_headers = setting_headers(self.app[CONFIG].server.public_url)
        server.log_request = self.app[LOG_REQUEST]
        server.drain = self._drain
        return server


async def serve_until_stopped(app: web.Application, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serve on the listening socket until SIGINT or SIGTERM, then drain. `announce` is called once the service listens."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    leaving_time = 0

    def break_off() -> None:
        flush_log()
        os._exit(130)

    def stop(seconds: int) -> None:
        nonlocal leaving_time
        # make passes its SIGTERM on, so that there may be two: the second must not break off what the first began. A second
        # Ctrl+C is meant to do so; nothing that was acknowledged is lost by it.
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        loop.add_signal_handler(signal.SIGINT, break_off)
        app[LEAVING].begin()
        leaving_time = seconds
        stopped.set()

    loop.add_signal_handler(signal.SIGTERM, stop, app[CONFIG].server.drain)
    loop.add_signal_handler(signal.SIGINT, stop, 0)
    runner = Runner(app)
    try:
        await runner.setup()
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        announce()
        await stopped.wait()
        await asyncio.sleep(leaving_time)
    finally:
        await runner.cleanup()
