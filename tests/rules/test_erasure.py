"""What an erasure leaves: nothing of the person in the record, the mail folder, Redis, or the bytes of the database's
files."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import asyncio as aioredis

from referral.background.mailer import MAILER
from referral.database import sqlite_path
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import Person, read_mails
from tests.support.rows import FEED, count, everything, sql
from tests.support.servers import RedisServer

NAME, ADDRESS = "Wilhelmina", "w.oesterreicher@personal.example"
OWN_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


async def live(client: Client, mail_folder: Path, eventually: Eventually) -> Person:
    """Somebody whose data is wherever the service puts any."""
    person = await Person.register(client, NAME, email=ADDRESS)
    headers = {"X-Request-ID": ADDRESS, "User-Agent": f"{NAME}s phone"}
    await person.post("/codes", {"ttl_days": 1}, headers=headers)
    await person.post("/codes/current/email", headers=headers)
    await person.post("/auth/password/reset", {"email": ADDRESS.upper()}, headers={**headers, "Authorization": ""})
    form = {"grant_type": "password", "username": NAME, "password": "a wrong one"}
    await person.call("POST", "/auth/token", data=form, headers={**headers, "Authorization": ""})
    await person.get("/codes/by-email", params={"email": ADDRESS})
    await person.patch("/users/me", {"username": f"{NAME}2"}, headers=headers)
    await person.patch("/users/me", {"username": NAME}, headers=headers)
    await eventually(lambda: len(read_mails(mail_folder, ADDRESS)) == 3, 60)
    return person


def in_files(folder: Path) -> list[str]:
    """The files that hold the person's name or address, in whatever case."""
    # The mailer's own files, those that begin with a dot, may be renamed at any moment.
    files = [file for file in folder.rglob("[!.]*") if file.is_file()]
    sought = re.compile(rb"wilhelmina|oesterreicher", re.IGNORECASE)
    return [str(file.relative_to(folder)) for file in files if sought.search(file.read_bytes())]


async def erase(person: Person) -> None:
    headers = {"X-Request-ID": ADDRESS}
    assert (await person.delete("/users/me", {"password": person.password}, headers=headers)).status == 204


async def test_nothing_of_an_erased_person_is_in_a_row(
    client: Client, database_url: str, mail_folder: Path, eventually: Eventually
) -> None:
    person = await live(client, mail_folder, eventually)
    await sql(
        database_url,
        "INSERT INTO profiles (user_id, provider, profile, fetched_at) "
        f"VALUES ('{person.id}', 'hunter', '{{\"name\": \"{NAME}\"}}', 1)",
    )
    await erase(person)
    rows = await everything(database_url)
    assert not re.search("wilhelmina|oesterreicher", repr(rows), re.IGNORECASE)
    # A keyed hash of the address stays for a while: who comes back by it is nobody's new referral.
    left = {"users", "codes", "audit_events", "former_addresses", "events", "context_keys"}
    assert {table for table, found in rows.items() if found} - {*FEED} == left


async def test_the_record_has_ids_of_the_services_own_which_the_log_has_too(
    client: Client, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    nobody, headers = Person(client, ""), {"X-Request-ID": "somebody@example.com"}
    answer = await nobody.post("/auth/password/reset", {"email": "x@example.com"}, headers=headers)
    assert answer.headers["X-Request-ID"] == "somebody@example.com"
    [(kept,)] = await sql(database_url, "SELECT request_id FROM audit_events")
    assert re.fullmatch(OWN_ID, kept)
    logged = {
        (record.__dict__["request_id"], record.__dict__["own_id"]) for record in caplog.records if hasattr(record, "own_id")
    }
    assert ("somebody@example.com", kept) in logged
    answer = await nobody.post("/auth/password/reset", {"email": "y@example.com"})
    assert await count(database_url, "audit_events", f"request_id = '{answer.headers['X-Request-ID']}'") == 1


async def test_mails_in_files_go_with_whom_they_were_written_to(
    client: Client, mail_folder: Path, eventually: Eventually
) -> None:
    person = await live(client, mail_folder, eventually)
    other = await Person.register(client, "other")
    await eventually(lambda: read_mails(mail_folder, other.email))
    (mail_folder / "no mail.eml").write_bytes(b"\xff no header at all")
    (mail_folder / "folder.eml").mkdir()
    await erase(person)
    assert in_files(mail_folder) == []
    assert len(list(mail_folder.glob("*.eml"))) == 3


async def test_a_mail_that_is_written_during_the_erasure_goes_too(
    client: Client, mail_folder: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await live(client, mail_folder, eventually)
    assert client.app is not None
    composed, go_on, written = asyncio.Event(), asyncio.Event(), asyncio.Event()
    transport = client.app[MAILER]._transport
    write = transport._send  # type: ignore[attr-defined]

    async def late(message: Any, user_id: str) -> None:
        composed.set()
        await go_on.wait()
        await write(message, user_id)
        written.set()

    monkeypatch.setattr(transport, "_send", late)
    await person.post("/codes/current/email")
    await composed.wait()
    await erase(person)
    go_on.set()
    await written.wait()
    await eventually(lambda: not in_files(mail_folder))


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_no_byte_of_an_erased_person_is_in_the_files_of_sqlite(
    make_client: MakeClient, database_url: str, mail_folder: Path, eventually: Eventually, tmp_path: Path
) -> None:
    client = await make_client()
    # Enough of others, before and after, that pages are divided.
    for number in range(25):
        await Person.register(client, f"before{number}")
    person = await live(client, mail_folder, eventually)
    for number in range(25):
        await Person.register(client, f"after{number}")
    file = sqlite_path(database_url)
    assert in_files(tmp_path), "the search finds what is there"
    await erase(person)
    assert in_files(tmp_path) == []
    assert Path(f"{file}-wal").stat().st_size == 0
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (51,)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_an_erasure_while_somebody_reads_is_done_and_cleared_up_later(
    make_client: MakeClient, database_url: str, mail_folder: Path, eventually: Eventually, tmp_path: Path, database: Any
) -> None:
    person = await live(await make_client(), mail_folder, eventually)
    with closing(sqlite3.connect(sqlite_path(database_url), isolation_level=None)) as backup:
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM users").fetchone()
        await asyncio.wait_for(erase(person), 4)
        backup.execute("COMMIT")
    # As housekeeping does.
    await database.purge()
    assert in_files(tmp_path) == []


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_redis_has_no_name_and_no_address_of_an_erased_person(
    make_client: MakeClient, redis: RedisServer, mail_folder: Path, eventually: Eventually
) -> None:
    client = await make_client(cache_url=redis.url, limits_enabled="true")
    person = await live(client, mail_folder, eventually)
    await erase(person)
    inside: Any
    async with aioredis.Redis.from_url(redis.url, decode_responses=True) as inside:
        held: dict[str, Any] = {key: await inside.get(key) for key in await inside.keys()}
        assert held
        assert not re.search("wilhelmina|oesterreicher", repr(held), re.IGNORECASE)
        # What is left of the person is digests, each of which ends by itself within an hour.
        ends = [await inside.ttl(key) for key in held if not key.startswith(("referral:sessions", "referral:epoch"))]
        assert all(0 <= end <= 3_600 for end in ends), dict(zip(held, ends, strict=False))
