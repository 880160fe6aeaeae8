"""A database that takes no writes: readiness says so, and no service starts on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import asyncpg
import pytest

from referral.database import DATABASE, DatabaseUnavailable, sqlite_path
from tests.conftest import Eventually, MakeClient
from tests.support.commands import ENVIRON, refusal, run_command
from tests.support.confined import bound_by_permissions, full_disk
from tests.support.people import Person
from tests.support.rows import everything, sql
from tests.support.servers import PostgresServer
from tests.support.service import run_py

UNREADY = (503, {"status": "unavailable", "checks": {"database": "unavailable", "cache": "ok"}})
READY = (200, {"status": "ok", "checks": {"database": "ok", "cache": "ok"}})


@pytest.fixture(autouse=True)
def no_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes when the service starts would come in between."""

    async def rest(config: object, database: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("referral.app.keep_house", rest)


async def ready(somebody: Person) -> tuple[int, object]:
    answer = await somebody.get("/health/ready")
    return answer.status, answer.body


class TestSQLite:
    @pytest.fixture
    def engine(self) -> str:
        return "sqlite"

    async def test_asking_writes_nothing(self, make_client: MakeClient, database_url: str) -> None:
        somebody = Person(await make_client(), "")
        assert await ready(somebody) == READY
        log = Path(f"{sqlite_path(database_url)}-wal")
        before = await everything(database_url), log.stat().st_size, log.stat().st_mtime_ns
        for _ in range(3):
            assert await ready(somebody) == READY
        assert (await everything(database_url), log.stat().st_size, log.stat().st_mtime_ns) == before

    @pytest.mark.parametrize("befalls", ["replaced", "deleted", "full disk", "read-only disk"])
    async def test_it_is_unready_while(
        self, make_client: MakeClient, database_url: str, befalls: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        somebody, path = Person(await make_client(), ""), sqlite_path(database_url)
        with monkeypatch.context() as patch:
            if befalls in ("replaced", "deleted"):
                path.rename(tmp_path / "aside.db")
                if befalls == "replaced":
                    shutil.copy(tmp_path / "aside.db", path)
            else:
                real = os.statvfs(path)
                fields = {name: getattr(real, name) for name in dir(real) if name.startswith("f_")}
                other = {"f_bavail": 1, "f_bfree": 1} if befalls == "full disk" else {"f_flag": real.f_flag | os.ST_RDONLY}
                patch.setattr(os, "statvfs", lambda _: type("Disk", (), {**fields, **other}))
            assert await ready(somebody) == UNREADY
        if befalls in ("replaced", "deleted"):
            (tmp_path / "aside.db").rename(path)
        assert await ready(somebody) == READY

    async def test_after_a_write_that_failed_it_is_unready_until_one_succeeds(
        self, make_client: MakeClient, database_url: str
    ) -> None:
        client = await make_client()
        alice = await Person.register(client, "alice")
        with full_disk(sqlite_path(database_url)) as fill:
            fill()
            assert (await alice.post("/codes", {"ttl_days": 1})).problem == "unavailable"
            for _ in range(2):
                assert await ready(alice) == UNREADY
        # No request has written since: the asking itself finds out.
        assert await ready(alice) == READY
        assert not client.app[DATABASE].write_failed
        assert (await alice.post("/codes", {"ttl_days": 1})).status == 201

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_no_service_starts_on_what_can_only_be_read(self, tmp_path: Path, what: str) -> None:
        path = tmp_path / "data" / "referral.db"
        path.parent.mkdir()
        url = f"sqlite:///{path}"
        assert run_command("migrate", REFERRAL_DATABASE_URL=url).returncode == 0
        (path.parent if what == "folder" else path).chmod(0o500)
        environ = {**ENVIRON, "REFERRAL_DATABASE_URL": url}
        process = subprocess.Popen(
            run_py(), env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=bound_by_permissions
        )
        stdout, stderr = process.communicate(timeout=60)
        line = refusal(subprocess.CompletedProcess("serve", process.returncode, stdout, stderr))
        expected = (
            "its lock referral.db.lock cannot be opened: Permission denied"
            if what == "folder"
            else "attempt to write a readonly database"
        )
        assert line.startswith(f"{path}: {expected}")


class TestPostgres:
    @pytest.fixture
    def engine(self) -> str:
        return "postgres"

    async def test_it_is_unready_while_transactions_are_read_only_and_no_service_starts(
        self, make_client: MakeClient, database_url: str, postgres_server: PostgresServer, eventually: Eventually
    ) -> None:
        somebody, name = Person(await make_client(), ""), database_url.rpartition("/")[2]
        assert await ready(somebody) == READY
        postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        # Connections that exist keep what they were opened with.
        await sql(
            database_url,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()",
        )
        # The first may only have found its connection lost.
        for _ in range(3):
            assert await ready(somebody) == UNREADY
        line = refusal(run_command(REFERRAL_DATABASE_URL=database_url))
        assert line == "PostgreSQL takes no writes here: it is a standby, or its transactions are read-only"
        postgres_server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await sql(
            database_url,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()",
        )

        async def is_ready() -> bool:
            return await ready(somebody) == READY

        await eventually(is_ready)

    async def test_after_a_full_disk_it_is_unready_until_a_write_succeeds(
        self, make_client: MakeClient, database_url: str
    ) -> None:
        client = await make_client()
        database, somebody = client.app[DATABASE], Person(client, "")
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction():
                raise DatabaseUnavailable("no space") from asyncpg.DiskFullError("no space")
        assert database.write_failed
        # The trigger stands for the disk.
        await sql(
            database_url,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'no space'; END $$",
        )
        await sql(database_url, "CREATE TRIGGER full_disk BEFORE UPDATE ON cache_epoch EXECUTE FUNCTION full_disk()")
        assert await ready(somebody) == UNREADY
        await sql(database_url, "DROP TRIGGER full_disk ON cache_epoch")
        assert await ready(somebody) == READY
        assert not database.write_failed
        await sql(database_url, "DROP FUNCTION full_disk()")
