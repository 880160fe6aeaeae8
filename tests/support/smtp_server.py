"""A real SMTP server (aiosmtpd) in the test's own loop that can be told to refuse, hang or drop the connection anywhere."""

from __future__ import annotations

import asyncio
import email
import email.policy
import itertools
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD = "mailer", "p@ss:w/rd?#%é"


@dataclass(frozen=True)
class Received:
    """One message as the server took it: its envelope, its bytes, and how the connection was."""

    sender: str
    recipients: list[str]
    content: bytes
    tls: bool
    user: str | None
    options: list[str]

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.default)


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 and localhost that is its own authority."""

    file: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        openssl = shutil.which("openssl")
        if openssl is None:
            raise RuntimeError("openssl is missing: run tests/install-servers, or install Debian's openssl")
        made = cls(folder / "server.pem", folder / "server.key")
        options = {
            "-newkey": "ec",
            "-pkeyopt": "ec_paramgen_curve:prime256v1",
            "-days": "2",
            "-subj": "/CN=Mail of the tests",
            "-keyout": str(made.key),
            "-out": str(made.file),
        }
        # Python 3.13 refuses an authority that does not say that its key may sign certificates.
        extensions = ("subjectAltName=DNS:localhost,IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")
        more = (word for extension in extensions for word in ("-addext", extension))
        subprocess.run(
            [openssl, "req", "-x509", "-nodes", *itertools.chain(*options.items()), *more],
            check=True,
            capture_output=True,
        )
        return made

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


class MailServer:
    """`async with MailServer() as server`: listens on `server.port`; the same port after `stop()` and `start()`.

    Stages are CONNECT, EHLO, STARTTLS, AUTH, RSET, MAIL, RCPT, DATA (before the content), CONTENT (in the midst of it), END
    (after the last line; the message was taken all the same) and QUIT.
    """

    def __init__(
        self,
        *,
        tls: str = "none",
        certificate: Certificate | None = None,
        login: bool = False,
        smtputf8: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        self.port = 0
        self.delays: dict[str, float] = {}
        self.on_message: Callable[[], None] = lambda: None
        self._host = host
        self.messages: list[Received] = []
        self.connections = 0
        self.hangs: set[str] = set()
        self.drops: set[str] = set()
        self.reached: list[str] = []
        # What clients said after EHLO.
        self.greetings: list[str] = []
        self._replies: dict[str, Iterator[str]] = {}
        self._tls = tls
        self._context = certificate.context() if certificate else None
        self._login = login
        self._smtputf8 = smtputf8
        self._sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None

    def refuse(self, stage: str, reply: str, times: int | None = None) -> None:
        """Answer a stage with this, always or so many times."""
        self._replies[stage] = itertools.repeat(reply) if times is None else itertools.repeat(reply, times)

    def behave(self) -> None:
        """Do as a good server does from now on; those who hang still do."""
        self._replies.clear()
        self.hangs.clear()
        self.drops.clear()

    @property
    def recipients(self) -> list[str]:
        """To whom the messages went, in order."""
        return [recipient for message in self.messages for recipient in message.recipients]

    async def start(self) -> None:
        context = self._context if self._tls == "implicit" else None
        self._server = await asyncio.get_running_loop().create_server(self._session, self._host, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        if self._server:
            self._server.close()
            for session in self._sessions:
                session.abort()
            self._sessions.clear()
            await asyncio.sleep(0)
            self._server = None

    async def __aenter__(self) -> MailServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _session(self) -> _Session:
        with warnings.catch_warnings():
            # aiosmtpd does not count TLS from the start as TLS.
            warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")
            session = _Session(
                self,
                hostname="mail.test",
                enable_SMTPUTF8=self._smtputf8,
                tls_context=self._context if self._tls == "starttls" else None,
                require_starttls=self._tls == "starttls",
                authenticator=self._authenticate if self._login else None,
                auth_required=self._login,
                auth_require_tls=self._tls == "starttls",
            )
        self._sessions.add(session)
        return session

    def _authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, credentials: Any) -> AuthResult:
        assert isinstance(credentials, LoginPassword)
        good = credentials == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False, auth_data=USER)

    async def misbehave(self, session: _Session, stage: str) -> str | None:
        """Do at a stage what was asked for; an answer to give instead of the right one."""
        self.reached.append(stage)
        await asyncio.sleep(self.delays.get(stage, 0))
        if stage in self.hangs:
            await asyncio.Event().wait()
        if stage in self.drops:
            session.abort()
        return next(self._replies.get(stage, iter(())), None)


class _Session(SMTP):  # type: ignore[misc]
    def __init__(self, owner: MailServer, **options: Any) -> None:
        self.owner = owner
        super().__init__(self, **options)

    def connection_made(self, transport: Any) -> None:
        if self.transport is None:
            self.owner.connections += 1
        super().connection_made(transport)

    def abort(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    async def _handle_client(self) -> None:
        reply = await self.owner.misbehave(self, "CONNECT")
        if reply:
            await self.push(reply)
            self.abort()
        else:
            await super()._handle_client()

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.mail_from, envelope.mail_options = address, options
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        refusal = next(self.owner._replies.get("END", iter(())), None)
        if refusal:
            return refusal
        user = session.auth_data if session.authenticated else None
        tls = self.transport.get_extra_info("sslcontext") is not None
        received = Received(envelope.mail_from, envelope.rcpt_tos, envelope.content, tls, user, envelope.mail_options)
        self.owner.messages.append(received)
        self.owner.on_message()
        await self.owner.misbehave(self, "END")
        if received.recipients[0] in self.owner.drops:
            self.abort()
        return "250 OK"


def _staged(stage: str) -> Any:
    async def command(self: _Session, argument: str) -> None:
        if stage == "EHLO":
            self.owner.greetings.append(argument)
        reply = await self.owner.misbehave(self, stage)
        if reply:
            await self.push(reply)
            if reply.startswith("421"):
                self.transport.close()
        elif self.transport is not None and not self.transport.is_closing():
            if stage == "DATA" and "CONTENT" in self.owner.hangs | self.owner.drops:
                await self.push("354 Go on")
                await self._reader.readline()
                await self.owner.misbehave(self, "CONTENT")
            else:
                await getattr(SMTP, f"smtp_{stage}")(self, argument)

    return command


for _stage in ("EHLO", "STARTTLS", "AUTH", "RSET", "MAIL", "RCPT", "DATA", "QUIT"):
    setattr(_Session, f"smtp_{_stage}", _staged(_stage))
