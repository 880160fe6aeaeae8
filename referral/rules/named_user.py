"""The user whom a path names: `{user}` is our id, `me`, or `ext:` and the id that the product gave."""

import uuid

from aiohttp import web

from referral.auth.identity import IDENTITY
from referral.contract.problems import Problem
from referral.database import Connection
from referral.queries import product_users, users
from referral.texts import EXTERNAL, email_key, is_external_id


def no_such_user() -> Problem:
    return Problem("not-found", "There is no such user.")


def external_id_in(text: str) -> str | None:
    """The external id that `{user}` names; None if it names none. Raises `not-found` for one that nobody can have."""
    if not text.startswith(EXTERNAL):
        return None
    external_id = text.removeprefix(EXTERNAL)
    if not is_external_id(external_id):
        raise no_such_user()
    return external_id


async def id_of_named(conn: Connection, text: str) -> str:
    """The id of the user whom the text, an id or an external id, names. That there is a user of an id is not checked.
    Raises `not-found`."""
    external_id = external_id_in(text)
    if external_id is not None:
        found = await product_users.find_user_id_by_external_id(conn, external_id)
        if found is None:
            raise no_such_user()
        return found
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Problem(
            "not-found", "There is no such user: an id of the product's own is named by ext: and the id."
        ) from None


async def id_of_person(conn: Connection, text: str) -> str:
    """As `id_of_named`, of a user who is there, whom an e-mail address may name, too. Raises `not-found`."""
    if "@" in text and not text.startswith(EXTERNAL):
        try:
            contact = await users.find_contact_by_email(conn, email_key(text.strip()))
        except ValueError:
            contact = None
    else:
        contact = await users.find_contact(conn, await id_of_named(conn, text.strip()))
    if contact is None:
        raise Problem("not-found", "There is no user with this id or address.")
    return contact.user_id


async def named_user(request: web.Request, conn: Connection) -> str:
    """The id of the user whom the path's `{user}` names, as `id_of_named`; `me` is whoever makes the request."""
    text = request.match_info["user"]
    return request[IDENTITY].user_id if text == "me" else await id_of_named(conn, text)


async def known_user(request: web.Request, conn: Connection) -> str:
    """As `named_user`, of a user who is there. Raises `not-found`."""
    user_id = await named_user(request, conn)
    if await users.find_contact(conn, user_id) is None:
        raise no_such_user()
    return user_id
