"""One-time passwords: what RFC 6238 says, how far clocks may differ, and recovery codes as people type them."""

from __future__ import annotations

import base64

import pytest

from referral.auth.totp import new_recovery_codes, new_secret, recovery_hash, step_of, uri_of

# RFC 6238, appendix B: the secret of SHA-1, and the last six of the digits.
SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the database."""
    return "sqlite"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    assert step_of(SECRET, code, seconds * 1000) == seconds // 30
    assert step_of(SECRET, f" {code[:3]} {code[3:]} ", seconds * 1000) == seconds // 30
    # Clocks may differ by a step, and no more.
    for late, is_good in ((-30, True), (30, True), (60, False), (90, False)):
        if seconds + late >= 30:
            assert (step_of(SECRET, code, (seconds + late) * 1000) is not None) == is_good


@pytest.mark.parametrize("code", ["", "28708", "2870820", "287083", "２８７０８２", "\x00", "x" * 5000, "-87082", "287 08"])
def test_anything_else_is_wrong(code: str) -> None:
    assert step_of(SECRET, code, 59_000) is None


def test_secrets_are_long_and_the_uri_says_whose_they_are() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    secret = new_secret()
    assert len(base64.b32decode(secret)) == 20
    uri = uri_of(secret, "Ж&a@example.com", "r.example.com")
    assert uri.startswith("otpauth://totp/r.example.com:%D0%96%26a%40example.com?")
    assert f"secret={secret}" in uri
    assert "issuer=r.example.com" in uri


def test_recovery_codes_are_found_however_they_are_typed() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == 10
    for code in codes:
        assert len(code) == 19
        assert recovery_hash(code) == recovery_hash(code.lower().replace("-", " ")) == recovery_hash(code.replace("-", ""))
    assert recovery_hash("0101-0101-0101-0101") == recovery_hash("oIoL-o1Oi-0l0i-olol")
    for wrong in ("", "123456", "0101-0101-0101-010", "U101-0101-0101-0101", "Ж" * 16, "0" * 5000):
        assert recovery_hash(wrong) is None
