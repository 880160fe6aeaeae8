"""Limits: each group by what it is counted by, in this process and in Redis, behind proxies, and what a refusal says."""

import ipaddress
import time
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from limits import parse

from referral import limits as rate_limits
from referral.app import create_app
from referral.cache.redis.client import RedisClient
from referral.config.addresses import networks
from referral.contract.access import Limit, declaration_of
from referral.limits import client_address
from referral.metrics import Metrics
from tests.conftest import MakeClient, MakeConfig
from tests.support.networks import BEHIND_PROXY, of
from tests.support.people import Person
from tests.support.servers import RedisServer

ON = {"limits_enabled": "true"}
LIMITED = {**ON, **BEHIND_PROXY}


@pytest.fixture
def engine() -> str:
    return "sqlite"


def test_every_route_is_limited_or_named_exempt(make_config: MakeConfig) -> None:
    exempt = {
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/assets/{asset}",
        "/problems/{problem}",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/.well-known/oauth-authorization-server",
        "/.well-known/jwks.json",
        "/referral.js",
        "/widget.js",
        # It counts what it answers, and answers what it does not count.
        "/r/{code}",
    }
    # The pages of mailed links: a GET does nothing.
    shown = {("GET", "/account/verify"), ("GET", "/account/reset"), ("GET", "/account/disown")}
    for route in create_app(make_config()).router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        is_exempt = path in exempt or (route.method.replace("HEAD", "GET"), path) in shown
        assert (declaration_of(route.handler).limit is Limit.EXEMPT) == is_exempt, path


async def test_a_refusal_says_when_to_come_back(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_lookup_by_address="2/minute")
    nobody = Person(client, "")
    for _ in range(2):
        assert (await nobody.get("/codes/UNKNOWN1")).status == 404
    refused = await nobody.get("/codes/UNKNOWN1")
    assert (refused.status, refused.problem) == (429, "rate-limited")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Policy"] == '"lookup_by_address";q=2;w=60'
    assert refused.headers["RateLimit"] == f'"lookup_by_address";r=0;t={refused.headers["Retry-After"]}'


async def test_look_ups_are_counted_by_user_and_by_address_apart(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_lookup_by_user="2/minute", limits_lookup_by_address="1/minute")
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    path = "/codes/by-email?email=nobody@example.com"
    assert [(await alice.get(path)).status for _ in range(3)] == [404, 404, 429]
    assert [(await bob.get(path)).status for _ in range(3)] == [404, 404, 429]
    assert [(await Person(client, "").get("/codes/UNKNOWN1")).status for _ in range(2)] == [404, 429]


async def test_everything_else_is_counted_by_user(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_request_by_user="3/minute")
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    assert [(await alice.get("/users/me")).status for _ in range(4)] == [200, 200, 200, 429]
    assert (await alice.get("/codes")).status == 429
    assert (await bob.get("/users/me")).status == 200


async def test_codes_are_counted_by_who_makes_them_and_a_wrong_body_uses_nothing_up(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_codes_by_user="3/hour", codes_reserved="OURS")
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    wrong: tuple[dict[str, object], ...] = (
        {},
        {"ttl_days": 0},
        {"ttl_days": 9_999},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"ttl_days": 1, "code": "no"},
        {"ttl_days": 1, "code": "0urs"},
    )
    for body in wrong:
        assert (await alice.post("/codes", body)).status == 422
    another = {"ttl_days": 1, "replace": True}
    # What is refused for its text counts: each try says whether somebody had it.
    taken = {**another, "code": await bob.make_code()}
    statuses = [(await alice.post("/codes", body)).status for body in (another, taken, another)]
    assert statuses == [201, 409, 201]
    refused = await alice.post("/codes", another)
    assert (refused.status, refused.problem) == (429, "rate-limited")
    assert refused.headers["RateLimit-Policy"] == '"codes_by_user";q=3;w=3600'
    # What alice has can still be edited and ended, and bob makes his own.
    assert (await alice.patch("/codes/current", {"ttl_days": 2})).status == 200
    assert (await alice.delete("/codes/current")).status == 204
    assert (await bob.post("/codes", another)).status == 201


async def test_addresses_that_do_not_exist_are_counted_too(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_request_by_address="2/minute")
    nobody = Person(client, "")
    assert [(await nobody.get(f"/no/{number}")).status for number in range(3)] == [404, 404, 429]


