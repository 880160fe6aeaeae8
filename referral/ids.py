"""Ids: of rows, and of requests."""

import uuid_utils
from aiohttp import web

REQUEST_ID = web.RequestKey("request_id", str)


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and later ones of a process sort after earlier ones."""
    return str(uuid_utils.uuid7())
