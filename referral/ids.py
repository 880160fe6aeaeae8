"""Ids: of rows, and of requests."""

import uuid_utils
from aiohttp import web

# What the answer and the log call a request: the client's own id, if it sent a sane one.
REQUEST_ID = web.RequestKey("request_id", str)
# What is kept: an id of the service's own, because a client's may hold anything.
OWN_REQUEST_ID = web.RequestKey("own_request_id", str)


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and later ones of a process sort after earlier ones."""
    return str(uuid_utils.uuid7())