async def test_guessing_a_password_locks_the_guesser_out_and_not_the_owner(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED, limits_login_by_account="3/minute")
    alice = await Person.register(client, "alice")

    async def sign_in(address: str, password: str, name: str = "ALICE") -> int:
        form = {"grant_type": "password", "username": name, "password": password}
        return (await alice.call("POST", "/auth/token", data=form, headers=of(address))).status

    # Other writings of a name are the same name; the second begins with a mathematical capital A, the third with a wide one.
    names = ("alice", "\U0001d400lice", "\uff21LICE", "ALICE")
    assert [await sign_in("192.0.2.1", "a guess", name) for name in names] == [400, 400, 400, 429]
    # The address has a count of its own: one for both would tell anybody that they are the same person's.
    names = (alice.email, alice.email.upper(), alice.email.replace("e", "E"), alice.email)
    assert [await sign_in("192.0.2.1", "a guess", name) for name in names] == [400, 400, 400, 429]
    assert await sign_in("192.0.2.1", alice.password) == 429
    assert await sign_in("192.0.2.2", alice.password) == 200


async def test_who_cannot_say_who_they_are_is_counted_by_address(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_request_by_address="2/minute")
    nobody = Person(client, "", tokens={"access_token": "nonsense"})
    assert [(await nobody.get("/users/me")).status for _ in range(3)] == [401, 401, 429]


async def test_links_that_are_guessed_are_counted_before_a_password_is_hashed(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_login_by_address="2/minute")
    guess = {"token": "x", "new_password": "a long pass phrase"}
    nobody = Person(client, "")
    assert [(await nobody.post("/auth/password/reset/confirm", guess)).status for _ in range(3)] == [422, 422, 429]
    async with client.post("/account/reset", data=guess) as page:
        assert page.status == 429
        assert int(page.headers["Retry-After"]) > 0


async def test_whoever_waits_as_long_as_told_is_let_in(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [1_000.0]
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(monotonic=lambda: sum(seconds)))
    client = await make_client(**ON, limits_lookup_by_address="1/3 second")
    nobody = Person(client, "")
    assert (await nobody.get("/codes/UNKNOWN1")).status == 404
    # 1.4 seconds are left.
    seconds.append(1.6)
    refused = await nobody.get("/codes/UNKNOWN1")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
    seconds.append(2)
    assert (await nobody.get("/codes/UNKNOWN1")).status == 404


async def test_whoever_holds_a_token_cannot_guess_the_password_by_it(make_client: MakeClient) -> None:
    client = await make_client(**ON, limits_login_by_account="3/minute")
    alice = await Person.register(client, "alice")
    change = {"current_password": "a guess", "new_password": "another long password"}
    assert [(await alice.post("/auth/password/change", change)).status for _ in range(2)] == [403, 403]
    assert (await alice.delete("/users/me", {"password": "a guess"})).status == 403
    assert (await alice.post("/auth/password/change", change)).status == 429
    assert (await alice.delete("/users/me", {"password": alice.password})).status == 429


async def test_passwords_tried_for_many_accounts_are_counted_by_address(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED, limits_login_by_address="3/minute")

    async def sign_in(name: str, address: str) -> int:
        form = {"grant_type": "password", "username": name, "password": "password"}
        return (await Person(client, "").call("POST", "/auth/token", data=form, headers=of(address))).status

    assert [await sign_in(f"user{number}", "192.0.2.1") for number in range(4)] == [400, 400, 400, 429]
    assert await sign_in("user9", "192.0.2.2") == 400


async def test_registrations_are_counted_by_address(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED, limits_registration_by_address="2/hour")

    async def register(name: str, address: str) -> int:
        body = {"email": f"{name}@example.com", "password": "a long password"}
        return (await Person(client, "").post("/auth/register", body, headers=of(address))).status

    assert [await register(f"user{number}", "192.0.2.1") for number in range(3)] == [201, 201, 429]
    assert await register("user9", "192.0.2.2") == 201


async def test_registrations_are_counted_by_referral_code_from_whatever_address(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED, limits_registration_by_code="2/hour")
    alice = await Person.register(client, "alice")
    code = await alice.make_code()

    async def register(number: int, text: str) -> int:
        body = {"email": f"user{number}@example.com", "password": "a long password", "referral_code": text}
        return (await Person(client, "").post("/auth/register", body, headers=of(f"192.0.2.{number}"))).status

    assert [await register(1, code), await register(2, code.lower()), await register(3, code)] == [201, 201, 429]
    assert (await alice.me())["referral_count"] == 2


