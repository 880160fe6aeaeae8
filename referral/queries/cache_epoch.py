"""The epoch of the shared cache, and the Redis that is believed: statements of `sql/cache_epoch.sql`."""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class CacheEpoch:
    """What is cached is good for one epoch, as one database server counts it. `redis` is the run id of the Redis process
    that is believed, or nobody's while one takes another's place; None where there never was one."""

    epoch: int
    redis: str | None
    server: str


async def find_epoch(conn: Connection) -> CacheEpoch:
    found = await conn.one("find_epoch", CacheEpoch)
    assert found is not None, "the migration made the row"
    return found


async def advance_epoch(conn: Connection) -> None:
    """Make void what is cached anywhere, as soon as this transaction commits."""
    await conn.run("advance_epoch")


async def hold_belief(conn: Connection, redis: str) -> int | None:
    """Until the end of the transaction this Redis stays the believed one. None if it is not."""
    return await conn.value("hold_belief", int, redis=redis)


async def propose_redis(conn: Connection, redis: str, candidate: str) -> str | None:
    """Make void what is cached anywhere, and have nobody believe another Redis than this from the commit on. `candidate` is
    'next', the run id and a random word.

    Returns the run id if this one is believed at once, the candidate that `accept_redis` is to be given once every lease of
    the epoch has ended, and None if this one was believed already.
    """
    return await conn.value("propose_redis", str, redis=redis, candidate=candidate)


async def accept_redis(conn: Connection, redis: str, candidate: str) -> None:
    """Believe this Redis, unless another one was proposed since."""
    await conn.run("accept_redis", redis=redis, candidate=candidate)
