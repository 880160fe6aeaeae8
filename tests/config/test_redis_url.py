"""Addresses of a Redis: what each says, and that a wrong one is told in one line which does not repeat it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from referral.config import ConfigError, load_config
from referral.config.redis_url import RedisAddress, parse_redis_url
from tests.support.smtp_server import Certificate

PLAIN = RedisAddress((("host", 6379),), None, None, 0, None, None, None, None, False, None, None, None)
SENTINELS = replace(PLAIN, hosts=(("one", 26379), ("two", 1)), master="my.master-1")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", PLAIN),
        ("redis://host/", PLAIN),
        ("redis://host:1/15", replace(PLAIN, hosts=(("host", 1),), database=15)),
        ("redis://[::1]:1", replace(PLAIN, hosts=(("::1", 1),))),
        ("redis://:p%40ss%3A@host", replace(PLAIN, password="p@ss:")),
        ("rediss://u:a-secret@host/0", replace(PLAIN, username="u", password="a-secret", tls=True)),
        ("unix:///run/my%20redis.sock", replace(PLAIN, hosts=(), socket="/run/my redis.sock")),
        (
            "unix://u:a-secret@/redis.sock?db=2",
            replace(PLAIN, hosts=(), socket="/redis.sock", database=2, username="u", password="a-secret"),
        ),
        ("redis+sentinel://one,two:1/my.master-1", SENTINELS),
        ("redis+sentinel://one,two:1/my.master-1/", SENTINELS),
        ("redis+sentinel://one,two:1/my.master-1/3", replace(SENTINELS, database=3)),
        ("redis+sentinel://[::1]:1,[::2]/m", replace(SENTINELS, hosts=(("::1", 1), ("::2", 26379)), master="m")),
        (
            "rediss+sentinel://u:a-secret@one,two:1/my.master-1?sentinel_user=s&sentinel_password=p%40ss%26",
            replace(
                SENTINELS,
                username="u",
                password="a-secret",
                sentinel_username="s",
                sentinel_password="p@ss&",
                tls=True,
            ),
        ),
        (
            "redis+sentinel://one,two:1/my.master-1?sentinel_password=a-secret",
            replace(SENTINELS, sentinel_password="a-secret"),
        ),
    ],
)
def test_addresses_of_a_redis(url: str, address: RedisAddress) -> None:
    assert load_config(environ={"REFERRAL_CACHE_URL": url}).cache.url == url
    assert parse_redis_url(url) == address
    assert "a-secret" not in repr(address)
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "redis:",
        "redis:///0",
        "redis://:a-secret@",
        "redis://:a-secret@:6379/0",
        "redis://u:a-secret@host:70000/0",
        "redis://u:a-secret@host:0/0",
        "redis://u:a-secret@host:port/0",
        "redis://u:a-secret@host/first",
        "redis://u:a-secret@host/0/1",
        "redis://u:a-secret@one,two/0",
        "redis://u:a-secret@host/0?socket_timeout=never",
        "redis://u:a-secret@host/0?ca=/a/b.pem",
        "redis://u:a-secret@host/0?sentinel_password=a-secret",
        "redis://u:a-secret@host/0?a-secret",
        "redis://u:a-secret/1@host/0",
        "rediss://u:a-secret@host/0?ca=",
        "rediss://u:a-secret@host/0?ca=a&ca=b",
        "rediss://u:a-secret@host/0?ca=a&ssl_cert_reqs=none",
        "redis://u:a-secret@host/0#1",
        "unix://a-secret/socket",
        "unix://u:a-secret@",
        "unix://u:a-secret@/",
        "unix://u:a-secret@/socket?db=first",
        "redis+sentinel://u:a-secret@host",
        "redis+sentinel://u:a-secret@host/",
        "redis+sentinel://u:a-secret@host//0",
        "redis+sentinel://u:a-secret@host/my%20master",
        "redis+sentinel://u:a-secret@one,,two/master",
        "redis+sentinel://u:a-secret@one/master?ca=a",
        "unix+sentinel://u:a-secret@one/master",
    ],
)
def test_a_wrong_address_stops_the_start_with_one_line_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^cache\.url: must be memory://, none://, redis://") as refused:
        load_config(environ={"REFERRAL_CACHE_URL": url})
    assert "a-secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path)
    file, key, locked = certificate.file, certificate.key, tmp_path / "locked.key"
    lock = ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:a-secret", "-out", str(locked)]
    subprocess.run(lock, check=True, capture_output=True)
    for options in (
        f"ca={tmp_path}/none.pem",
        f"ca={key}",
        f"cert={file}",
        f"cert={file}&key={file}",
        f"cert={file}&key={tmp_path}/none.key",
        f"cert={file}&key={locked}",
    ):
        with pytest.raises(ConfigError, match=r"^cache\.url: has a ca, cert or key that is no readable file"):
            load_config(environ={"REFERRAL_CACHE_URL": f"rediss://host?{options}"})
    with pytest.raises(ConfigError, match=r"^cache\.url: has key without cert"):
        load_config(environ={"REFERRAL_CACHE_URL": f"rediss://host?key={key}"})
    with pytest.raises(ConfigError, match=r"^cache\.url: has sentinel_user without sentinel_password"):
        load_config(environ={"REFERRAL_CACHE_URL": "redis+sentinel://host/master?sentinel_user=a"})
    both = tmp_path / "both.pem"
    both.write_bytes(file.read_bytes() + key.read_bytes())
    for options in (f"ca={file}", f"cert={file}&key={key}", f"cert={both}"):
        assert parse_redis_url(f"rediss://host?{options}").tls_context()
