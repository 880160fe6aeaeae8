"""Services that share a database share the key of access tokens: the database belongs to one, and to what it is rotated
to."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from referral.auth.key_claim import accept_key, claim_database
from referral.auth.signing_keys import open_keys
from referral.config import ConfigError, load_config
from referral.config.sections import Auth
from referral.database import Database
from referral.database.opening import open_database
from tests.support.commands import refusal, run_command, serve
from tests.support.rows import sql

FIRST, SECOND, THIRD = (f"the {name} secret of this test, long enough" for name in ("first", "second", "third"))
REFUSED = (
    r"auth\.{}: the database belongs to another one, whose access tokens this service would refuse; give all services the "
    r"same, or let this one take its place by `python run\.py keys accept` \(read from {}\)"
)


def auth(secret: str = "", previous: str = "", algorithm: str = "HS256") -> Auth:
    return replace(load_config(environ={}).auth, secret=secret, previous_secret=previous, algorithm=algorithm)


async def start(database: Database, *secrets: str) -> None:
    config = auth(*secrets)
    await claim_database(database, open_keys(config), config)


async def is_refused(database: Database, *secrets: str) -> bool:
    try:
        await start(database, *secrets)
    except ConfigError as error:
        line = str(error)
    else:
        return False
    assert re.fullmatch(REFUSED.format("secret", "the settings"), line)
    return True


async def test_a_database_belongs_to_the_first_key_and_to_what_it_is_rotated_to(database: Database) -> None:
    await start(database, FIRST)
    await start(database, FIRST)
    assert await is_refused(database, SECOND)
    # A rotation: the new one comes with the one before. Whoever is restarted later still has that one alone.
    await start(database, SECOND, FIRST)
    await start(database, FIRST)
    await start(database, SECOND)
    assert await is_refused(database, THIRD)
    assert await is_refused(database, THIRD, FIRST)
    await start(database, THIRD, SECOND)
    assert await is_refused(database, FIRST)
    # Back to where it came from.
    await start(database, SECOND, THIRD)


async def test_a_key_of_another_algorithm_is_another_key(database: Database) -> None:
    await start(database, FIRST)
    config = auth(algorithm="EdDSA")
    with pytest.raises(ConfigError) as refused:
        await claim_database(database, open_keys(config), config)
    assert re.fullmatch(REFUSED.format("key_file", r".*/var/key\.pem"), str(refused.value))
    await accept_key(database, open_keys(config))
    await claim_database(database, open_keys(config), config)
    assert await is_refused(database, FIRST)


async def test_of_two_that_are_first_at_once_one_is(database_url: str) -> None:
    databases = [await open_database(database_url) for _ in range(2)]
    secrets = [f"secret number {number} of this test, long enough" for number in range(8)]
    refused = await asyncio.gather(*(is_refused(databases[number % 2], secret) for number, secret in enumerate(secrets)))
    assert refused.count(False) == 1
    # And of two that are rotated at once from the same key.
    owner = secrets[refused.index(False)]
    refused = await asyncio.gather(
        *(is_refused(databases[number % 2], f"{secret} anew", owner) for number, secret in enumerate(secrets))
    )
    assert refused.count(False) == 1
    for database in databases:
        await database.close()


async def test_a_key_that_is_accepted_takes_the_place_of_the_other_one(database: Database) -> None:
    await start(database, FIRST)
    await accept_key(database, open_keys(auth(SECOND)))
    await start(database, SECOND)
    assert await is_refused(database, FIRST)


async def test_what_is_kept_of_a_secret_is_neither_the_secret_nor_the_name_that_tokens_have_of_it(
    database: Database, database_url: str
) -> None:
    await start(database, FIRST)
    [row] = await sql(database_url, "SELECT * FROM signing_key")
    [key] = open_keys(auth(FIRST))
    assert key.fingerprint in row
    for text in (FIRST, key.id):
        assert text not in str(row)


# What a claim does on each dialect and with each algorithm is asked above, without the nine processes of this test.
@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_second_container_with_a_secret_of_its_own_is_refused_until_it_is_accepted(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"REFERRAL_DATABASE_URL": database_url, "REFERRAL_CACHE_URL": "none://"}
    refused = REFUSED.format("secret", ".*/var/secret")

    def call(*arguments: str) -> CompletedProcess[str]:
        return run_command(*arguments, stdin=b"", **settings)

    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.chdir(first)
    with serve(**settings):
        # Rotated twice, beside the running service.
        for _ in range(2):
            assert call("rotate-keys").stderr == ""
        monkeypatch.chdir(second)
        assert re.fullmatch(refused, refusal(call()))
        assert re.fullmatch(refused, refusal(run_command(stdin=b"", REFERRAL_SERVER_WORKERS="2", **settings)))
    monkeypatch.chdir(first)
    with serve(**settings):
        pass
    monkeypatch.chdir(second)
    assert call("keys", "accept").returncode == 0
    with serve(**settings):
        pass
    monkeypatch.chdir(first)
    assert re.fullmatch(refused, refusal(call()))
