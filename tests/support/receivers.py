"""Receivers of webhooks: real servers that read what comes byte by byte, and answer in every bad way there is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from referral.webhooks.sending import Sender, Sent
from tests.support.servers import free_port

Reply = Callable[["Receiver", asyncio.StreamWriter], Awaitable[None]]
MakeSender = Callable[..., Sender]

# The first byte of Linux's TCP_INFO, as long as neither side has closed.
TCP_ESTABLISHED = 1

BODY = b'{"type":"user.created"}'


@dataclass(frozen=True)
class Received:
    """A request as it came; the names of its headers are lower-case."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`replies_with(a, b)`: the next requests are answered with these, all further ones with the last."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.host = host
        # Its own again after a stop.
        self.port = port or free_port()
        self.connections = 0
        self.seen: list[Received] = []
        # Bytes of endless bodies that were handed to the system.
        self.sent = 0
        self.released = asyncio.Event()
        self._tls = tls
        self._replies: list[Reply] = [answer()]
        self._server: asyncio.Server | None = None
        self.serving: set[asyncio.Task[None]] = set()

    def replies_with(self, *replies: Reply) -> None:
        self._replies = list(replies)

    def url(self, host: str | None = None, path: str = "/hook?key=secret") -> str:
        host = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"http{'s' if self._tls else ''}://{host}:{self.port}{path}"

    async def start(self) -> None:
        # Many may come at once.
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls, backlog=1024)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self.serving:
            task.cancel()
        if self.serving:
            await asyncio.wait(self.serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                self.seen.append(await _read(reader))
                reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
                await reply(self, writer)
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.serving.discard(task)
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in fields)}
    return Received(line, headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def running_receiver(
    host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(host, port, tls)
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


async def post(sender: Sender, receiver: Receiver) -> Sent:
    return await sender.post(receiver.url(), {"Content-Type": "application/json", "webhook-id": "msg_1"}, BODY)


# --- answers ---


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Reply:
    """A whole answer, after which the connection is kept: `answer(503, b"later", retry_after="10")`."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return raw(f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body)


def raw(data: bytes, then: bytes = b"") -> Reply:
    """These bytes, and a little later those."""

    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then:
            await asyncio.sleep(0.05)
            writer.write(then)

    return reply


def late(seconds: float, then: Reply) -> Reply:
    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await then(receiver, writer)

    return reply


def held(then: Reply) -> Reply:
    """This answer, once `released` is set."""

    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        await receiver.released.wait()
        await then(receiver, writer)

    return reply


async def hangs(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


def closes(after: bytes = b"") -> Reply:
    """The connection is closed in order, after these bytes."""

    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        writer.close()

    return reply


def resets(after: bytes = b"") -> Reply:
    """The connection is reset, a little after these bytes."""

    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()
        if after:
            # A reset throws away what the other side has not read.
            await asyncio.sleep(0.05)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return reply


def endless(head: bytes, chunk: bytes, pause: float = 0) -> Reply:
    """A head, and then chunks until the other side has had enough, or has got 1 GB."""

    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while receiver.sent < 1_000_000_000:
            writer.write(chunk)
            await writer.drain()
            receiver.sent += len(chunk)
            await asyncio.sleep(pause)

    return reply


def clams_up(head: bytes) -> Reply:
    """A head, and then nothing: nor does it hear what the other side says, until that has closed the connection."""

    async def reply(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        connection: socket.socket = writer.get_extra_info("socket")
        while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED:
            await asyncio.sleep(0.02)
        transport.abort()

    return reply


# --- names and certificates ---


class Names(AbstractResolver):
    """A name server: `Names({"a.example.com": [["192.0.2.1"], ["127.0.0.1"]]})` answers the first look-up with the first
    addresses, and all after the last with the last. What is not in it does not resolve."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host not in self._names:
            raise OSError(None, "no such name")
        answers = self._names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a self-signed certificate of this name or address, and the file of the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    named: x509.GeneralName = x509.DNSName(name)
    with contextlib.suppress(ValueError):
        named = x509.IPAddress(ip_address(name))
    public, now = key.public_key(), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return context, file
