"""Who makes a request."""

from aiohttp import web

from referral.auth.tokens import Verified
from referral.queries.sessions import LiveSession

# The session that the request's access token belongs to; absent where nobody has to sign in.
IDENTITY = web.RequestKey("identity", LiveSession)
# What the access token says of itself: its session, and the pair of tokens that it came with.
ACCESS_TOKEN = web.RequestKey("access_token", Verified)
