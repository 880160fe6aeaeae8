"""PgBouncer with the settings that a deployer takes, in front of a test's PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.support.servers import PostgresServer, Server, as_postgres, program
from tests.support.service import ROOT

SETTINGS = ROOT / "deploy" / "pgbouncer.ini"


class PgBouncer(Server):
    """PgBouncer by `deploy/pgbouncer.ini`, with this machine's addresses and what a test sets beside them."""

    def __init__(self, folder: Path, server: PostgresServer, **settings: str | int) -> None:
        self._as_user, folder = as_postgres(folder)
        super().__init__(folder)
        self.server = server
        self.settings = settings

    def command(self) -> list[str]:
        users = self.folder / "userlist.txt"
        users.write_text('"referral" ""\n')
        users.chmod(0o644)
        settings: dict[str, str | int] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users),
            "admin_users": "referral",
            **self.settings,
        }
        # Of each name there is one line, for PgBouncer takes the last one; all others stay as they are shipped.
        lines = [line for line in SETTINGS.read_text().splitlines() if line.partition(" = ")[0] not in settings]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        place = f"* = host=127.0.0.1 port={self.server.port}"
        ini = self.folder / "pgbouncer.ini"
        ini.write_text("\n".join(lines).replace("[databases]", f"[databases]\n{place}"))
        ini.chmod(0o644)
        return [*self._as_user, program("pgbouncer", "pgbouncer", Path("/usr/sbin")), "pgbouncer.ini"]

    def url(self, database: str) -> str:
        return f"postgresql://referral@127.0.0.1:{self.port}/{database}"

    def admin(self, command: str) -> None:
        """Say something to its console; returns when it is done."""
        with psycopg.connect(self.url("pgbouncer"), autocommit=True) as console:
            # The console knows simple queries alone.
            console.pgconn.exec_(command.encode())
