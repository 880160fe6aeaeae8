"""Receivers that are slow, endless, gone or somebody else: what a call makes of them, and how little they cost it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from referral.webhooks import sending
from referral.webhooks.sending import Sender
from tests.conftest import Eventually
from tests.support.receivers import (
    BODY,
    MakeSender,
    Names,
    Receiver,
    Reply,
    answer,
    certificate_for,
    clams_up,
    closes,
    endless,
    hangs,
    held,
    late,
    post,
    raw,
    resets,
    running_receiver,
)

# What the system takes of a body that nobody reads: the buffers of both sockets.
BUFFERED = 30_000_000
# Milliseconds that nothing takes on a busy machine, and less than a sender waits.
AT_ONCE = 10_000


# --- bodies that are worse than their heads ---


def bad_bodies(line: bytes) -> dict[str, Reply]:
    head = line + b"\r\nContent-Length: 1000000000\r\n\r\n"
    many, chunk = b"some" * 16_000, b"fa00\r\n" + b"some" * 16_000 + b"\r\n"
    return {
        "reset": resets(head + b"some"),
        "closed": closes(head + b"some"),
        "bad chunks": raw(line + b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", b"no length\r\n"),
        "silent": clams_up(head + b"some"),
        "slow": endless(head, b"some", 0.02),
        "endless": endless(head, many),
        "endless in chunks": endless(line + b"\r\nTransfer-Encoding: chunked\r\n\r\n", chunk),
        "endless until it is closed": endless(line + b"\r\nConnection: close\r\n\r\n", many),
    }


KINDS = bad_bodies(b"").keys()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_success_stands_whatever_becomes_of_its_body(
    kind: str, sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(sending, "LONGEST_READ", 0.2)
    receiver.replies_with(bad_bodies(b"HTTP/1.1 200 OK")[kind])
    sent = await post(sender, receiver)
    assert (sent.status, sent.error, sent.is_success) == (200, None, True)
    assert sent.milliseconds < AT_ONCE
    await eventually(lambda: not receiver.serving)
    assert receiver.sent < BUFFERED
    receiver.replies_with(answer())
    assert (await post(sender, receiver)).is_success
    assert receiver.connections == 2, "a connection with a rest in it is not used again"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_keeps_its_status_and_what_was_read(
    kind: str, make_sender: MakeSender, receiver: Receiver, eventually: Eventually
) -> None:
    receiver.replies_with(bad_bodies(b"HTTP/1.1 410 Gone")[kind])
    sent = await post(make_sender(0.4), receiver)
    assert (sent.status, sent.is_gone) == (410, True)
    assert (sent.error or "").startswith("some")
    assert len(sent.error or "") <= 500
    assert sent.milliseconds < AT_ONCE
    await eventually(lambda: not receiver.serving)
    assert receiver.sent < BUFFERED


async def test_no_more_than_64_kib_of_a_body_are_read(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(500, b"x" * 65_535), answer(500, b"x" * 200_000), answer())
    for connections in (1, 1, 2):
        await post(sender, receiver)
        assert receiver.connections == connections


# --- time ---


async def test_an_answer_that_is_late_but_in_time_is_one(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(late(0.3, answer(201)))
    sent = await post(sender, receiver)
    assert sent.status == 201
    assert 290 <= sent.milliseconds < AT_ONCE


@pytest.mark.parametrize(
    "reply",
    [
        hangs,
        endless(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n", 0.05),
        endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.05),
    ],
    ids=["no answer", "a head without an end", "hints without an end"],
)
async def test_an_answer_that_does_not_come_is_given_up(reply: Reply, make_sender: MakeSender, receiver: Receiver) -> None:
    receiver.replies_with(reply)
    sent = await post(make_sender(0.3), receiver)
    assert (sent.status, sent.error) == (None, "no answer came within 0.3 seconds")
    assert 290 <= sent.milliseconds < AT_ONCE


async def test_a_call_that_is_cancelled_ends(sender: Sender, receiver: Receiver, eventually: Eventually) -> None:
    receiver.replies_with(hangs)
    calling = asyncio.create_task(post(sender, receiver))
    await eventually(lambda: receiver.seen)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_many_calls_of_one_receiver_are_made_at_once(
    sender: Sender, receiver: Receiver, eventually: Eventually
) -> None:
    # aiohttp's own limit is 100.
    receiver.replies_with(held(answer()))
    calls = [asyncio.create_task(post(sender, receiver)) for _ in range(128)]
    await eventually(lambda: len(receiver.seen) == 128)
    receiver.released.set()
    assert all(sent.is_success for sent in await asyncio.gather(*calls))


async def test_a_refusal_is_told_to_its_own_call_alone(make_sender: MakeSender, receiver: Receiver) -> None:
    names = Names({f"n{n}.example.com": [[f"10.0.0.{n}", "127.0.0.1"]] for n in range(32)})
    sender = make_sender(names=names)
    calls = [sender.post(f"http://n{n}.example.com:1/", {}, BODY) for n in range(32)]
    for n, sent in enumerate(await asyncio.gather(*calls)):
        assert sent.error == (
            f"no connection to n{n}.example.com: Connection refused; "
            f"10.0.0.{n} is a private address: webhooks.allowed_networks would have to contain it"
        )


# --- what is no answer ---

NO_ANSWERS = {
    "closed": (closes(), "the connection broke before an answer came"),
    "reset": (resets(), "the connection broke before an answer came"),
    "half a head": (closes(b"HTTP/1.1 200 OK\r\nContent-"), "the connection broke before an answer came"),
    "no HTTP": (closes(b"SSH-2.0-OpenSSH_9.2\r\n"), "the answer is not understood: "),
    "no HTTP but binary": (closes(bytes(range(256))), "the answer is not understood: "),
    "a huge header": (
        closes(b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 100_000 + b"\r\n\r\n"),
        "the answer is not understood: ",
    ),
    "many headers": (closes(b"HTTP/1.1 200 OK\r\n" + b"X-More: 1\r\n" * 10_000 + b"\r\n"), "the answer is not understood: "),
    "headers without an end": (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n" * 1000), "the answer is not understood: "),
    "a header with a line break": (closes(b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n"), "the answer is not understood: "),
}


@pytest.mark.parametrize(("reply", "error"), NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_what_is_no_answer_is_a_failure_in_words(reply: Reply, error: str, sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(reply)
    sent = await post(sender, receiver)
    assert (sent.status, sent.is_success, sent.retry_after) == (None, False, None)
    assert sent.error is not None
    assert sent.error.startswith(error)
    assert sent.error.isprintable()
    assert "secret" not in sent.error
    assert len(sent.error) <= 500
    assert len(receiver.seen) == 1, "nothing is tried again that was not sent on a kept connection"
    assert receiver.sent < BUFFERED


async def test_http_1_0_is_understood(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(closes(b"HTTP/1.0 500 Oh\r\n\r\nwhy"))
    sent = await post(sender, receiver)
    assert (sent.status, sent.error) == (500, "why")
    receiver.replies_with(closes(b"HTTP/1.0 200 OK\r\n\r\nfine"))
    assert (await post(sender, receiver)).is_success


async def test_nobody_there_and_no_such_name_are_failures_in_words(make_sender: MakeSender) -> None:
    sender = make_sender(names=Names({}))
    sent = await sender.post("http://127.0.0.1:1/?key=secret", {}, BODY)
    assert sent.error == "no connection to 127.0.0.1: Connection refused"
    sent = await sender.post("http://nowhere.example.com/?key=secret", {}, BODY)
    assert sent.error == "nowhere.example.com does not resolve: no such name"


# --- connections that are kept ---


async def test_a_connection_is_kept(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(200, b"fine"), answer(204), answer(500, b"no"), answer())
    for _ in range(4):
        await post(sender, receiver)
    assert (receiver.connections, len(receiver.seen)) == (1, 4)


async def test_a_kept_connection_that_was_closed_since_is_no_failure(
    sender: Sender, receiver: Receiver, eventually: Eventually
) -> None:
    receiver.replies_with(closes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), answer())
    assert (await post(sender, receiver)).is_success
    await eventually(lambda: not receiver.serving)
    assert (await post(sender, receiver)).is_success
    assert (receiver.connections, len(receiver.seen)) == (2, 2)


@pytest.mark.parametrize("breaks", [closes(), resets()], ids=["closed", "reset"])
async def test_a_kept_connection_that_is_closed_while_it_is_used_is_tried_once_more(
    breaks: Reply, sender: Sender, receiver: Receiver
) -> None:
    receiver.replies_with(answer(), breaks, answer(202))
    assert (await post(sender, receiver)).is_success
    assert (await post(sender, receiver)).status == 202
    assert (receiver.connections, len(receiver.seen)) == (2, 3)
    assert receiver.seen[1] == receiver.seen[2]


async def test_what_is_tried_once_more_is_tried_on_a_new_connection_and_no_third_time(
    sender: Sender, receiver: Receiver
) -> None:
    receiver.replies_with(*[late(0.05, answer())] * 3, closes())
    await asyncio.gather(*(post(sender, receiver) for _ in range(3)))
    sent = await post(sender, receiver)
    assert (sent.status, sent.error) == (None, "the connection broke before an answer came")
    assert (receiver.connections, len(receiver.seen)) == (4, 5)


async def test_an_answer_that_began_is_not_asked_for_again(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(), closes(b"HTTP/1.1 200 OK\r\nContent-"), answer())
    assert (await post(sender, receiver)).is_success
    assert (await post(sender, receiver)).status is None
    assert len(receiver.seen) == 2


async def test_two_attempts_have_no_more_time_than_one(make_sender: MakeSender, receiver: Receiver) -> None:
    receiver.replies_with(answer(), late(2.5, closes()), hangs)
    sender = make_sender(3)
    assert (await post(sender, receiver)).is_success
    started = time.monotonic()
    assert (await post(sender, receiver)).error == "no answer came within 3 seconds"
    assert time.monotonic() - started < 5


# --- TLS ---


async def test_a_certificate_of_the_name_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_sender: MakeSender
) -> None:
    tls, file = certificate_for("receiver.example.com", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    sender = make_sender(names=Names({"receiver.example.com": [["127.0.0.1"]]}))
    async with running_receiver(tls=tls) as receiver:
        for _ in range(2):
            assert (await sender.post(receiver.url("receiver.example.com"), {}, BODY)).status == 200
        assert (receiver.connections, receiver.seen[0].headers["host"]) == (1, f"receiver.example.com:{receiver.port}")


@pytest.mark.parametrize("kind", ["endless", "silent"])
async def test_over_tls_a_body_is_cut_at_once_too(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_sender: MakeSender, eventually: Eventually
) -> None:
    tls, file = certificate_for("127.0.0.1", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(sending, "LONGEST_READ", 0.2)
    async with running_receiver(tls=tls) as receiver:
        receiver.replies_with(bad_bodies(b"HTTP/1.1 200 OK")[kind])
        assert (await post(make_sender(), receiver)).is_success
        # A close in the way of TLS would wait for the receiver for half a minute.
        await eventually(lambda: not receiver.serving)
        assert receiver.sent < BUFFERED


@pytest.mark.parametrize(
    ("name", "trusted", "reason"),
    [
        ("receiver.example.com", False, "self-signed certificate"),
        ("other.example.com", True, "Hostname mismatch, certificate is not valid for 'receiver.example.com'."),
        ("127.0.0.1", True, "Hostname mismatch, certificate is not valid for 'receiver.example.com'."),
    ],
)
async def test_any_other_certificate_is_refused(
    name: str,
    trusted: bool,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_sender: MakeSender,
) -> None:
    tls, file = certificate_for(name, tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    sender = make_sender(names=Names({"receiver.example.com": [["127.0.0.1"]]}))
    async with running_receiver(tls=tls) as receiver:
        sent = await sender.post(receiver.url("receiver.example.com"), {}, BODY)
        assert receiver.seen == []
    assert sent.status is None
    assert sent.error == f"the certificate of receiver.example.com is refused: {reason}"


async def test_https_to_what_speaks_no_tls_is_a_failure_in_words(sender: Sender) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sent = await sender.post(f"https://127.0.0.1:{port}/?key=secret", {}, BODY)
    assert (sent.status, sent.error) == (None, "TLS with 127.0.0.1 fails: WRONG_VERSION_NUMBER")
