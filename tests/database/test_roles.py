"""PostgreSQL's roles: one migrates, one serves; what a role may not do is told at once, with the GRANT that is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import refusal, run_command, run_line, serve
from tests.support.servers import PostgresServer
from tests.support.service import ROOT, run_py
from tests.support.versions import EXPANDING, later_version

ROLE = "serving"
DML = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}"
Execute = Callable[[str], None]


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
def as_owner(database_url: str) -> Iterator[Execute]:
    """`as_owner("GRANT …")`, in a migrated database in which the role ROLE may do what everybody may."""
    with psycopg.connect(database_url, autocommit=True) as owner:

        def execute(statement: str) -> None:
            owner.execute(statement.encode())

        execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'a-password'")
        yield execute
        # What a test takes away is given back to nobody: its database goes.
        execute("CREATE TABLE IF NOT EXISTS not_as_before (id int)")
        execute(f"DROP OWNED BY {ROLE}")
        execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def served_url(database_url: str) -> str:
    return database_url.replace("referral@", f"{ROLE}@")


def refused(url: str, *arguments: str) -> str:
    """The line in which the start, or the command, says why it cannot go on."""
    return refusal(run_command(*arguments, REFERRAL_DATABASE_URL=url))


def test_a_role_with_rights_on_the_rows_alone_serves_what_another_one_migrated(as_owner: Execute, served_url: str) -> None:
    as_owner(DML)
    with serve(REFERRAL_DATABASE_URL=served_url) as service:
        status, alice = service.register("alice")
        assert status == 201
        assert service.sign_in("alice")[0] == 200
        assert service.call("/api/v1/codes", {"ttl_days": 1}, alice["access_token"])[0] == 201
        assert service.call("/health/ready")[0] == 200
        assert run_command("migrate", REFERRAL_DATABASE_URL=served_url).stdout == "Nothing to apply.\n"
        assert run_command("admins", "list", REFERRAL_DATABASE_URL=served_url).stdout == "Nobody is an admin.\n"
        assert service.end() == 0


def test_a_role_that_may_not_create_is_told_so_where_something_is_to_be_migrated(as_owner: Execute, served_url: str) -> None:
    as_owner(DML)
    as_owner("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0020%'")
    expected = (
        "PostgreSQL: permission denied for schema public, and there are migrations to apply: run `python run.py migrate` "
        f"with a role that may, or GRANT CREATE ON SCHEMA public TO {ROLE}"
    )
    assert refused(served_url) == expected
    assert refused(served_url, "migrate") == expected


def test_an_empty_database_is_told_likewise(as_owner: Execute, served_url: str) -> None:
    as_owner("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
    assert refused(served_url).startswith("PostgreSQL: permission denied for schema public, and there are migrations")
    # And with that right it is all that is needed.
    as_owner(f"GRANT CREATE ON SCHEMA public TO {ROLE}")
    assert run_command("migrate", REFERRAL_DATABASE_URL=served_url).returncode == 0


@pytest.mark.parametrize(
    "statement", ["SELECT 1", DML.replace("INSERT, ", ""), f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}"]
)
def test_a_role_without_rights_on_the_rows_is_told_which(as_owner: Execute, served_url: str, statement: str) -> None:
    as_owner(statement)
    as_owner("CREATE TABLE somebody_elses (id int)")
    as_owner("CREATE ROLE somebody_else")
    as_owner("ALTER TABLE somebody_elses OWNER TO somebody_else")
    table = "_yoyo_log" if statement == "SELECT 1" else "accounts"
    assert refused(served_url) == f"PostgreSQL: permission denied for table {table}: {DML}"
    assert refused(served_url, "outbox") == f"PostgreSQL: permission denied for table {table}: {DML}"
    as_owner("DROP OWNED BY somebody_else")
    as_owner("DROP ROLE somebody_else")


def test_a_role_that_may_not_use_the_schema_is_told(as_owner: Execute, served_url: str) -> None:
    as_owner(DML)
    as_owner("REVOKE USAGE ON SCHEMA public FROM public")
    assert refused(served_url) == (
        f"PostgreSQL: no schema has been selected to create in: GRANT USAGE ON SCHEMA public TO {ROLE}, or set a "
        "search_path to a schema that this role may use"
    )


@pytest.fixture
def empty(postgres_server: PostgresServer) -> Iterator[str]:
    """The owner's URL of an empty database, in whose cluster there is a role that serves."""
    postgres_server.execute(f"CREATE ROLE owning LOGIN; CREATE ROLE {ROLE} LOGIN")
    postgres_server.execute("CREATE DATABASE owned OWNER owning TEMPLATE template0")
    yield postgres_server.url("owned").replace("referral@", "owning@")
    postgres_server.execute("DROP DATABASE owned WITH (FORCE)")
    postgres_server.execute(f"DROP ROLE owning, {ROLE}")


