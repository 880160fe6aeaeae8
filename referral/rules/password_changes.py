"""A password that its owner changes, who knows the former one."""

from aiohttp import web

from referral.auth.identity import ACCESS_TOKEN, IDENTITY
from referral.auth.passwords import PASSWORDS
from referral.config import CONFIG
from referral.limits import asker_of
from referral.queries import sessions, users
from referral.rules.accounts import check_new_password, check_not_personal, check_own_password, wrong_password
from referral.rules.mailed_links import end_changes
from referral.rules.work import work_on


async def change_password(request: web.Request, current: str, new: str, *, ends_own_session: bool = False) -> None:
    """Change the password of whoever is signed in. Every other session ends, and of this one every token but those that the
    caller has; or this session, too.

    Raises a problem for a wrong password, and a `validation-error` at `/new_password` for a new one that will not do.
    """
    app, me = request.app, request[IDENTITY]
    check_new_password(new, app[CONFIG], "/new_password")
    known = await check_own_password(request, current, "password-change-refused")
    check_not_personal(new, "/new_password", known.contact.email, known.contact.username)
    new_hash = await app[PASSWORDS].hash(new, asker_of(request))
    async with work_on(request) as work:
        # Links that set a password stay: whoever reads the mailbox may ask for more of them at any time, and whoever knows
        # the password must not keep the owner from using one. This comes first, as in the use of a link: else the two could
        # deadlock.
        await end_changes(work.conn, me.user_id)
        if not await users.update_password(work.conn, me.user_id, known.password_hash, new_hash):
            raise wrong_password()
        await work.hold_caller()
        work.ends_sessions(*await sessions.delete_other_sessions(work.conn, me.user_id, me.session_id))
        if ends_own_session:
            if await sessions.delete_session(work.conn, me.session_id):
                work.ends_sessions(me.session_id)
        else:
            # Somebody may hold tokens of this very session, too: only the caller's pair goes on.
            token = request.get(ACCESS_TOKEN)
            kept = token.refresh if token else ""
            await sessions.begin_generation(work.conn, me.session_id, kept)
            await sessions.delete_other_refresh_tokens(work.conn, me.session_id, kept)
            work.ends_tokens(me.session_id)
        await work.record("password-changed")
