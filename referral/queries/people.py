"""People as admins see them: statements of `sql/people.*.sql`. Times are in ms."""

from dataclasses import dataclass

import orjson

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class Named:
    """What somebody is called; of whoever was erased, nothing is left but the id."""

    id: str
    name: str | None
    email: str | None
    external_id: str | None
    username: str | None
    erased_at: int | None


@dataclass(frozen=True, slots=True)
class Person(Named):
    """Somebody with all that heads their page; `metadata` as JSON text. They came by the referrer, if there is one."""

    role: str
    created_at: int
    signed_up_at: int | None
    email_verified_at: int | None
    metadata: str | None
    suspended_at: int | None
    suspended_reason: str | None
    referral_count: int
    converted_count: int
    referrer_id: str | None
    referrer_name: str | None
    referrer_email: str | None
    referrer_external_id: str | None
    referrer_username: str | None
    referrer_erased_at: int | None
    joined_at: int | None
    source: str | None
    code: str | None
    review: str | None
    converted_at: int | None

    @property
    def status(self) -> str:
        if self.erased_at is not None:
            return "erased"
        return "active" if self.suspended_at is None else "suspended"

    @property
    def referrer(self) -> Named | None:
        """By whom they came."""
        if self.referrer_id is None:
            return None
        return Named(
            self.referrer_id,
            self.referrer_name,
            self.referrer_email,
            self.referrer_external_id,
            self.referrer_username,
            self.referrer_erased_at,
        )


async def list_people(conn: Connection, user_ids: list[str]) -> list[Person]:
    """Those of these ids, in any order."""
    return await conn.page("list_people", Person, user_ids=orjson.dumps(user_ids).decode())


async def list_names(conn: Connection, user_ids: list[str]) -> list[Named]:
    """What those of these ids are called, in any order."""
    return await conn.page("list_names", Named, user_ids=orjson.dumps(user_ids).decode())
