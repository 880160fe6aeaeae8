"""The export of a user as an answer: a file that a browser keeps."""

from aiohttp import web

from referral.database import DATABASE
from referral.links import LINKS
from referral.queries.users import Account
from referral.rules.user_export import export_user
from referral.web.headers import JSON_HEADERS


async def send_export(request: web.Request, account: Account) -> web.StreamResponse:
    """Send everything that is kept about the user, piece by piece."""
    response = web.StreamResponse(headers={**JSON_HEADERS, "Content-Disposition": 'attachment; filename="user.json"'})
    await response.prepare(request)
    async for piece in export_user(request.app[DATABASE], account, request.app[LINKS]):
        await response.write(piece)
    await response.write_eof()
    return response
