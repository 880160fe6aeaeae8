"""The log: one line a request with its facts, no line that a client forged, and never a secret, whatever goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient

from referral.auth.tokens import hash_token
from referral.log import JsonFormatter, TextFormatter
from tests.support import smtp_server, vendors
from tests.support.people import Person, token_in
from tests.support.rows import sql
from tests.support.servers import PostgresServer, RedisServer
from tests.support.service import serving
from tests.support.smtp_server import MailServer
from tests.support.vendors import Vendor, running_vendor

Formatters = dict[str, logging.Formatter]
FORMATTERS: Formatters = {"text": TextFormatter(), "json": JsonFormatter()}

# What begins a line of the text format.
HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: ")
FORGED = "2027-01-01T00:00:00Z INFO referral.requests: GET / 200"


class Lines(logging.Handler):
    """What would have been written, a text a record."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.setFormatter(FORMATTERS[style])
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


@pytest.fixture(params=["text", "json"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def logged(style: str) -> Iterator[list[str]]:
    """What this test's requests log, as it would be written."""
    handler, logger = Lines(style), logging.getLogger("referral.requests")
    logger.addHandler(handler)
    yield handler.written
    logger.removeHandler(handler)


# A request's line


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_request_is_one_line_with_id_route_status_milliseconds_and_user(
    client: Any, person: Callable[..., Awaitable[Person]], style: str, logged: list[str]
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    logged.clear()
    answer = await alice.get("/users/me")
    missing = await Person(client, "").get(f"/codes/{code}x?email=alice@example.com", headers={"X-Request-ID": "mine-1"})
    nowhere = await alice.call("PROPFIND", "/nowhere/alice@example.com")
    assert (missing.status, nowhere.status) == (404, 404)
    assert missing.headers["X-Request-ID"] == "mine-1"
    expected = [
        ("GET", "/api/v1/users/me", 200, answer.headers["X-Request-ID"], alice.id),
        ("GET", "/api/v1/codes/{code}", 404, "mine-1", None),
        ("(other)", "(none)", 404, nowhere.headers["X-Request-ID"], None),
    ]
    assert len(logged) == len(expected)
    for line, (method, route, status, request_id, user_id) in zip(logged, expected, strict=True):
        if style == "json":
            document = json.loads(line)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document.pop("time"))
            assert document.pop("milliseconds") >= 0
            assert document.pop("user_id", None) == user_id
            assert ("own_id" in document) == (request_id == "mine-1")
            document.pop("own_id", None)
            assert document == {
                "level": "info",
                "logger": "referral.requests",
                "message": f"{method} {route} {status}",
                "method": method,
                "route": route,
                "status": status,
                "request_id": request_id,
            }
        else:
            user = f" user_id={user_id}" if user_id else ""
            own = r" own_id=[0-9a-f-]{36}" if request_id == "mine-1" else ""
            facts = rf"request_id={re.escape(request_id)} milliseconds=\d+\.\d{user}{own}"
            assert re.fullmatch(HEAD.pattern + re.escape(f"{method} {route} {status}") + " " + facts, line), line


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_no_request_id_of_a_client_forges_anything(client: Any, logged: list[str]) -> None:
    nobody = Person(client, "")
    for given in ("x user_id=admin", "x" * 129, "é", "\x9b31m", ""):
        answer = await nobody.get("/health/live", headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] != given
    assert "admin" not in "".join(logged)
    assert len(logged) == 5


# One record, one line

EVIL = [
    f"\n{FORGED}",
    f"\r\n{FORGED}",
    f"\r{FORGED}",
    f"\v\f\x1c\x1d\x1e\x85\u2028\u2029{FORGED}",
    "\x1b[2J\x1b]0;title\x07\x9b31m\x00\x08\x7f",
    "\u202ereversed\u2066",
    "lone \udcff surrogates \ud800",
    "Ж — é 漢",
]


def record(message: str, *arguments: Any, error: BaseException | None = None) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("referral.errors", logging.ERROR, "file", 1, message, arguments, trace)


@pytest.mark.parametrize("evil", EVIL)
def test_no_logged_value_forges_a_line_or_steers_a_terminal(style: str, evil: str) -> None:
    line = FORMATTERS[style].format(record("it failed: %s", evil))
    assert len(line.splitlines()) == 1
    line.encode()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", line)
    if style == "json":
        assert json.loads(line)["message"] == f"it failed: {evil}"
    elif evil.isprintable():
        assert line.endswith(f"it failed: {evil}"), "what can be read is left as it is"


@pytest.mark.parametrize("evil", EVIL)
def test_no_error_s_text_forges_a_line(style: str, evil: str) -> None:
    try:
        raise ValueError(evil)
    except ValueError as error:
        text = FORMATTERS[style].format(record("unforeseen error", error=error))
    text.encode()
    lines = text.splitlines()
    if style == "json":
        [line] = lines
        assert json.loads(line)["traceback"].endswith(f"ValueError: {evil}")
    else:
        assert HEAD.match(lines[0])
        assert len(lines) > 3
        assert all(line.startswith("    ") for line in lines[1:])


# Secrets

# None of them is a part of anything else.
SECRETS = {
    "password": "pw-Kq7-of-somebody",
    "wrong password": "pw-Zx1-mistyped",
    "new password": "pw-Nn2-chosen",
    "reset password": "pw-Rr3-by-mail",
    "JWT secret": "jwt-Ss4-" + "s" * 32,
    "previous secret": "jwt-Pp5-" + "p" * 32,
    "database password": "db-Dd6-password",
    "Redis password": "redis-Ee7-password",
    "mail server's password": smtp_server.PASSWORD,
    "the same in the URL": quote(smtp_server.PASSWORD, safe=""),
    "the same as it is sent": base64.b64encode(f"\0{smtp_server.USER}\0{smtp_server.PASSWORD}".encode()).decode(),
    "Hunter's key": "hunter-Hh8-key",
    "the provider's key": "clearbit-Cc9-key",
    # Not secrets, and yet nobody's business.
    "an address": "alice@example.com",
    "a password's hash": "$2b$04$",
}


class Tour:
    """Somebody's way through everything that takes or gives out a secret; `found` are those made on the way."""

    def __init__(self, session: ClientSession, address: str, mail: MailServer) -> None:
        self.client = cast(TestClient[web.Request, web.Application], session)
        self.port = int(address.rpartition(":")[2])
        self.mail = mail
        self.found: set[str] = set()

    async def raw(self, data: bytes) -> None:
        """Send bytes that are no good HTTP."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()

    async def token_of_mail(self, number: int) -> str:
        async with asyncio.timeout(10):
            while len(self.mail.messages) < number:
                await asyncio.sleep(0.02)
        self.found.add(token := token_in(self.mail.messages[-1].message))
        return token

    def keep(self, tokens: dict[str, Any]) -> None:
        self.found |= {tokens["access_token"], tokens["refresh_token"], hash_token(tokens["refresh_token"])}

    async def sign_in(self, alice: Person, password: str) -> None:
        assert (await alice.sign_in(SECRETS[password])).status == 200
        self.keep(alice.tokens)

    async def good_and_bad_requests(self) -> Person:
        """Every use of a password and of each kind of token, right and wrong."""
        alice = Person(self.client, SECRETS["an address"])
        body = {"email": alice.email, "password": SECRETS["password"], "username": "alice"}
        answer = await alice.post("/auth/register", body)
        assert answer.status == 201, answer.body
        alice.tokens = answer.body
        self.keep(alice.tokens)
        await alice.make_code()
        assert (await alice.get("/codes/by-email", params={"email": alice.email})).status == 200
        for name in (alice.email, "alice", SECRETS["password"]):
            assert (await alice.sign_in(SECRETS["wrong password"], name=name)).status == 400
        await self.sign_in(alice, "password")
        self.keep((await alice.refresh()).body)

        await alice.post("/auth/email/verify", {"token": await self.token_of_mail(1)})
        change = {"current_password": SECRETS["wrong password"], "new_password": SECRETS["new password"]}
        assert (await alice.post("/auth/password/change", change)).status == 403
        change["current_password"] = SECRETS["password"]
        assert (await alice.post("/auth/password/change", change)).status == 204
        await alice.post("/auth/password/reset", {"email": alice.email})
        token = await self.token_of_mail(2)
        assert (await alice.get(f"/account/reset?token={token}")).status == 200
        form = {"token": token}
        for status, password in ((200, "reset password"), (422, "new password")):
            form["new_password"] = SECRETS[password]
            assert (await alice.call("POST", "/account/reset", data=form)).status == status
        await self.sign_in(alice, "reset password")

        for kind, data in (
            ("application/json", f'{{"password": "{SECRETS["password"]}'),
            ("application/json", f'{{"{SECRETS["password"]}": 1}}'),
            ("text/plain", SECRETS["password"]),
            ("application/x-www-form-urlencoded", f"password={SECRETS['password']}&password=\udcff"),
        ):
            encoded = data.encode(errors="surrogateescape")
            for path in ("/auth/register", "/auth/token", "/account/reset"):
                answer = await alice.call("POST", path, data=encoded, headers={"Content-Type": kind})
                assert 400 <= answer.status < 500
        token = alice.tokens["access_token"]
        for path in ("/users/me", f"/codes/{token}", f"/{token}", f"/users/{token}/referrals"):
            await alice.get(path, params={"access_token": token})
        await alice.get("/users/me", headers={"Authorization": f"Bearer {token}x", "X-Request-ID": f"{token[:100]} x"})
        for line in (
            f"GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\x00\r\n\r\n",
            f"GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\nBearer {token}\r\n\r\n",
            f'{{"password": "{SECRETS["password"]}"}}\r\n\r\n',
            # A body that a proxy took for the next request.
            f'GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n{{"password": "{SECRETS["password"]}"}}\r\n\r\n',
            f"POST /api/v1/auth/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{SECRETS['password']}\r\n",
            f"GET /{'x' * 9000}{token} HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            await self.raw(line.encode())
        return alice

    async def faults(self, alice: Person, server: PostgresServer, url: str, redis: RedisServer) -> None:
        """A rule and a table that the service does not know of, then no mail, no cache and no database."""
        await sql(url, "ALTER TABLE users ADD CONSTRAINT trap CHECK (username <> 'trapped')")
        body = {"email": "trapped@example.com", "password": SECRETS["password"], "username": "trapped"}
        assert (await alice.post("/auth/register", body)).status == 500
        await sql(url, "ALTER TABLE users ALTER COLUMN role DROP NOT NULL, ALTER COLUMN username SET NOT NULL")
        assert (await alice.post("/auth/register", {**body, "username": None, "email": "b@example.com"})).status == 500
        await sql(url, "ALTER TABLE refresh_tokens RENAME TO mislaid")
        assert (await alice.sign_in(SECRETS["reset password"])).status == 500
        assert (await alice.refresh()).status == 500

        self.mail.refuse("AUTH", "535 5.7.8 no such user or password")
        assert (await alice.post("/codes/current/email")).status == 202
        async with asyncio.timeout(10):
            while "AUTH" not in self.mail.reached[-3:]:
                await asyncio.sleep(0.02)
        redis.kill()
        assert (await alice.get("/users/me")).status == 200
        assert (await alice.get("/codes/by-email", params={"email": alice.email})).status == 200
        name = url.rpartition("/")[2]
        await asyncio.to_thread(server.execute, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        await asyncio.to_thread(server.execute, end)
        assert (await alice.get("/users/me")).status == 503
        assert (await alice.sign_in(SECRETS["reset password"])).status == 503
        assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 503


@asynccontextmanager
async def surroundings(tmp_path: Path) -> AsyncIterator[tuple[MailServer, Vendor, RedisServer]]:
    """A mail server and a Redis with passwords, and a vendor that answers with junk."""
    redis = RedisServer(tmp_path, "--requirepass", SECRETS["Redis password"])
    await asyncio.to_thread(redis.start)
    try:
        async with MailServer(login=True) as mail, running_vendor() as vendor:
            key = SECRETS["Hunter's key"].encode()
            vendor.replies_with(vendors.raw(b"<html>" + key), vendors.status(500), vendors.raw(b'{"data": 1}'))
            yield mail, vendor, redis
    finally:
        redis.kill()


@pytest.mark.parametrize(("style", "engine"), [("text", "postgres"), ("json", "postgres"), ("text", "sqlite")])
async def test_no_secret_is_logged_on_any_way_through_the_service(
    style: str, engine: str, tmp_path: Path, database_url: str, request: pytest.FixtureRequest
) -> None:
    async with surroundings(tmp_path) as (mail, vendor, redis):
        environ = {
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": style,
            # gunicorn has much to say at this level.
            "SERVER_WORKERS": "2" if style == "json" else "1",
            "LIMITS_ENABLED": "false",
            "DATABASE_URL": database_url.replace("referral@", f"referral:{SECRETS['database password']}@"),
            "CACHE_URL": f"redis://:{SECRETS['Redis password']}@127.0.0.1:{redis.port}/0",
            "AUTH_SECRET": SECRETS["JWT secret"],
            "AUTH_PREVIOUS_SECRET": SECRETS["previous secret"],
            "MAIL_URL": f"smtp://{smtp_server.USER}:{quote(smtp_server.PASSWORD, safe='')}@127.0.0.1:{mail.port}?tls=none",
            "AUTH_UNVERIFIED": "full",
            "HUNTER_API_KEY": SECRETS["Hunter's key"],
            "HUNTER_BASE_URL": vendor.url,
            "ENRICHMENT_PROVIDER": "clearbit",
            "ENRICHMENT_API_KEY": SECRETS["the provider's key"],
            "ENRICHMENT_BASE_URL": vendor.url,
        }
        settings = {f"REFERRAL_{name}": value for name, value in environ.items()}
        service = serving(tmp_path, **settings)
        # Starting and stopping wait for the process: in a thread, that the servers of this loop answer it meanwhile.
        address = await asyncio.to_thread(service.__enter__)
        try:
            async with ClientSession(address) as session:
                tour = Tour(session, address, mail)
                alice = await tour.good_and_bad_requests()
                if engine == "postgres":
                    await tour.faults(alice, request.getfixturevalue("postgres_server"), database_url, redis)
        finally:
            await asyncio.to_thread(service.__exit__, None, None, None)
    log = (tmp_path / "service.log").read_text()

    # The log is what it should be: everything that went wrong is in it.
    faults = (
        "Traceback",
        "ConstraintViolation: trap",
        "UndefinedTableError",
        "database unavailable",
        "Redis is out",
        "mail cannot be sent until",
    )
    for said in (
        "Hunter gave no verdict",
        "(other) (none) 400",
        *(faults if engine == "postgres" else ()),
        *(("Booting worker",) if style == "json" else ()),
    ):
        assert said in log, said
    for line in log.splitlines():
        if "Serving on http://" in line:
            continue
        if style == "json":
            assert json.loads(line).keys() >= {"time", "level", "logger", "message"}
        else:
            assert HEAD.match(line) or line.startswith("    "), line
    assert len(tour.found) > 10
    assert [name for name, secret in SECRETS.items() if secret in log or json.dumps(secret)[1:-1] in log] == []
    assert [secret for secret in tour.found if secret in log] == []
