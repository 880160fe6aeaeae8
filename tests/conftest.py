"""The fixtures: a migrated database a test, an application in the test's own loop, and people who use it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

import referral.database
import run
from referral import metrics
from referral.app import create_app
from referral.auth import signing_keys
from referral.config import VAR, Config, load_config
from referral.database import Database
from referral.database.migrate import migrate
from referral.database.opening import open_database
from tests.support.killed import Killed
from tests.support.patience import PATIENT, wait_for_redis
from tests.support.people import PASSWORD, SECRETS, Person, Product, read_mails, text_of, token_in
from tests.support.programme import Programme, differences
from tests.support.rows import sql
from tests.support.servers import PostgresServer, RedisServer, SpareDatabases
from tests.support.serving import client_of

# Everything a test's service needs to differ in from the shipped defaults; a test may override more.
SETTINGS = {
    "REFERRAL_AUTH_SECRET": "a secret of the tests, of more than 32 characters",
    "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
    "REFERRAL_LOG_LEVEL": "debug",
    # On in tests/test_limits.py; elsewhere one address makes more requests than a person does.
    "REFERRAL_LIMITS_ENABLED": "false",
    # The tests' admin is called just that. As shipped, they are in tests/handlers/test_usernames.py.
    "REFERRAL_AUTH_RESERVED_USERNAMES": "",
}

MakeConfig = Callable[..., Config]
MakeClient = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
Client = TestClient[web.Request, web.Application]
Mailed = Callable[..., Awaitable[str]]
Eventually = Callable[..., Awaitable[Any]]
Command = Callable[..., Awaitable[str]]
Given = Callable[[bytes], None]


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly migrated SQLite file to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "referral.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL with a migrated database, `migrated`, that tests' own databases are copies of."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        server.make_database("migrated")
        yield server


@pytest.fixture(scope="session")
def spare_databases(postgres_server: PostgresServer) -> SpareDatabases:
    return SpareDatabases(postgres_server)


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """The dialect: whatever uses a database runs on both. A module about one of them overrides this."""
    return str(request.param)


@pytest.fixture
def database_url(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated, empty database of the test's own."""
    if engine == "sqlite":
        path = tmp_path / "referral.db"
        shutil.copy(request.getfixturevalue("migrated_database"), path)
        yield f"sqlite:///{path}"
        return
    spare: SpareDatabases = request.getfixturevalue("spare_databases")
    name = spare.take()
    yield request.getfixturevalue("postgres_server").url(name)
    spare.give_back(name)


@pytest.fixture
def killed(database_url: str, tmp_path: Path) -> Killed:
    """A service of two workers, processes that can be killed."""
    return Killed(tmp_path, database_url, 2)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's database, opened beside the application's own connections."""
    opened = await open_database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A Redis of the test's own, which is out when it is killed and not when the machine is slow."""
    wait_for_redis(monkeypatch, PATIENT)
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis", "none"])
def cache_url(request: pytest.FixtureRequest) -> str:
    """The URL of a cache of each kind."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        return server.url
    return f"{request.param}://"


@pytest.fixture
def mail_folder(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def make_config(database_url: str, mail_folder: Path) -> MakeConfig:
    """`make_config(codes_length="10")`: the tests' settings, with some overridden as by the environment."""

    def make(**overrides: str) -> Config:
        environ = {
            **SETTINGS,
            "REFERRAL_DATABASE_URL": database_url,
            "REFERRAL_MAIL_URL": f"file:{mail_folder}",
            **{f"REFERRAL_{name.upper()}": value for name, value in overrides.items()},
        }
        return load_config(environ=environ)

    return make


@pytest.fixture
def command(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> Command:
    """`await command("admins", "list")`: what it prints, beside whatever runs in the test's loop. It takes the settings from
    `make_config` alone: no command has to know how services cache."""

    async def call(*arguments: str) -> str:
        parsed = run.parser().parse_args(arguments)
        capsys.readouterr()
        await asyncio.to_thread(parsed.command, make_config(), parsed)
        return capsys.readouterr().out

    return call


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """`given(b"a line")`: what the command finds on standard input."""

    def give(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text)))

    return give


