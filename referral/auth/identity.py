"""Who makes a request."""

from aiohttp import web

from referral.auth.tokens import Verified
from referral.queries.sessions import LiveSession

# The session that the request's access token belongs to; absent where nobody has to sign in.
IDENTITY = web.RequestKey("identity", LiveSession)
# The access token itself.
ACCESS_TOKEN = web.RequestKey("access_token", Verified)
