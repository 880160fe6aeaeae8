"""What hands mail over: the one interface of the transports, its failures, and the folder of `.eml` files."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol


class PermanentFailure(Exception):
    """The transport will never take this message."""


class TemporaryFailure(Exception):
    """The transport may take this message later; others it may take now."""


class TransportFailure(Exception):
    """The transport takes no message now, which is not the message's fault.

    `midway`: the failure came while the message was handed over, so that the message might be the cause after all.
    `misconfigured`: the other side refuses us as we are set up, and somebody has to change that.
    """

    def __init__(self, reason: str, *, midway: bool = False, misconfigured: bool = False) -> None:
        super().__init__(reason)
        self.midway = midway
        self.misconfigured = misconfigured


# Hands a message over that is for the account of this id.
Send = Callable[[EmailMessage, str], Awaitable[None]]


class Transport(Protocol):
    def batch(self) -> AbstractAsyncContextManager[Send]:
        """A function that hands over one message after the other, durably.

        It raises PermanentFailure, TemporaryFailure or TransportFailure. What the messages share, such as a connection, is
        opened for the first one and closed with the block.
        """
        ...

    async def forget(self, user_id: str) -> None:
        """Delete what is kept here of mail for this account. Raises OSError."""
        ...


class FileTransport:
    """`file:FOLDER`: one `.eml` file a message, readable by any mail program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Send]:
        yield self._send

    async def _send(self, message: EmailMessage, user_id: str) -> None:
        # Named for the account, too: its end takes the files along, whatever addresses it has had.
        name = f"{message['Message-ID'].strip('<>').partition('@')[0]}.{user_id}"
        content = message.as_bytes(policy=policy.SMTPUTF8 if is_international(message) else policy.default)
        try:
            await asyncio.to_thread(self._write, f"{name}.eml", content)
        except OSError as error:
            raise TemporaryFailure(str(error)) from error

    async def forget(self, user_id: str) -> None:
        await asyncio.to_thread(self._delete_all_of, user_id)

    def _delete_all_of(self, user_id: str) -> None:
        for file in self._folder.glob(f"*.{user_id}.eml"):
            # Another worker may have just deleted it.
            file.unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Mailed links are secrets of the addressee: nobody else on the machine may read them.
        aside = self._folder / f".{name}"
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(self._folder / name)


def is_international(message: EmailMessage) -> bool:
    """Whether an address of the message can only be written in UTF-8 (RFC 6532)."""
    addresses = [address.addr_spec for header in ("From", "To") for address in message[header].addresses]
    return not "".join(addresses).isascii()
