"""What hands mail over: the one interface of the transports, its failures, and the folder of `.eml` files."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import BinaryIO, Protocol


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


Send = Callable[[EmailMessage], Awaitable[None]]


class Transport(Protocol):
    def batch(self) -> AbstractAsyncContextManager[Send]:
        """A function that hands over one message after the other, durably.

        It raises PermanentFailure, TemporaryFailure or TransportFailure. What the messages share, such as a connection, is
        opened for the first one and closed with the block.
        """
        ...

    async def forget(self, address: str) -> None:
        """Delete what is kept here of mail to this address. Raises OSError."""
        ...


class FileTransport:
    """`file:FOLDER`: one `.eml` file a message, readable by any mail program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Send]:
        yield self._send

    async def _send(self, message: EmailMessage) -> None:
        name = message["Message-ID"].strip("<>").partition("@")[0]
        content = message.as_bytes(policy=policy.SMTPUTF8 if is_international(message) else policy.default)
        try:
            await asyncio.to_thread(self._write, f"{name}.eml", content)
        except OSError as error:
            raise TemporaryFailure(str(error)) from error

    async def forget(self, address: str) -> None:
        await asyncio.to_thread(self._delete_all_to, address)

    def _delete_all_to(self, address: str) -> None:
        for file in self._folder.glob("*.eml"):
            # Whatever else lies in the folder, and what another worker has just deleted, is none of ours.
            with suppress(FileNotFoundError, IsADirectoryError), file.open("rb") as stream:
                if _recipient_of(stream) == address:
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


def _recipient_of(stream: BinaryIO) -> str | None:
    found = BytesParser(policy=policy.default).parse(stream, headersonly=True)["To"]
    return found.addresses[0].addr_spec if found is not None and found.addresses else None


def is_international(message: EmailMessage) -> bool:
    """Whether an address of the message can only be written in UTF-8 (RFC 6532)."""
    addresses = [address.addr_spec for header in ("From", "To") for address in message[header].addresses]
    return not "".join(addresses).isascii()
