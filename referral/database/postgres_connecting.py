"""How PostgreSQL is connected to: which of several hosts, and what is found there, PostgreSQL itself or a pooler."""

import random
import socket
from typing import Any

import asyncpg

from referral.config.postgres_url import parse_postgres_url

# A transaction whose worker was stopped in the middle holds its locks no longer than this.
IDLE_TRANSACTION_TIMEOUT = "30s"

# asyncpg's own default.
NAMED_STATEMENTS = 100

# Another host may do where one is out, starts, or is not what is looked for.
NEXT_HOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)


class PostgresClient(asyncpg.Connection):  # type: ignore[misc]
    """A connection to PostgreSQL, or to a pooler.

    Behind a pooler each transaction, and each statement outside of one, may go to another connection of PostgreSQL's, which
    other processes use, too. What is set for a session, or prepared under a name, is then theirs. Statements without names
    are sent whole each time: Parse, Bind, Execute and Sync at once, which a pooler takes to one connection. What asyncpg
    found out about their parameters and columns is kept in `described`, so that they cost one round trip.
    """

    is_pooled = False
    host: tuple[str, int | None] | None = None
    described: dict[str, Any]

    async def _get_statement(self, query: str, timeout: float | None, **options: Any) -> Any:
        if self._config.statement_cache_size or options.get("named") or options.get("ignore_custom_codec"):
            return await super()._get_statement(query, timeout, **options)
        found = self.described.get(query)
        if found is None:
            found = self.described[query] = await super()._get_statement(query, timeout, **options)
        return found


class Connector:
    """Connects to one of the hosts of a URL: first to the one that was found the last time.

    `keeps_statements` says that a pooler, if there is one, keeps named statements for each of its clients; `target` is what
    to look for if the URL does not say it.
    """

    def __init__(self, url: str, *, keeps_statements: bool = False, target: str = "") -> None:
        self._url = parse_postgres_url(url, target)
        self._keeps_statements = keeps_statements
        self._hosts: list[tuple[str, int | None] | None] = list(self._url.hosts) or [None]
        # What the last connection led to. Where that is another one, it is connected twice.
        self._is_pooled = False
        # One for all its connections: whoever meets a statement that a migration has changed clears it for everybody.
        self._described: dict[str, Any] = {}

    async def connect(self, _: Any = None, **options: Any) -> PostgresClient:
        """A connection, as asyncpg's pool asks for it. Raises what asyncpg raises: of the last host that was tried."""
        if self._url.balanced:
            random.shuffle(self._hosts)
        targets = ("standby", "any") if self._url.target == "prefer-standby" else (self._url.target,)
        failure: Exception | None = None
        for target in targets:
            for host in list(self._hosts):
                try:
                    found = await self._connect_to(host, target, options)
                except NEXT_HOST as error:
                    failure = error
                    continue
                self._hosts.remove(host)
                self._hosts.insert(0, host)
                return found
        assert failure is not None
        raise failure

    def look_elsewhere(self, host: tuple[str, int | None] | None) -> None:
        """This host hangs, or takes no writes: all others are asked before it."""
        self._hosts.sort(key=lambda other: other == host)

    async def _connect_to(self, host: tuple[str, int | None] | None, target: str, options: dict[str, Any]) -> PostgresClient:
        while True:
            is_named = self._keeps_statements or not self._is_pooled
            raw: PostgresClient = await asyncpg.connect(
                self._url.dsn,
                **self._place(host),
                **{**options, "connection_class": PostgresClient},
                timeout=self._url.connect_timeout,
                target_session_attrs=target,
                ssl=self._url.tls_context(),
                server_settings={"application_name": "referral", **self._url.server},
                statement_cache_size=NAMED_STATEMENTS if is_named else 0,
            )
            raw.described, raw.host = self._described, host
            try:
                self._set_socket_options(raw)
                raw.is_pooled = await _leads_to_a_pooler(raw)
            except BaseException:
                raw.terminate()
                raise
            if raw.is_pooled == self._is_pooled:
                return raw
            self._is_pooled = raw.is_pooled
            if self._keeps_statements:
                return raw
            await raw.close()

    def _place(self, host: tuple[str, int | None] | None) -> dict[str, Any]:
        if host is None:
            return {}
        name, port = host
        return {**({"host": name} if name else {}), **({"port": port} if port else {})}

    def _set_socket_options(self, raw: PostgresClient) -> None:
        found = raw._transport.get_extra_info("socket")
        if found.family == socket.AF_UNIX:
            return
        for name, value in self._url.sockets:
            level = socket.SOL_SOCKET if name == "SO_KEEPALIVE" else socket.IPPROTO_TCP
            found.setsockopt(level, getattr(socket, name), value)


async def _leads_to_a_pooler(raw: PostgresClient) -> bool:
    """Whether a pooler is in between: the process that the server speaks of is not the one that answers. Where it is,
    nothing is set for the session, which is somebody else's a moment later."""
    # Each read has one good plan. Left to itself, PostgreSQL expects so many rows of the biggest referrer that it plans each
    # of those pages anew, which takes half as long again.
    answered: str = await raw.execute(
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), "
        f"set_config('idle_in_transaction_session_timeout', '{IDLE_TRANSACTION_TIMEOUT}', false) "
        f"WHERE pg_backend_pid() = {raw.get_server_pid()}"
    )
    return answered != "SELECT 1"