def test_one_role_migrates_and_another_serves_each_upgrade_with_what_readme_grants(empty: str, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    [grants] = re.findall(r"```sql\n(GRANT USAGE.*?)```", text, re.DOTALL)
    with psycopg.connect(empty, autocommit=True) as owner:
        owner.execute(grants.encode())
    owning = {"REFERRAL_DATABASE_URL": empty}
    serving = {"REFERRAL_DATABASE_URL": empty.replace("owning@", f"{ROLE}@")}
    now = run_py()
    assert "needs (0001.users, " in refusal(run_line([*now, "serve", "--no-migrate"], serving))
    assert run_line([*now, "migrate", "--check"], serving).returncode == 1
    assert run_line([*now, "migrate"], owning).returncode == 0
    assert run_line([*now, "migrate", "--check"], serving).returncode == 0
    with serve(*now, "serve", "--no-migrate", **serving) as service:
        assert service.register("alice")[0] == 201
        assert service.end() == 0
    # The next version brings a table, which needs no GRANT of its own.
    later = later_version(tmp_path / "next", EXPANDING)
    assert "needs (8001.things)" in refusal(run_line([*later, "serve", "--no-migrate"], serving))
    assert run_line([*later, "migrate"], owning).stdout == "applied 8001.things\n"
    for version in (now, later):
        # Each folder has a key of its own.
        assert run_line([*version, "keys", "accept"], serving).returncode == 0
        with serve(*version, "serve", "--no-migrate", **serving) as service:
            assert service.sign_in("alice")[0] == 200
            assert service.end() == 0
    with psycopg.connect(serving["REFERRAL_DATABASE_URL"], autocommit=True) as server:
        server.execute("INSERT INTO things (id) VALUES (1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            server.execute("CREATE TABLE anything (id int)")


def test_a_table_that_was_made_without_a_grant_is_told(as_owner: Execute, served_url: str) -> None:
    as_owner(DML)
    as_owner("CREATE TABLE later (id int)")
    assert refused(served_url, "serve", "--no-migrate") == f"PostgreSQL: permission denied for table later: {DML}"
    assert refused(served_url, "migrate", "--check") == f"PostgreSQL: permission denied for table later: {DML}"


def test_another_schema_on_the_search_path_serves_as_well(as_owner: Execute, served_url: str) -> None:
    as_owner(f"CREATE SCHEMA apart AUTHORIZATION {ROLE}")
    as_owner(f"ALTER ROLE {ROLE} SET search_path = apart")
    with serve(REFERRAL_DATABASE_URL=served_url) as service:
        assert service.register("alice")[0] == 201
        assert service.end() == 0


@pytest.mark.parametrize("fault", ["connect", "database", "role"])
def test_what_keeps_a_role_out_of_the_database_is_postgresqls_own_reason(
    as_owner: Execute, served_url: str, fault: str
) -> None:
    name = served_url.rpartition("/")[2]
    expected = {
        "connect": f'permission denied for database "{name}"',
        "database": f'database "{name}x" does not exist',
        "role": 'role "nobody" does not exist',
    }[fault]
    if fault == "connect":
        as_owner(f"REVOKE CONNECT ON DATABASE {name} FROM public")
    url = {"connect": served_url, "database": f"{served_url}x", "role": served_url.replace(f"{ROLE}@", "nobody@")}[fault]
    line = refused(url)
    assert line.startswith("cannot connect to PostgreSQL: ")
    assert line.endswith(expected)


def test_a_wrong_password_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    # The tests' server trusts everybody: one that asks for passwords is its own.
    server = PostgresServer(tmp_path_factory.mktemp("password"))
    hba = server.folder / "data" / "pg_hba.conf"
    hba.write_text("host all referral 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with server:
        server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'a-password'")
        url = server.url("postgres").replace("referral@", f"{ROLE}:wrong-password@")
        line = refused(url)
        assert line.endswith(f'password authentication failed for user "{ROLE}"')
        assert "wrong-password" not in line
