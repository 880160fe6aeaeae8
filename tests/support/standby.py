"""A streaming standby of a test's PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers import PostgresServer, wait_until


class Standby(PostgresServer):
    """A hot standby, made of a base backup of the primary, which runs; it streams once it is started."""

    def __init__(self, folder: Path, primary: PostgresServer) -> None:
        self.primary = primary
        super().__init__(folder)

    def _make_data(self) -> None:
        source = ("--host", "127.0.0.1", "--port", str(self.primary.port), "--username", "referral")
        self._run("pg_basebackup", *source, "--pgdata", "data", "--write-recovery-conf", "--checkpoint", "fast", "--no-sync")

    def start(self) -> None:
        super().start()
        wait_until(self.streams)

    def streams(self) -> bool:
        """Whether the primary sends it what is written."""
        with self.primary.connect("postgres") as connection:
            found = connection.execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").fetchone()
        return found is not None and found[0] > 0

    def make_synchronous(self) -> None:
        """Let the primary acknowledge nothing that this one does not have."""
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.execute("SELECT pg_reload_conf()")

        def is_synchronous() -> bool:
            with self.primary.connect("postgres") as connection:
                return connection.execute("SELECT sync_state FROM pg_stat_replication").fetchone() == ("sync",)

        wait_until(is_synchronous)

    def promote(self) -> None:
        """Make it the primary; it is when this returns."""
        self.execute("SELECT pg_promote()")