async def test_mail_is_counted_by_the_account_it_goes_to(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED, limits_mail_by_account="3/hour", limits_reset_by_account="2/15 minutes")
    nobody = Person(client, "")

    async def reset(email: str, number: int) -> int:
        return (await nobody.post("/auth/password/reset", {"email": email}, headers=of(f"192.0.2.{number}"))).status

    assert [await reset("alice@example.com", 1), await reset("Alice@example.com", 2)] == [202, 202]
    assert await reset("alice@EXAMPLE.com", 3) == 429
    assert await reset("bob@example.com", 1) == 202
    alice = await Person.register(client, "alice")
    await alice.make_code()
    assert [(await alice.post("/auth/email/verify/resend")).status for _ in range(3)] == [202, 202, 429]
    assert [(await alice.post("/codes/current/email")).status for _ in range(4)] == [202, 202, 202, 429]


async def test_limits_can_be_switched_off(make_client: MakeClient) -> None:
    client = await make_client(limits_enabled="false", limits_lookup_by_address="1/minute")
    assert {(await Person(client, "").get("/codes/UNKNOWN1")).status for _ in range(5)} == {404}


async def test_two_workers_count_together_in_redis_and_apart_while_it_is_out(
    make_client: MakeClient, redis: RedisServer
) -> None:
    settings = {**ON, "limits_lookup_by_address": "3/minute", "cache_url": redis.url}
    one, other = Person(await make_client(**settings), ""), Person(await make_client(**settings), "")

    async def look_up(worker: Person) -> int:
        return (await worker.get("/codes/UNKNOWN1")).status

    assert [await look_up(worker) for worker in (one, other, one, other, one)] == [404, 404, 404, 429, 429]
    redis.kill()
    assert [await look_up(one) for _ in range(4)] == [404, 404, 404, 429]
    assert await look_up(other) == 404


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        # Nobody's word is taken but a trusted proxy's.
        ("203.0.113.9", "192.0.2.1", "203.0.113.9"),
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        # What the client wrote itself stands before what the proxy added.
        ("10.0.0.1", "198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        # As some proxies write it.
        ("10.0.0.1", "192.0.2.1:5555", "192.0.2.1"),
        ("10.0.0.1", "[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::/64"),
        ("10.0.0.1", "[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
        ("10.0.0.1", "192.0.2.1:", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:aaaa:bbbb::9", None, "2001:db8:aaaa:bbbb::/64"),
        ("", "192.0.2.1", "unknown"),
    ],
)
def test_the_clients_address(peer: str, forwarded: str | None, expected: str) -> None:
    request: web.Request = make_mocked_request("GET", "/", {} if forwarded is None else {"X-Forwarded-For": forwarded})
    request = request.clone(remote=peer)
    assert client_address(request, networks(("10.0.0.0/8",))) == expected


def test_proxies_are_addresses_or_networks() -> None:
    assert networks(("10.0.0.1", "2001:db8::/32")) == (
        ipaddress.ip_network("10.0.0.1/32"),
        ipaddress.ip_network("2001:db8::/32"),
    )


def test_windows_in_this_process_are_bounded_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "WINDOWS", 10)
    windows, item = rate_limits.LocalWindows(), parse("1 per minute")
    assert [windows.hit(item, ("group", "first"))[0] for _ in range(3)] == [1, 2, 3]
    for number in range(10):
        assert windows.hit(item, ("group", "another", str(number)))[0] == 1
    assert [windows.hit(item, ("group", "first"))[0] for _ in range(2)] == [1, 2]
    monkeypatch.setattr(time, "monotonic", lambda real=time.monotonic: real() + 61)
    count, ends_at = windows.hit(item, ("group", "first"))
    assert count == 1
    assert 59 < ends_at - time.monotonic() <= 60


async def test_windows_in_redis_end_when_they_are_told_to(redis: RedisServer) -> None:
    client = RedisClient(redis.url, Metrics())
    try:
        windows, item = rate_limits.SharedWindows(client), parse("1 per minute")
        hits = [await windows.hit(item, (name,)) for name in ("one", "one", "other")]
        assert [hit and hit[0] for hit in hits] == [1, 2, 1]
        # Redis itself sees to the end.
        assert all(hit and 50 < hit[1] - time.monotonic() <= 60 for hit in hits)
        redis.kill()
        assert await windows.hit(item, ("one",)) is None
    finally:
        await client.close()


async def test_a_flood_from_many_networks_pushes_no_count_of_an_account_out(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOWS", 20)
    client = await make_client(**LIMITED, limits_reset_by_account="1/15 minutes")
    nobody = Person(client, "")
    reset = {"email": "alice@example.com"}
    assert [(await nobody.post("/auth/password/reset", reset)).status for _ in range(2)] == [202, 429]
    for number in range(60):
        await nobody.get("/codes/UNKNOWN1", headers=of(f"192.0.2.{number}"))
    assert (await nobody.post("/auth/password/reset", reset)).status == 429
