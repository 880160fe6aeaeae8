"""The guard of outgoing calls: which addresses are refused, in whatever way they are written, named, or come to light."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from referral.webhooks import guard as guards
from referral.webhooks import sending
from referral.webhooks.guard import LONGEST_URL, Guard, url_error
from referral.webhooks.resolver import THREADS, Resolver
from referral.webhooks.sending import Sender, Sent
from tests.support.receivers import Names, answer, running_receiver

LookUp = Callable[..., list[Any]]

PUBLIC = "93.184.216.34"


def guard(*allowed: str, names: dict[str, list[list[str]]] | None = None) -> Guard:
    return Guard([ip_network(network) for network in allowed], Names(names or {}))


@asynccontextmanager
async def sender(checking: Guard) -> AsyncIterator[Sender]:
    calling = Sender(checking, 20.0)
    try:
        yield calling
    finally:
        await calling.close()
        await checking.close()


async def post(checking: Guard, url: str) -> Sent:
    async with sender(checking) as calling:
        return await calling.post(url, {}, b"{}")


# --- addresses ---

# What each is, or None for what may be called.
VERDICTS: dict[str, str | None] = {
    PUBLIC: None,
    "1.1.1.1": None,
    "9.255.255.255": None,
    "11.0.0.0": None,
    "100.63.255.255": None,
    "100.128.0.0": None,
    "126.255.255.255": None,
    "128.0.0.0": None,
    "169.253.255.255": None,
    "172.15.255.255": None,
    "172.32.0.0": None,
    "192.167.255.255": None,
    "223.255.255.255": None,
    "0.0.0.0": "the unspecified address",
    "0.1.2.3": "a reserved address",
    "10.0.0.5": "a private address",
    "10.255.255.255": "a private address",
    "100.64.0.1": "a shared address",
    "100.127.255.255": "a shared address",
    "127.0.0.1": "a loopback address",
    "127.255.255.255": "a loopback address",
    "169.254.169.254": "a link-local address",
    "172.16.0.1": "a private address",
    "172.31.255.255": "a private address",
    "192.0.0.8": "a reserved address",
    "192.0.0.192": "a reserved address",
    "192.0.2.1": "a documentation address",
    "192.88.99.1": "a 6to4 address",
    "192.168.1.1": "a private address",
    "198.18.0.1": "a benchmarking address",
    "198.19.255.255": "a benchmarking address",
    "198.51.100.1": "a documentation address",
    "203.0.113.1": "a documentation address",
    "224.0.0.1": "a multicast address",
    "239.255.255.255": "a multicast address",
    "240.0.0.1": "a reserved address",
    "255.255.255.255": "the broadcast address",
    "2606:2800:220:1:248:1893:25c8:1946": None,
    "2a00:1450:4001::200e": None,
    "::": "the unspecified address",
    "::1": "a loopback address",
    "0:0:0:0:0:0:0:1": "a loopback address",
    "::7f00:1": "an IPv4-compatible address",
    f"::{PUBLIC}": "an IPv4-compatible address",
    "::ffff:127.0.0.1": "a loopback address",
    "::ffff:a9fe:a9fe": "a link-local address",
    "::ffff:10.0.0.5": "a private address",
    f"::ffff:{PUBLIC}": None,
    "::ffff:0:7f00:1": "an IPv4-translated address",
    "64:ff9b::7f00:1": "a NAT64 address",
    "64:ff9b::169.254.169.254": "a NAT64 address",
    f"64:ff9b::{PUBLIC}": "a NAT64 address",
    "64:ff9b:1::1": "a NAT64 address",
    "100::1": "a reserved address",
    "2001::1": "a Teredo address",
    "2001:2::1": "a benchmarking address",
    "2001:10::1": "a reserved address",
    "2001:db8::1": "a documentation address",
    "2002:7f00:1::": "a 6to4 address",
    "3fff::1": "a documentation address",
    "4000::1": "a reserved address",
    "5f00::1": "a reserved address",
    "fc00::1": "a private address",
    "fd00:ec2::254": "a private address",
    "fe80::1": "a link-local address",
    "fe80::1%eth0": "a link-local address",
    "fe80::a9fe:a9fe%2": "a link-local address",
    "febf::1": "a link-local address",
    "fec0::1": "a site-local address",
    "ff02::1": "a multicast address",
    "ff0e::1": "a multicast address",
    "127.1": "no IP address",
    "localhost": "no IP address",
    "": "no IP address",
}


@pytest.mark.parametrize(("address", "kind"), VERDICTS.items())
def test_each_kind_of_address_is_judged(address: str, kind: str | None) -> None:
    assert guard().refusal(address, plain=False) == (None if kind is None else f"{address} is {kind}")
    # By http: nothing may be called but what is allowed.
    plain = guard().refusal(address, plain=True)
    assert plain == f"{address} is {kind or 'a public address, which only https: may reach'}"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("10.0.0.5", "10.0.0.5/32"),
        ("::ffff:10.0.0.5", "10.0.0.0/8"),
        (PUBLIC, "93.184.216.0/24"),
        ("fd00:ec2::254", "fd00::/8"),
        ("fe80::1%eth0", "fe80::/10"),
        (f"64:ff9b::{PUBLIC}", "64:ff9b::/96"),
    ],
)
def test_what_is_allowed_may_be_called_by_both_schemes(address: str, allowed: str) -> None:
    checking = guard("192.168.7.0/24", allowed)
    assert checking.refusal(address, plain=False) is None
    assert checking.refusal(address, plain=True) is None


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.1.0", "10.0.0.0/24"),
        ("127.0.0.1", "::1/128"),
        ("::1", "127.0.0.0/8"),
        ("::7f00:1", "127.0.0.0/8"),
        ("64:ff9b::7f00:1", "127.0.0.0/8"),
        ("2002:7f00:1::", "127.0.0.0/8"),
        ("::ffff:127.0.0.1", "::/0"),
    ],
)
def test_what_is_allowed_is_that_network_alone(address: str, allowed: str) -> None:
    assert guard(allowed).refusal(address, plain=False) is not None


# --- spellings ---

LOOPBACK = [
    *("127.0.0.1", "127.1", "127.0.1", "127.00.00.01", "0x7f.1", "0X7F.0.0.1", "0x7f000001", "2130706433"),
    *("0177.0.0.1", "0177.1", "017700000001", "127.0.0.1.", "127.1.", "%31%32%37.0.0.1", "127.0.0.%31"),
    *("１２７.0.0.1", "127。0。0。1", "127．0．0．1", "①②⑦.0.0.1", "１２７。１", "127.0.0.1。", "0x7f。1"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]"),
    *("[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "0", "0.0.0.0", "[::]", "localhost", "LOCALHOST", "loc%61lhost"),
]


@pytest.fixture
def numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system reads numbers in all their spellings, and asks no name server for the rest."""
    real: LookUp = socket.getaddrinfo

    def look_up(host: str, port: int, family: int, kind: int) -> list[Any]:
        return real(host, port, family, kind, 0, 0 if host.lower() == "localhost" else socket.AI_NUMERICHOST)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.usefixtures("numbers_alone")
