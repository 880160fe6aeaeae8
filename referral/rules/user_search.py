"""Finding users: by the beginning of a text that they have, or all of them by time. Each page reads its own rows alone."""

import unicodedata
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from referral.clock import NEVER
from referral.contract.paging import cursor_refused
from referral.database import Connection
from referral.queries import product_users, users
from referral.queries.product_users import Match, Range
from referral.texts import email_key, key_of, name_key

# A list's total counts no further: of all users, and of those that are looked for, of whom each is counted once however many
# ways they are found in.
MOST_COUNTED, MOST_MATCHES = 10_000, 1_000
# Sorts behind every text that goes on.
LAST = "\U0010ffff"

Search = Callable[[Connection, str, str, str, str | None, int], Awaitable[list[Match]]]


class Place(NamedTuple):
    """A user in a list, and the key that the next page starts behind."""

    user_id: str
    key: tuple[int, str]


class _Way(NamedTuple):
    """One text of a user's that may begin like what is looked for: the statement, and how to read it off a row."""

    search: Search
    text_of: Callable[[Match], str | None]


# In the order in which a list has them.
WAYS = (
    _Way(product_users.search_by_email, lambda match: match.email_key),
    _Way(product_users.search_by_username, lambda match: match.username_key),
    _Way(product_users.search_by_external_id, lambda match: match.external_id),
    _Way(product_users.search_by_name, lambda match: match.name_key),
)


async def find_users(
    conn: Connection, query: dict[str, Any], cursor: tuple[int, str] | None, limit: int
) -> tuple[list[Place], int]:
    """So many users behind the cursor, and how many there are in all, as far as it is counted; `query` is what
    UserQuerySchema made. Raises a problem for the cursor of another list."""
    status = query.get("status")
    if "email" in query or "external_id" in query:
        found = await _find_one(conn, query)
        return ([Place(found, (0, found))], 1) if found else ([], 0)
    if "q" in query and status != "suspended":
        return await _search(conn, query["q"], status, cursor, limit), await _count(conn, query["q"], status)
    if cursor is not None and cursor[0] < len(WAYS) and cursor[1]:
        # Nobody was made in the first few milliseconds of all times.
        raise cursor_refused()
    before = cursor or (NEVER, LAST)
    if "q" in query:
        ranges = _ranges(query["q"])
        listed = await product_users.search_suspended(conn, *ranges, before, limit)
        total = len(await product_users.search_suspended(conn, *ranges, (NEVER, LAST), MOST_MATCHES))
    elif status == "suspended":
        listed = await product_users.list_suspended_users(conn, before, limit)
        total = await product_users.count_suspended_users(conn, MOST_COUNTED)
    else:
        listed = await product_users.list_users(conn, before, limit, only_active=status == "active")
        total = await product_users.count_users(conn, MOST_COUNTED, only_active=status == "active")
    return [Place(one.id, (one.created_at, one.id)) for one in listed], total


async def _find_one(conn: Connection, query: dict[str, Any]) -> str | None:
    """The user who has this address or external id, and this status."""
    if "email" in query:
        contact = await users.find_contact_by_email(conn, email_key(query["email"]))
    else:
        user_id = await product_users.find_user_id_by_external_id(conn, query["external_id"])
        contact = await users.find_contact(conn, user_id) if user_id else None
    if contact is None or query.get("status") not in (None, "active" if contact.suspended_at is None else "suspended"):
        return None
    return contact.user_id


def _beginnings(text: str) -> tuple[str, str, str, str]:
    """What the texts of each way begin with, folded as they are."""
    address = unicodedata.normalize("NFC", text.lower())
    if "@" in text and not text.isascii():
        # The domain of another script is kept as its A-label, of which a part says nothing.
        with suppress(ValueError):
            address = email_key(text.lower())
    return address, key_of(text), text, name_key(text)


def _ranges(text: str) -> tuple[Range, Range, Range]:
    """From where to where the addresses, the names and usernames, and the external ids lie that begin so."""
    address, name, external_id, _ = _beginnings(text)
    return (address, address + LAST), (name, name + LAST), (external_id, external_id + LAST)


async def _search(
    conn: Connection, text: str, status: str | None, cursor: tuple[int, str] | None, limit: int
) -> list[Place]:
    beginnings, found = _beginnings(text), list[Place]()
    first, behind = cursor or (0, "")
    if first >= len(WAYS):
        raise cursor_refused()
    for number, (way, beginning) in enumerate(zip(WAYS, beginnings, strict=True)):
        if number < first:
            continue
        low, low_id = beginning, ""
        if number == first and behind:
            low_id, low = behind[:36], behind[36:]
        while len(found) < limit:
            wanted = limit - len(found)
            matches = await way.search(conn, low, low_id, beginning + LAST, status, wanted)
            for match in matches:
                low, low_id = way.text_of(match) or "", match.id
                if not _is_found_before(match, number, beginnings):
                    found.append(Place(match.id, (number, low_id + low)))
            if len(matches) < wanted:
                break
    return found


def _is_found_before(match: Match, number: int, beginnings: tuple[str, ...]) -> bool:
    """Whether the list has the user already, by another of their texts."""
    return any((WAYS[earlier].text_of(match) or "").startswith(beginnings[earlier]) for earlier in range(number))


async def _count(conn: Connection, text: str, status: str | None) -> int:
    return min(await product_users.count_matches(conn, *_ranges(text), status, MOST_MATCHES), MOST_MATCHES)
