"""The service on PostgreSQL and Redis: pairs of writes, against what pgbench makes of the same statements, and more."""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.figures import Figure, Setting
from bench.load import CONNECTIONS, wrk
from bench.servers import LOAD_CORE, SERVER_CORE, bare_handler, postgres_server, redis_server, service
from bench.traffic import pairs_of_writes, registrations
from referral.database.joining import joined
from referral.database.postgres import BEGIN, POOL_SIZE
from referral.database.statements import Statement, load_statements
from tests.support.servers import program

# A change as it is announced, of the size that it has. In a script, a colon before a letter or a digit begins a variable.
CHANGES = " || ".join(
    (
        """'[{"id": "'""",
        "gen_random_uuid()",
        """'", "type": "code.created", "subject_id": "B'""",
        ":client_id",
        """'", "data": "'""",
        "repeat('x', 250)",
        """'"}]'""",
    )
)
# What the service gives to the statements, made of what pgbench knows.
VALUES = {
    "session_id": "'bench' || :client_id",
    "user_id": "'bench' || :client_id",
    "referrer_id": "'bench' || :client_id",
    "code": "'B' || :number",
    "created_at": "1",
    "expires_at": "9000000000000",
    "max_uses": "null",
    "now": "2",
    "at": "2",
    "id": "cast(gen_random_uuid() as text)",
    "event": "'code-made'",
    "actor_id": "'bench' || :client_id",
    "email": "null",
    "address": "'192.0.2.1'",
    "request_id": "cast(gen_random_uuid() as text)",
    "detail": '\'{"code": "8ZK4M2QA", "expires_at": "2027-01-31", "max_uses": null}\'',
    "changes": CHANGES,
}
PEOPLE = """
INSERT INTO users (id, external_id, role, created_at)
SELECT 'bench' || n, 'bench' || n, 'user', 1 FROM generate_series(0, {last}) AS n;
INSERT INTO sessions (id, user_id, created_at, expires_at)
SELECT 'bench' || n, 'bench' || n, 1, 9000000000000 FROM generate_series(0, {last}) AS n;
"""


def _script() -> str:
    """A pair of writes as pgbench's script: the statements of POST /codes and of DELETE /codes/current."""
    known = load_statements("postgres")
    told = ("insert_event", "insert_announcements")
    made = joined(tuple(known[name] for name in ("increment_code_count", *told)))
    ended = joined(tuple(known[name] for name in told))
    lines = ["\\set number random(1, 1000000000000000)"]
    for steps in ((known["insert_code"], made), (known["revoke_current_code"], ended)):
        lines += [f"{part};" for part in BEGIN.split("; ")]
        lines += [_with_values(statement) for statement in (known["hold_live_session"], *steps)]
        lines.append("COMMIT;")
    return "\n".join(lines)


def _with_values(statement: Statement) -> str:
    names = [name.rpartition(".")[2] for name in statement.parameters]
    text = re.sub(r"--[^\n]*", "", statement.sql)
    text = re.sub(r"\$(\d+)", lambda found: f"({VALUES[names[int(found[1]) - 1]]})", text)
    return " ".join(text.split()).removesuffix(";") + ";"


def _pgbench(url: str, script: Path, seconds: int) -> float:
    """Pairs a second that pgbench makes on the server's core, in the place of the service."""
    binary = program("pgbench", "postgresql", *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    options = ["-n", "-M", "prepared", "-f", str(script), "-T", str(seconds), "-c", str(POOL_SIZE)]
    command = ["taskset", "-c", SERVER_CORE, binary, *options, url]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"tps = ([\d.]+)", text)
    assert found is not None, text
    return float(found[1])


def postgres(folder: Path, setting: Setting) -> Iterator[Figure]:
    """PostgreSQL, durable, and Redis have the load's core."""
    (folder / "postgres").mkdir()
    with postgres_server(folder / "postgres") as url, redis_server() as cache:
        more = {"REFERRAL_DATABASE_URL": url, "REFERRAL_CACHE_URL": cache, "REFERRAL_AUTH_BCRYPT_ROUNDS": "4"}
        with bare_handler() as bare, service(folder, **more) as running:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(PEOPLE.format(last=CONNECTIONS).encode())
            script = folder / "pair.sql"
            script.write_text(_script())
            ratios, rates, theirs = [], [], []
            for _ in range(setting.rounds):
                theirs.append(_pgbench(url, script, setting.seconds))
                rates.append(asyncio.run(pairs_of_writes(running, setting.seconds)).rate)
                ratios.append(rates[-1] / theirs[-1])
            notes = {"pairs_per_second": statistics.median(rates), "pgbench_pairs_per_second": statistics.median(theirs)}
            unit = "of what pgbench makes of the same statements"
            yield Figure("pairs of writes on PostgreSQL", statistics.median(ratios), unit, "0.5", ratios, notes)
            mine, bares = [], []
            for _ in range(setting.rounds):
                bares.append(wrk(bare, setting.seconds, core=LOAD_CORE).rate)
                mine.append(wrk(f"{running.url}/users/me", setting.seconds, running.signed_in, core=LOAD_CORE).rate)
            ratios = [rate / other for rate, other in zip(mine, bares, strict=True)]
            notes = {"requests_per_second": statistics.median(mine)}
            yield Figure(
                "GET /users/me on PostgreSQL", statistics.median(ratios), "of the bare handler", "0.25", ratios, notes
            )
            by_code = [
                asyncio.run(registrations(running, setting.seconds, running.code)).rate for _ in range(setting.rounds)
            ]
            yield Figure("registrations by one code on PostgreSQL", statistics.median(by_code), "a second", "", by_code, {})
