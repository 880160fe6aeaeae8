"""Texts of others lose their addresses, however these are written, and nothing else."""

from __future__ import annotations

import logging
import sys
import time

import hypothesis
import hypothesis.strategies as st
import pytest

from referral.log import JsonFormatter, TextFormatter
from referral.texts import without_addresses

# Each in a sentence; what is in front of it and after it stays.
SPELLINGS = [
    *(
        "alice@example.com",
        "ALICE@EXAMPLE.COM",
        "Alice+tag@mail.Example.com",
        "o'brien@example.com",
        "a.b-c_d/e=f@example.com",
    ),
    *(
        "alice@xn--mller-kva.de",
        "alice@müller.de",
        "иван@пример.рф",
        "用户@例子.公司",
        "alice@localhost",
        "alice@[192.0.2.1]",
    ),
    *("alice@[IPv6:2001:db8::1]", '"alice smith"@example.com', '"a\\"b c"@example.com', '\\"alice smith\\"@example.com'),
    *(
        "alice＠example.com",
        "alice﹫example.com",
        "alice%40example.com",
        "alice%2540example.com",
        "alice%EF%BC%A0example.com",
    ),
    *("alice&#64;example.com", "alice&#x40;example.com", "alice&commat;example.com", "alice\\u0040example.com"),
    *("alice+40example.com", "alice=40example.com", "alice=40m=C3=BCller.de", "alice @ example.com", "alice @example.com"),
    *("mailto:alice@example.com", "@relay.example:alice@example.com", "bounce+alice=example.com@relay.example", "alice@"),
    *("https://api.example/verify?email=alice%40example.com&key=x", "email=alice@example.com", "a@b@c"),
]
HARMLESS = [
    "451 4.7.1 Try again later, see https://example.com/why?id=40",
    "size=4096 limit=40 took +40 ms at 2027-01-31T12:00:00+04:00, 40% done",
    "connection to 127.0.0.1:5432 refused [Errno 111]",
    'the server said "no" and \\"never\\"',
    "parameters token_hash, user_id; x=40; 1+40=41",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("around", ["{}", "to <{}> no", "Key (email)=({}) exists.", "550 {} is unknown", "[{}, '{}']"])
def test_an_address_is_taken_away_however_it_is_written(spelling: str, around: str) -> None:
    found = without_addresses(around.format(spelling, spelling))
    assert found.count("[address]") == around.count("{}")
    assert not [
        part for part in ("alice", "smith", "xample", "ller", "иван", "例", "192.0.2.1", "brien") if part in found.lower()
    ]
    # Of what begins with the sign, the word before it might be the beginning.
    assert found.startswith(around.partition("{")[0]) or spelling.startswith("@")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_address_stays(text: str) -> None:
    assert without_addresses(text) == text


@hypothesis.given(st.text(max_size=60), st.text(max_size=60))
def test_no_at_sign_is_left_whatever_is_around_it(before: str, after: str) -> None:
    assert "@" not in without_addresses(f"{before}@{after}")


@pytest.mark.parametrize("part", ["a", '"', '\\"', "\\", "@", " @", "a ", "=40a.", "%25", "a=40", "[=40a-", "<(", '"a '])
def test_its_time_grows_with_the_length_alone(part: str) -> None:
    def seconds(length: int) -> float:
        text = part * (length // len(part))
        started = time.process_time()
        without_addresses(text)
        return time.process_time() - started

    # Ten times the length in the square would take a hundred times as long.
    assert min(seconds(20_000) for _ in range(3)) < 40 * max(min(seconds(2_000) for _ in range(3)), 0.001)


def test_no_message_and_no_traceback_keeps_an_address() -> None:
    try:
        raise ValueError('duplicate key: DETAIL: Key (email_key)=(alice@example.com); "alice smith"@Example.COM')
    except ValueError:
        record = logging.LogRecord(
            "referral", logging.ERROR, "x", 1, "Redis said %s", ("-ERR alice%40example.com",), sys.exc_info()
        )
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record)
        assert line.count("[address]") >= 3
        assert "alice" not in line