@pytest.fixture
async def make_client(make_config: MakeConfig) -> AsyncIterator[MakeClient]:
    """`await make_client(codes_length="10")`: a client of an application with these settings, on the test's database."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(**overrides: str) -> Client:
            app = create_app(make_config(**overrides))
            with pytest.MonkeyPatch.context() as patch:
                # To read what the machine trusts takes half of a start, and no client made here calls by TLS.
                patch.setenv("SSL_CERT_FILE", os.devnull)
                return await stack.enter_async_context(client_of(app))

        yield make


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client()


@pytest.fixture
def person(client: Client) -> Callable[..., Awaitable[Person]]:
    """`await person("alice", referral_code=...)`: registers somebody new and returns them, signed in."""
    numbers = itertools.count(1)

    async def make(name: str | None = None, **registration: Any) -> Person:
        name = name or f"person{next(numbers)}"
        return await Person.register(client, name, **registration)

    return make


@pytest.fixture
def verified_person(person: Callable[..., Awaitable[Person]], database_url: str) -> Callable[..., Awaitable[Person]]:
    """As `person`, somebody whose address is verified."""

    async def make(name: str | None = None, **registration: Any) -> Person:
        made = await person(name, **registration)
        await sql(database_url, f"UPDATE users SET email_verified_at = created_at WHERE id = '{made.id}'")
        return made

    return make


@pytest.fixture
async def product(client: Client) -> Product:
    """The back end of a product, with a key that may write."""
    return await Product.with_key(client)


@pytest.fixture
async def programme(client: Client) -> Programme:
    """A programme of rewards without rules yet."""
    return Programme(await Product.with_key(client, "admin"))


@pytest.fixture
async def verified(database: Database) -> AsyncIterator[None]:
    """Whatever the test did, every sum, count and state is what the rows say."""
    yield
    assert await differences(database) == []


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(check)`: the first true thing that `check()` returns, for up to ten seconds."""

    async def wait(check: Callable[[], Any], seconds: float = 10.0) -> Any:
        async with asyncio.timeout(seconds):
            while True:
                found = check()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def mailed(mail_folder: Path, eventually: Eventually) -> Mailed:
    """`await mailed(address, "reset")`: the token of the next link to that page which is mailed there, once each."""
    known: set[str] = set()

    async def wait(address: str, page: str = "verify") -> str:
        def fresh() -> list[str]:
            mails = [mail for mail in read_mails(mail_folder, address) if f"/account/{page}?token=" in text_of(mail)]
            return [token for token in map(token_in, mails) if token not in known]

        token: str = (await eventually(fresh))[0]
        known.add(token)
        return token

    return wait


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The end to read from, and the end to write to."""
    out, into = os.pipe()
    yield out, into
    for descriptor in (out, into):
        os.close(descriptor)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test leaves in `var/` and in relative paths goes to its own folder."""
    monkeypatch.chdir(tmp_path)
    for name, kept in (("SECRET_FILE", "secret"), ("KEY_FILE", "key.pem")):
        monkeypatch.setattr(signing_keys, name, tmp_path / "var" / kept)


@pytest.fixture(autouse=True)
def _metrics_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that asks for metrics gets those of now."""
    monkeypatch.setattr(metrics, "TOLD_AGAIN", 0)


@pytest.fixture(autouse=True)
def _no_statement_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of what is logged finds no slow statement beside it: how long one takes is up to the machine."""
    monkeypatch.setattr(referral.database, "SLOW_STATEMENT", math.inf)


@pytest.fixture(scope="session", autouse=True)
def _developers_keys_stay() -> Iterator[None]:
    """No test makes or replaces the keys of whoever develops here: it is to start a project of its own (`run_py`)."""

    def keys() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (VAR / "secret", VAR / "key.pem") if file.exists()}

    before = keys()
    yield
    assert keys() == before


class _Logged(logging.Handler):
    """Everything that is logged, with tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # aiohttp's own access log, which the service turns off, has the addresses of pages with their tokens.
        if record.name != "aiohttp.access":
            self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def _no_secret_is_logged(tmp_path: Path) -> Iterator[None]:
    """No test's password or token is in what it logged, at any level of the service's own, or a service it started."""
    SECRETS.clear()
    SECRETS.update((PASSWORD, PASSWORD.replace(" ", "+"), PASSWORD.replace(" ", "%20")))
    handler, root, ours = _Logged(), logging.getLogger(), logging.getLogger("referral")
    level = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield
    ours.setLevel(level)
    root.removeHandler(handler)
    files = (tmp_path / "service.log", Path(f"{tmp_path}.log"))
    text = "\n".join([*handler.lines, *(file.read_text(errors="replace") for file in files if file.exists())])
    assert not [secret for secret in SECRETS if secret in text], text
