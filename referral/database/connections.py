"""What the connections of every dialect share: rows become objects by the names of their columns."""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from referral.database import Deferred, Row, log_if_slow
from referral.database.statements import Statement, builder_of

R = TypeVar("R")
T = TypeVar("T")


class StatementConnection(ABC):
    """Implements `Connection` on top of one method that fetches rows, which each dialect has."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._statements = statements

    @abstractmethod
    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        """The statement's rows. Raises ConstraintViolation or DatabaseUnavailable."""

    async def lock(self, name: str, /, **parameters: Any) -> None:
        raise RuntimeError(f"{name}: only a transaction takes locks")

    def defer(self, name: str, /, **parameters: Any) -> Deferred:
        raise RuntimeError(f"{name}: only a transaction defers statements")

    def rows(self, name: str, parameters: dict[str, Any]) -> Awaitable[Sequence[Row]]:
        """The statement's rows as the driver returns them."""
        return self._timed(name, parameters, self._fetch(name, parameters))

    async def _timed(self, name: str, parameters: dict[str, Any], fetching: Awaitable[Sequence[Row]]) -> Sequence[Row]:
        """Await the rows of the statement of this name, and log it if it was slow."""
        started = time.perf_counter()
        try:
            return await fetching
        finally:
            log_if_slow(name, started, parameters)

    async def run(self, name: str, /, **parameters: Any) -> None:
        await self.rows(name, parameters)

    async def one(self, name: str, record: type[R], /, **parameters: Any) -> R | None:
        rows = await self.rows(name, parameters)
        return builder_of(record, self._statements[name].columns)(rows[0]) if rows else None

    async def all(self, name: str, record: type[R], /, **parameters: Any) -> list[R]:
        build = builder_of(record, self._statements[name].columns)
        return list(map(build, await self.rows(name, parameters)))

    async def page(self, name: str, record: type[R], /, **parameters: Any) -> list[R]:
        return await self.all(name, record, **parameters)

    async def value(self, name: str, kind: type[T], /, **parameters: Any) -> T | None:
        rows = await self.rows(name, parameters)
        return rows[0][0] if rows else None

    async def values(self, name: str, kind: type[T], /, **parameters: Any) -> list[T]:
        return [row[0] for row in await self.rows(name, parameters)]
