"""The drain: a graceful stop that loses no request, whatever proxies and clients keep open.

A process goes through these states, in this order and never back:

1. *Serving.*
2. *Leaving*, from SIGTERM on, for `server.drain` seconds: `/health/ready` answers 503, so that proxies that check it send
   nothing more; everything is served as before. It is the whole service that leaves: one worker does so by itself, of
   several the master tells all of them. A worker that is only replaced (SIGHUP) does not leave, nor does whoever stops the
   service by Ctrl+C wait for proxies.
3. *Ending connections*, for QUIET seconds: every answer is its connection's last (`Connection: close`), those who wait for
   changes are answered, and connections on which nothing comes are closed. To close all that are idle at once would lose
   the requests that are on their way; a client whose answer said that it is the last sends none.
4. *Closing the sockets*: no handshake begins any more, those that have begun are finished, and their connections accepted,
   before the socket closes. The system resets whatever waits in the queue of a socket that is closed, request and all. A
   worker that is replaced just leaves the queue to the others, whose socket it is, too.
5. *Finishing*: what was accepted is answered, as in 3, until no connection is left, but not for longer than
   SHUTDOWN_TIMEOUT (`server.py`) since 3 began.
6. *Breaking off* the rest, which is aiohttp's part (`server.Connection.shutdown`), and the end of the application.
"""

import asyncio
import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

from aiohttp import web

# Seconds without a request after which a connection counts as one on which none is about to come. No round number, in which
# clients that ask at intervals ask again.
QUIET = 1.5
# Seconds in which handshakes that have begun are finished: more than a packet's way there and back.
HANDSHAKE = 0.2
# Seconds that the queue of a socket may take to become empty. Who is refused a handshake asks again after one.
EMPTYING = 0.6
# Seconds between two looks at the connections.
STEP = 0.05

# As Linux numbers it (asm-generic/socket.h); Python has no name for it.
SO_ATTACH_FILTER = 26
# A program of classic BPF, which sees a segment from its TCP header on: drop those that have SYN and no ACK in their flags.
NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # of which SYN and ACK
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # nothing of it is kept
    (0x06, 0, 0, 0xFFFFFFFF),  # all of it is
)


class Leaving:
    """Whether the service is about to stop, known to all processes that are forked after this is made."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def begin(self) -> None:
        """Let `/health/ready` say 503 from now on; may be called by a handler of signals."""
        self._memory[0] = 1

    @property
    def has_begun(self) -> bool:
        return self._memory[0] == 1


LEAVING = web.AppKey("leaving", Leaving)


class Drained(Protocol):
    """A connection that can be told from outside that nothing comes on it."""

    def close_if_quiet(self, now: float, seconds: float) -> None: ...


class Drain:
    """The states from the third to the fifth, of one process."""

    def __init__(self, connections: Callable[[], Iterable[Drained]]) -> None:
        self._connections = connections
        # Every answer is its connection's last.
        self.is_ending = False

    async def run(
        self, end_waiting: Callable[[], Awaitable[None]], close_sockets: Callable[[], Awaitable[None]], timeout: float
    ) -> None:
        """Go through the states; after so many seconds connections may be left. `end_waiting` answers whoever waits for
        something that may not come; `close_sockets` is the fourth state."""
        end = asyncio.get_running_loop().time() + timeout
        self.is_ending = True
        await end_waiting()
        await self._end_connections(min(QUIET, timeout))
        await close_sockets()
        await self._end_connections(end - asyncio.get_running_loop().time())

    async def _end_connections(self, seconds: float) -> None:
        """Close what is quiet, until nothing is left or the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (now := loop.time()) < end:
            left = list(self._connections())
            if not left:
                return
            for connection in left:
                connection.close_if_quiet(now, QUIET)
            await asyncio.sleep(STEP)


async def empty_queue(descriptor: int) -> None:
    """Let no handshake begin at the listening socket of this descriptor, and return when its event loop has accepted all
    that began before: nothing is lost if it is closed then.

    Whoever connects meanwhile is not refused but not answered, asks again a second later, and is then refused by a closed
    port, or served by whoever has it: either way they have sent nothing yet.
    """
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        # Where the system has no such filters, what arrives between the last look and the closing is reset.
        with suppress(OSError):
            _refuse_handshakes(listener)
        await asyncio.sleep(HANDSHAKE)
        queue = select.poll()
        queue.register(listener, select.POLLIN)
        end = asyncio.get_running_loop().time() + EMPTYING
        while queue.poll(0) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - accepting tells nobody
            await asyncio.sleep(0)


def _refuse_handshakes(listener: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in NO_SYN))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(NO_SYN), ctypes.addressof(program)))


def has_arrived(transport: asyncio.Transport) -> bool:
    """Whether something lies in the system's hands that the event loop has not read yet."""
    waiting = bytearray(4)
    with suppress(OSError, ValueError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, waiting)
    return any(waiting)
