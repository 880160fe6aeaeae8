"""One call of a webhook: what a receiver gets, and what its answer means. The receivers are real servers."""

from __future__ import annotations

import gzip
import time
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from referral import __version__, clock
from referral.webhooks.sending import Sender, Sent
from tests.support.receivers import BODY, MakeSender, Receiver, answer, post, raw, running_receiver


def shortened(value: object) -> str:
    return repr(value)[:40]


# --- what is sent ---


async def test_the_receiver_gets_the_body_and_the_headers_as_they_are(sender: Sender, receiver: Receiver) -> None:
    sent = await post(sender, receiver)
    assert (sent.status, sent.error, sent.is_success, sent.is_gone) == (200, None, True, False)
    [seen] = receiver.seen
    assert seen.line == "POST /hook?key=secret HTTP/1.1"
    assert seen.body == BODY
    assert seen.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "user-agent": f"referral/{__version__}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-length": str(len(BODY)),
    }
    with pytest.raises(FrozenInstanceError):
        sent.status = 500  # type: ignore[misc]


@pytest.mark.parametrize("host", ["::1", "127.0.0.5"])
async def test_an_address_is_called_as_it_is_written(host: str, sender: Sender) -> None:
    async with running_receiver(host) as receiver:
        assert (await post(sender, receiver)).is_success


async def test_nothing_is_taken_from_the_environment(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_sender: MakeSender
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with running_receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await post(make_sender(), receiver)).is_success
        assert (proxy.connections, receiver.connections) == (0, 1)
    assert "authorization" not in receiver.seen[0].headers


async def test_cookies_are_not_kept(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(200, set_cookie="seen=1; Path=/"))
    for _ in range(2):
        assert (await post(sender, receiver)).is_success
    assert all("cookie" not in seen.headers for seen in receiver.seen)


async def test_a_url_without_the_shape_of_one_is_an_error_and_no_exception(sender: Sender) -> None:
    assert await sender.post("https://user@example.com/", {}, BODY) == Sent(
        None, "the URL must not have user information", 0, None
    )


# --- what the answer means ---


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_each_2xx_is_a_success(status: int, sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(status))
    sent = await post(sender, receiver)
    assert (sent.status, sent.error, sent.is_success) == (status, None, True)


@pytest.mark.parametrize("status", [101, 300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 429, 500, 503, 599])
async def test_no_other_status_is(status: int, sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(status, b"" if status in (101, 304) else b"why", location=receiver.url()))
    sent = await post(sender, receiver)
    assert (sent.status, sent.is_success, sent.is_gone) == (status, False, status == 410)
    assert sent.error == ("" if status in (101, 304) else "why")
    assert len(receiver.seen) == 1, "redirects are not followed"


async def test_informational_answers_are_passed_over(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(raw(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
    assert (await post(sender, receiver)).status == 204


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", ""),
        ("нет".encode(), "нет"),
        (b"<p>\r\n\tno\x00\x1b[31m \xff\xfe</p>", "<p>   no\ufffd\ufffd[31m \ufffd\ufffd</p>"),
        ("\u202eabc\u2028\ue000".encode(), "\ufffdabc \ufffd"),
        (b"x" * 600, "x" * 500),
        ("я".encode() * 70_000, "я" * 500),
    ],
    ids=shortened,
)
async def test_the_beginning_of_a_failure_is_kept_and_harmless(
    body: bytes, error: str, sender: Sender, receiver: Receiver
) -> None:
    receiver.replies_with(answer(500, body))
    assert (await post(sender, receiver)).error == error


async def test_what_is_compressed_stays_so(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(500, gzip.compress(b"x" * 1000), content_encoding="gzip"))
    assert "xxx" not in ((await post(sender, receiver)).error or "xxx")


NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("120", 120_000),
        ("007", 7_000),
        ("86400", 86_400_000),
        ("86401", 86_400_000),
        ("9" * 5_000, 86_400_000),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120_000),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=2), usegmt=True), 86_400_000),
        ("Sunday, 31-Jan-27 12:02:00 GMT", 120_000),
        ("Sun Jan 31 12:02:00 2027", 120_000),
        *((garbage, None) for garbage in ("soon", "", "-5", "+5", "1.5", "1e3", "0x10", "５", "5, 6", "5 s")),
        *(
            (garbage, None)
            for garbage in ("Sun, 31 Jan 99999 12:00:00 GMT", "9" * 20 + " Jan 2027 12:00:00 GMT", "x" * 5_000)
        ),
        *((garbage, None) for garbage in ("Sun, 99 Jan 2027 12:00:00 GMT", "Sun, 31 Jan 2027 12:00:00 +9999")),
    ],
    ids=shortened,
)
async def test_retry_after_is_read_in_both_forms(
    value: str, expected: int | None, sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: int(NOW.timestamp() * 1000))
    receiver.replies_with(answer(503, retry_after=value))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        sent = await post(sender, receiver)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (sent.status, sent.retry_after) == (503, expected)


async def test_without_retry_after_there_is_none(sender: Sender, receiver: Receiver) -> None:
    receiver.replies_with(answer(503))
    assert (await post(sender, receiver)).retry_after is None
