"""Users as the product's back end knows them: statements of `sql/product_users.sql`."""

from dataclasses import dataclass

from referral.clock import NEVER
from referral.database import Connection

# From a text to one that sorts behind it, which is not in it.
Range = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ProductUser:
    """What the product may say of a user, and what decides by whom they come; times in ms, `metadata` as JSON text."""

    id: str
    external_id: str | None
    created_at: int
    email: str | None = None
    email_verified_at: int | None = None
    username: str | None = None
    name: str | None = None
    metadata: str | None = None
    signed_up_at: int | None = None
    suspended_at: int | None = None
    unattributable_at: int | None = None
    referral_count: int = 0
    referrer_id: str | None = None
    referral_code: str | None = None
    joined_at: int | None = None

    @property
    def known_since(self) -> int:
        """Since when the product, or this service, has the user (ms)."""
        return self.created_at if self.signed_up_at is None else self.signed_up_at


@dataclass(frozen=True, slots=True)
class Listed:
    """A user's place in a list; `created_at` in ms."""

    id: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Match:
    """The folded texts that a user is found by."""

    id: str
    email_key: str | None
    username_key: str | None
    external_id: str | None
    name_key: str | None


async def insert_product_user(conn: Connection, user_id: str, external_id: str | None, created_at: int) -> bool:
    """False when there is a user of this external id."""
    made = await conn.value("insert_product_user", str, id=user_id, external_id=external_id, created_at=created_at)
    return made is not None


async def find_product_user(conn: Connection, user_id: str) -> ProductUser | None:
    return await conn.one("find_product_user", ProductUser, user_id=user_id)


async def find_product_user_by_external_id(conn: Connection, external_id: str) -> ProductUser | None:
    return await conn.one("find_product_user_by_external_id", ProductUser, external_id=external_id)


async def lock_user_by_external_id(conn: Connection, external_id: str) -> str | None:
    """The id of the user of this external id, who is locked, as the rules are held (`locks.lock_user`, `hold_rules`)."""
    return await conn.value("lock_user_by_external_id", str, external_id=external_id)


async def find_user_id_by_external_id(conn: Connection, external_id: str) -> str | None:
    return await conn.value("find_user_id_by_external_id", str, external_id=external_id)


async def update_product_user(
    conn: Connection, user: ProductUser, email_key: str | None, username_key: str | None, name_key: str | None
) -> None:
    """Set what the product may say of a user. Violates users_email_key, users_username_key or users_external_id when one of
    them is another's."""
    await conn.run(
        "update_product_user",
        user_id=user.id,
        external_id=user.external_id,
        email=user.email,
        email_key=email_key,
        email_verified_at=user.email_verified_at,
        username=user.username,
        username_key=username_key,
        name=user.name,
        name_key=name_key,
        metadata=user.metadata,
        signed_up_at=user.signed_up_at,
    )


async def find_holder(
    conn: Connection, user_id: str, *, email_key: str | None, username_key: str | None, external_id: str | None
) -> str | None:
    """Who else has one of these; pass None for what does not matter."""
    return await conn.value(
        "find_holder", str, email_key=email_key, username_key=username_key, external_id=external_id, user_id=user_id
    )


async def list_users(conn: Connection, before: tuple[int, str], limit: int, *, only_active: bool) -> list[Listed]:
    """Users made before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "list_users",
        Listed,
        status="active" if only_active else None,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def list_suspended_users(conn: Connection, before: tuple[int, str], limit: int) -> list[Listed]:
    return await conn.page("list_suspended_users", Listed, before_time=before[0], before_id=before[1], page_size=limit)


async def count_users(conn: Connection, most: int, *, only_active: bool) -> int:
    """How many users there are, counted up to `most`."""
    status = "active" if only_active else None
    return await conn.value("count_users", int, status=status, before_time=NEVER, sample_size=most) or 0


async def count_suspended_users(conn: Connection, most: int) -> int:
    return await conn.value("count_suspended_users", int, before_time=NEVER, sample_size=most) or 0


def _bounds(email: Range, name: Range, external_id: Range) -> dict[str, str]:
    """From where to where each sort of text lies, as the statements name it."""
    return {
        "email_low": email[0],
        "email_high": email[1],
        "name_low": name[0],
        "name_high": name[1],
        "external_low": external_id[0],
        "external_high": external_id[1],
    }


async def search_suspended(
    conn: Connection,
    email: Range,
    name: Range,
    external_id: Range,
    before: tuple[int, str],
    limit: int,
) -> list[Listed]:
    """Suspended users who have a text in one of these ranges, made before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "search_suspended",
        Listed,
        **_bounds(email, name, external_id),
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def search_by_email(conn: Connection, low: str, low_id: str, high: str, status: str | None, limit: int) -> list[Match]:
    """Users whose folded address lies between `low` and `high`, behind the user of `low_id` at `low`, in its order."""
    return await conn.page("search_by_email", Match, low=low, low_id=low_id, high=high, status=status, page_size=limit)


async def search_by_username(
    conn: Connection, low: str, low_id: str, high: str, status: str | None, limit: int
) -> list[Match]:
    return await conn.page("search_by_username", Match, low=low, low_id=low_id, high=high, status=status, page_size=limit)


async def search_by_external_id(
    conn: Connection, low: str, low_id: str, high: str, status: str | None, limit: int
) -> list[Match]:
    return await conn.page("search_by_external_id", Match, low=low, low_id=low_id, high=high, status=status, page_size=limit)


async def search_by_name(conn: Connection, low: str, low_id: str, high: str, status: str | None, limit: int) -> list[Match]:
    return await conn.page("search_by_name", Match, low=low, low_id=low_id, high=high, status=status, page_size=limit)


async def count_matches(
    conn: Connection,
    email: Range,
    name: Range,
    external_id: Range,
    status: str | None,
    most: int,
) -> int:
    """How many users have a text in one of these ranges, of each sort counted up to `most`."""
    found = await conn.value(
        "count_matches",
        int,
        **_bounds(email, name, external_id),
        status=status,
        sample_size=most,
    )
    return found or 0
