"""HTTP itself, through raw sockets: what is malformed, ambiguous or absurd is refused with a problem and the connection
closed, never taken for two requests, and never a fault of the service."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.service import serving

HOST = b"Host: localhost\r\n"
# Behind everything that is sent: were it answered, what came before it would have smuggled it in.
SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\n" + HOST
POST = b"POST /api/v1/auth/revoke HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a running service, and its log."""
    folder = tmp_path_factory.mktemp("http")
    with serving(folder, REFERRAL_LIMITS_ENABLED="false") as address:
        yield urlsplit(address).port or 0, folder / "service.log"


@pytest.fixture
def port(server: tuple[int, Path]) -> Iterator[int]:
    """The port; whatever the test sends, the service has nothing to complain of itself and goes on."""
    number, log = server
    before = log.stat().st_size
    yield number
    assert [answer.status for answer in exchange(number, LIVE + b"Connection: close\r\n\r\n")] == [200]
    said = log.read_bytes()[before:].decode()
    assert "Traceback" not in said, said
    assert " ERROR " not in said, said


@dataclass
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, data: bytes, *, end: bool = False) -> list[RawAnswer]:
    """Send the bytes and read answers until the service closes the connection, for which it has five seconds.

    With `end`, our side of it is closed first.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        received = b""
        try:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65_536):
                received += chunk
        except (BrokenPipeError, ConnectionResetError):
            # It closed while there was more to read: the rest of what we sent.
            pass
    return list(parsed(received))


def parsed(received: bytes) -> Iterator[RawAnswer]:
    """The answers one after the other, every one of them whole."""
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version in ("HTTP/1.0", "HTTP/1.1")
        headers = dict(line.split(": ", 1) for line in lines)
        if status == "100":
            continue
        length = int(headers.get("Content-Length", 0))
        assert len(received) >= length
        yield RawAnswer(int(status), headers, received[:length])
        received = received[length:]


def assert_refused(answers: list[RawAnswer], status: int = 400, name: str = "bad-request") -> None:
    """One problem document, with everything that an error of the application has, and nothing behind it."""
    assert [answer.status for answer in answers] == [status], answers
    answer = answers[0]
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = json.loads(answer.body)
    assert document.keys() == {"type", "title", "status", "detail", "instance", "request_id"}
    assert document["type"] == f"/problems/{name}"
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "referral"


MALFORMED = {
    "a content length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a content length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two content lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\ntoken=",
    "the same content length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\ntoken",
    "a list of content lengths": POST + b"Content-Length: 5, 5\r\n\r\ntoken",
    "a content length with a sign": POST + b"Content-Length: +5\r\n\r\ntoken",
    "a negative content length": POST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal content length": POST + b"Content-Length: 0x5\r\n\r\ntoken",
    "a content length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "a content length in other digits": POST + "Content-Length: ٥\r\n\r\ntoken".encode(),
    "a content length beyond any number": POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
    "a transfer encoding nobody knows": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks in two headers": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks spelt with a prefix": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk size with a sign": POST + b"Transfer-Encoding: chunked\r\n\r\n+5\r\ntoken\r\n0\r\n\r\n",
    "a chunk size with 0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\ntoken\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\ntoken\r\n0\r\n\r\n",
    "a chunk size beyond any number": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 400 + b"\r\n",
    "a chunk ended by a bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n5\ntoken\r\n0\r\n\r\n",
    "lines ended by bare LF": b"GET /health/live HTTP/1.1\nHost: localhost\n\n",
    "a header ended by a bare CR": LIVE + b"X-Note: a\rX-Other: b\r\n\r\n",
    "a NUL in a header": LIVE + b"X-Note: a\0b\r\n\r\n",
    "a control character in a header": LIVE + b"X-Note: a\x01b\r\n\r\n",
    "a NUL in a header's name": LIVE + b"X-No\0te: a\r\n\r\n",
    "a header without a name": LIVE + b": value\r\n\r\n",
    "a header without a colon": LIVE + b"note\r\n\r\n",
    "a header of 10,000 characters": LIVE + b"X-Note: " + b"a" * 10_000 + b"\r\n\r\n",
    "a header's name of 10,000 characters": LIVE + b"a" * 10_000 + b": b\r\n\r\n",
    "10,000 headers": LIVE + b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)) + b"\r\n",
    "an address of 10,000 characters": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in an address": b"GET /health/live x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a NUL in an address": b"GET /health\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a relative address": b"GET health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "an address with half an IPv6 address": b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "an address with a port that is none": b"GET http://localhost:port/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method with a space": b"GE T /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method of other characters": b"G\xc3\x89T /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /health/live\r\n\r\n",
    "HTTP/2 with a preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.11": b"GET /health/live HTTP/1.11\r\n" + HOST + b"\r\n",
    "another protocol": b"GET /health/live JUNK/1.1\r\n" + HOST + b"\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n\r\n",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_are_refused_and_nothing_is_smuggled(port: int, what: str) -> None:
    assert_refused(exchange(port, MALFORMED[what] + SMUGGLED))


HOSTS = {
    "no host": b"",
    "two hosts": HOST + b"Host: other\r\n",
    "a host with a space": b"Host: local host\r\n",
    "a host with a path": b"Host: localhost/path\r\n",
    "a host with a user": b"Host: somebody@localhost\r\n",
    "half an IPv6 address": b"Host: [::1\r\n",
    "a port that is none": b"Host: localhost:http\r\n",
    "bytes that are no text": b"Host: \xff\xfe\r\n",
}


@pytest.mark.parametrize("what", HOSTS)
def test_a_request_without_one_proper_host_is_refused(port: int, what: str) -> None:
    request = b"GET /health/live HTTP/1.1\r\n" + HOSTS[what] + b"\r\n"
    assert_refused(exchange(port, request + SMUGGLED))


@pytest.mark.parametrize("host", ["localhost", "example.com:443", "[::1]:8000", "127.0.0.1", "an_underscore", ""])
def test_every_proper_host_is_served(port: int, host: str) -> None:
    request = f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert [answer.status for answer in exchange(port, request.encode())] == [200]


def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    # An empty line, a body of a request that takes none, chunks, and a body that looks like a request.
    inner = b"token=" + SMUGGLED.replace(b"\r\n", b"%0D%0A")
    data = (
        b"\r\n" + LIVE + b"Content-Length: 5\r\n\r\ntoken"
        b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"
        b"POST /nowhere HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\nX-Trailer: 1\r\n\r\n"
        + POST
        + b"Content-Length: %d\r\n\r\n" % len(inner)
        + inner
        + LIVE
        + b"Connection: close\r\n\r\n"
    )
    assert [answer.status for answer in exchange(port, data)] == [200, 404, 404, 200, 200]


def test_a_hundred_pipelined_requests_are_all_answered(port: int) -> None:
    answers = exchange(port, (LIVE + b"\r\n") * 100 + LIVE + b"Connection: close\r\n\r\n")
    assert [answer.status for answer in answers] == [200] * 101


def test_after_saying_close_nothing_more_is_answered(port: int) -> None:
    # RFC 9112 section 9.6: the client takes what it sent behind for lost, and sends it again elsewhere.
    register = POST.replace(b"revoke", b"register")
    for request, name, status in (
        (register + b"Content-Length: 70000\r\n\r\n" + b"a" * 70_000, "payload-too-large", 413),
        (register + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\ntoken", "unsupported-encoding", 415),
        (LIVE + b"Expect: miracles\r\n\r\n", "expectation-failed", 417),
    ):
        answers = exchange(port, request + LIVE + b"\r\n")
        assert_refused(answers, status, name)
        assert answers[0].headers["Connection"] == "close"


def test_absolute_and_asterisk_addresses(port: int) -> None:
    # RFC 9112 section 3.2.2: a server must take the absolute form; which host it names is nothing to this service.
    absolute = b"GET http://elsewhere.example/health/live HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    assert [answer.status for answer in exchange(port, absolute)] == [200]
    for target in (b"OPTIONS *", b"CONNECT localhost:80", b"GET //elsewhere.example/health/live", b"GET //[::1/"):
        (answer,) = exchange(port, target + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert answer.status == 404
        assert json.loads(answer.body)["type"] == "/problems/not-found"


def test_an_upgrade_is_declined_by_answering(port: int) -> None:
    for protocol in (b"h2c", b"websocket", b"TLS/1.0"):
        upgrade = LIVE + b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n\r\n"
        assert [answer.status for answer in exchange(port, upgrade)] == [200]


def test_a_request_that_breaks_off_is_not_answered(port: int) -> None:
    for data in (
        b"",
        b"GET",
        LIVE,
        POST + b"Content-Length: 5\r\n\r\ntok",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nto",
    ):
        assert exchange(port, data, end=True) == []


def test_headers_of_any_bytes_are_no_fault_of_the_service(port: int) -> None:
    for name in (
        "Accept-Language",
        "Authorization",
        "Content-Type",
        "Cookie",
        "Forwarded",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "Origin",
        "Range",
        "User-Agent",
        "X-Forwarded-For",
        "X-Request-ID",
    ):
        for value in (
            b"\xff\xfe",
            "\u0661\u00e9".encode(),
            b"Bearer \xff.\xff.\xff",
            b"bytes=9-1",
            b";q=nan, *;q=1e999",
            b"%00",
            b",,,",
        ):
            for request in (
                b"GET /assets/page.css HTTP/1.1\r\n",
                b"GET /api/v1/users/me HTTP/1.1\r\n",
                b"POST /api/v1/auth/password/reset HTTP/1.1\r\nContent-Length: 0\r\n",
            ):
                head = request + HOST + name.encode() + b": " + value + b"\r\nConnection: close\r\n\r\n"
                (answer,) = exchange(port, head)
                assert answer.status in (200, 304, 401, 415), (head, answer)
                assert answer.headers["X-Request-ID"].isascii()