@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_spelling_of_a_forbidden_address_is_registered_or_called(
    host: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_receiver() as receiver:
        url = f"{scheme}://{host}:{receiver.port}/"
        checking = Guard([])
        assert await checking.check_url(url) is not None
        async with sender(checking) as calling:
            assert (await calling.post(url, {}, b"{}")).status is None
            # Nor by what stands behind the check of the shape.
            monkeypatch.setattr(sending, "url_error", lambda url: None)
            assert (await calling.post(url, {}, b"{}")).status is None
        assert receiver.connections == 0


SHAPES = {
    "https://example.com": None,
    "HTTPS://Example.com:8443/hook?x=%C3%A4": None,
    "http://example.com/": None,
    "https://bücher.example/ä": None,
    "https://a_b.example.com./": None,
    "https://1e100.net/": None,
    f"https://{PUBLIC}:65535": None,
    "https://[2a00:1450:4001::200e]/": None,
    "https://example.com/" + "a" * (LONGEST_URL - 20): None,
    "https://example.com/" + "a" * (LONGEST_URL - 19): "at most 2000 characters",
    "https://example.com/" + "ä" * (LONGEST_URL // 6): "at most 2000 characters",
    "": "begins with https://",
    "example.com/hook": "begins with https://",
    "/hook": "begins with https://",
    "//example.com/": "begins with https://",
    "https:example.com": "begins with https://",
    "https:///hook": "begins with https://",
    "ftp://example.com/": "begins with https://",
    "file:///etc/passwd": "begins with https://",
    "https://user@example.com/": "user information",
    "https://user:password@example.com/": "user information",
    "https://@example.com/": "user information",
    "https://:@example.com/": "user information",
    "https://example.com/?to=a@example.com": None,
    "https://example.com/#top": "fragment",
    "https://example.com/#": "fragment",
    "https://example.com:0/": "port",
    "https://example.com:65536/": "no URL",
    "https://example.com:x/": "no URL",
    "https://[::1/": "no URL",
    "https://example.com\\@evil.example/": "no URL",
    "https://example.com/\ud800": "neither spaces nor control",
    "https://example.com/a b": "neither spaces nor control",
    "https://example.com/\r\nX: y": "neither spaces nor control",
    "https://example.com/\u2028": "neither spaces nor control",
    "https://exa%6dple.com/": "no name",
    "https://example%00.com/": "no name",
    "https://a..example.com/": "no name",
    "https://" + "a" * 64 + ".example.com/": "no name",
    "https://" + "a." * 130 + "com/": "no name",
    "https://example.123/": "a number",
    "https://[fe80::1%25eth0]/": "no IPv6 address",
}


@pytest.mark.parametrize(("url", "part"), SHAPES.items(), ids=range(len(SHAPES)))
def test_a_url_has_a_shape(url: str, part: str | None) -> None:
    error = url_error(url)
    assert error is None if part is None else part in (error or "")


# --- names, when they are registered ---

CHECKS = {
    "https://receiver.example.com/": "receiver.example.com is 10.0.0.5, a private address",
    "http://receiver.example.com/": f"receiver.example.com is {PUBLIC}, a public address, which only https: may reach",
    "https://10.0.0.5/": "10.0.0.5 is a private address",
    "https://[::1]:8443/": "::1 is a loopback address",
    "http://public.example.com/": f"public.example.com is {PUBLIC}, a public address, which only https: may reach",
    "https://public.example.com/": None,
    "https://allowed.example.com/": None,
    "http://allowed.example.com/": None,
    "http://192.168.7.9/": None,
    "https://unknown.example.com/": None,
    "http://unknown.example.com/": None,
}


@pytest.mark.parametrize(("url", "reason"), CHECKS.items())
async def test_a_url_is_registered_if_every_address_may_be_called(url: str, reason: str | None) -> None:
    names = {
        "receiver.example.com": [[PUBLIC, "192.168.7.9", "10.0.0.5"]],
        "public.example.com": [[PUBLIC]],
        "allowed.example.com": [["192.168.7.9"]],
    }
    expected = None if reason is None else f"{reason}: webhooks.allowed_networks would have to contain it"
    assert await guard("192.168.7.0/24", names=names).check_url(url) == expected


async def test_a_shape_is_checked_before_the_name() -> None:
    names = {"receiver.example.com": [["10.0.0.5"]]}
    assert await guard(names=names).check_url("https://receiver.example.com/#x") == "the URL must not have a fragment"


@pytest.fixture
def hanging_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Every name below hanging.example.com makes the system's resolver wait for this event, or the test's end."""
    released = threading.Event()
    real: LookUp = socket.getaddrinfo

    def look_up(host: str, *args: Any) -> list[Any]:
        if host.endswith("hanging.example.com"):
            released.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *args)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield released
    released.set()


@pytest.mark.usefixtures("hanging_names")
async def test_a_name_server_that_hangs_holds_up_no_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "LONGEST_LOOK_UP", 0.1)
    checking = Guard([])
    async with asyncio.timeout(10):
        assert await checking.check_url("https://hanging.example.com/") is None
    await checking.close()


async def test_a_name_server_that_hangs_holds_up_no_other_host_and_nothing_else_of_the_service(
    hanging_names: threading.Event,
) -> None:
    resolver = Resolver()
    async with running_receiver() as receiver, sender(Guard([ip_network("127.0.0.0/8")], resolver)) as calling:
        hanging = [
            asyncio.create_task(calling.post(f"https://{n}.hanging.example.com/", {}, b"{}")) for n in range(THREADS - 1)
        ]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            assert (await calling.post(receiver.url("localhost"), {}, b"{}")).is_success
            hanging.append(asyncio.create_task(calling.post("https://last.hanging.example.com/", {}, b"{}")))
            await asyncio.sleep(0.05)
            assert await asyncio.to_thread(lambda: "the default executor is free") is not None
        assert not any(task.done() for task in hanging)
        hanging_names.set()
        for sent in await asyncio.gather(*hanging):
            assert sent.status is None


async def test_what_is_no_name_to_the_resolver_is_an_error_of_the_name() -> None:
    resolver = Resolver()
    for name in ("a..b", "a" * 64):
        with pytest.raises(OSError):  # noqa: PT011
            await resolver.resolve(name)
    await resolver.close()


# --- names, when they are called ---


async def test_a_name_that_changes_after_its_registration_is_refused_at_the_connection() -> None:
    async with running_receiver() as receiver:
        checking = guard(names={"receiver.example.com": [[PUBLIC], ["127.0.0.1"]]})
        url = f"https://receiver.example.com:{receiver.port}/?key=secret"
        assert await checking.check_url(url) is None
        sent = await post(checking, url)
        assert receiver.connections == 0
    assert sent.status is None
    assert sent.error == (
        "no connection to receiver.example.com: "
        "127.0.0.1 is a loopback address: webhooks.allowed_networks would have to contain it"
    )


@pytest.mark.parametrize(
    "addresses", [["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.1"], ["10.0.0.5", "fd00::5", "127.0.0.1"]]
)
async def test_of_several_addresses_the_one_that_is_allowed_is_called(addresses: Sequence[str]) -> None:
    async with running_receiver() as receiver, running_receiver("127.0.0.2", port=receiver.port) as other:
        checking = guard("127.0.0.1/32", names={"receiver.example.com": [list(addresses)]})
        assert (await post(checking, receiver.url("receiver.example.com"))).is_success
        assert (receiver.connections, other.connections) == (1, 0)


@pytest.mark.parametrize("addresses", [["10.0.0.5", "127.0.0.1"], ["127.0.0.1", "10.0.0.5"], ["fd00::5", "127.0.0.1"]])
async def test_the_error_names_what_was_refused_though_another_address_failed(addresses: Sequence[str]) -> None:
    checking = guard("127.0.0.1/32", names={"receiver.example.com": [list(addresses)]})
    sent = await post(checking, "http://receiver.example.com:1/?key=secret")
    refused = next(address for address in addresses if address != "127.0.0.1")
    assert f"{refused} is a private address: webhooks.allowed_networks would have to contain it" in (sent.error or "")
    assert (sent.error or "").count(refused) == 1
    assert "secret" not in (sent.error or "")


async def test_a_redirect_leads_nowhere() -> None:
    async with running_receiver() as receiver, running_receiver("127.0.0.2") as inner:
        for location in (inner.url(), receiver.url()):
            receiver.replies_with(answer(302, b"over there", location=location), answer(200))
            sent = await post(guard("127.0.0.1/32"), receiver.url())
            assert (sent.status, sent.error) == (302, "over there")
        assert (len(receiver.seen), inner.connections) == (2, 0)


@pytest.mark.parametrize("host", [PUBLIC, "public.example.com"])
async def test_http_to_a_public_address_is_refused(host: str) -> None:
    sent = await post(guard("127.0.0.0/8", names={"public.example.com": [[PUBLIC]]}), f"http://{host}/")
    assert sent.status is None
    assert f"{PUBLIC} is a public address, which only https: may reach: webhooks.allowed_networks" in (sent.error or "")
