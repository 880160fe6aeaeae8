"""Who makes a request."""

from aiohttp import web

from referral.queries.sessions import LiveSession

# The session that the request's access token belongs to; absent where nobody has to sign in.
IDENTITY = web.RequestKey("identity", LiveSession)
