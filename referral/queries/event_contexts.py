"""From where events were caused, as HMACs: statements of `sql/event_contexts.sql`."""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class ContextKey:
    """A key of the HMACs: `secret` in hexadecimal digits, None once it is thrown away; `created_at` in ms."""

    id: str
    secret: str | None
    created_at: int


@dataclass(frozen=True, slots=True)
class Context:
    """That there is an HMAC of this kind of the event's context."""

    event_id: str
    kind: str


async def list_context_keys(conn: Connection) -> list[ContextKey]:
    """The latest first, and those that are thrown away, too."""
    return await conn.all("list_context_keys", ContextKey)


async def insert_context_key(conn: Connection, key_id: str, secret: str, now: int) -> None:
    """Keep the key, unless there is one of its id."""
    await conn.run("insert_context_key", id=key_id, secret=secret, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContext:
    """An HMAC of this kind, of the context of an event that happened at a time (ms). The event's user had come by
    `referrer_id`."""

    event_id: str
    kind: str
    user_id: str
    referrer_id: str | None
    key_id: str
    hash: str
    at: int


async def insert_event_context(conn: Connection, context: NewContext) -> None:
    """Comes behind the event, in its transaction. This is deferred."""
    conn.defer("insert_event_context", **{name: getattr(context, name) for name in NewContext.__slots__})


async def bind_contexts(conn: Connection, user_id: str, referrer_id: str) -> None:
    """What was kept of a user before they came by the referrer counts as a referral's. This is deferred."""
    conn.defer("bind_contexts", user_id=user_id, referrer_id=referrer_id)


async def list_contexts(conn: Connection, user_id: str, after: tuple[str, str], limit: int) -> list[Context]:
    """What is kept of the contexts of the user's events, behind an event and kind."""
    return await conn.page(
        "list_contexts", Context, user_id=user_id, after_event=after[0], after_kind=after[1], page_size=limit
    )


async def delete_contexts_of_user(conn: Connection, user_id: str, batch_size: int) -> int:
    """Delete so many contexts of the user's at most, and return how many there were."""
    return len(await conn.values("delete_contexts_of_user", str, user_id=user_id, batch_size=batch_size))


async def forget_context_secrets(conn: Connection, before: int) -> None:
    """Throw away the keys that were made before then (ms)."""
    await conn.run("forget_context_secrets", before=before)


async def delete_old_contexts(conn: Connection, batch_size: int) -> int:
    """Delete so many contexts at most whose key is thrown away, and return how many there were."""
    return len(await conn.values("delete_old_contexts", str, batch_size=batch_size))


async def forget_networks(conn: Connection, batch_size: int) -> int:
    """Forget where so many clicks came from at most, of keys that are thrown away, and return how many there were."""
    return len(await conn.values("forget_networks", str, batch_size=batch_size))


async def delete_context_keys(conn: Connection) -> None:
    """Forget the keys of which nothing is left."""
    await conn.run("delete_context_keys")
