"""The end of all sessions of a user, and of tokens that the product's own identity provider issued: nobody here can take
those back, but they name a user."""

from referral.auth.identity import token_name
from referral.config import CONFIG
from referral.queries import identities, sessions
from referral.rules.work import Work


async def end_product_tokens(work: Work, user_id: str, external_id: str | None) -> None:
    """Once the request is answered, tokens that name the user are looked up anew: by their external id, which may not be
    theirs any more, or by who they are at an issuer."""
    for found in await identities.list_identities(work.conn, user_id):
        work.ends_sessions(token_name(found.issuer, found.subject))
    if external_id is not None:
        for trusted in work.request.app[CONFIG].identity.issuers:
            work.ends_sessions(token_name(trusted.issuer, external_id))


async def end_all_sessions(work: Work, user_id: str, external_id: str | None) -> None:
    """End each session of the user, who is locked and has this id of the product's, if any. That is recorded if there was
    one."""
    ended = await sessions.delete_sessions_of_user(work.conn, user_id)
    work.ends_sessions(*ended)
    await end_product_tokens(work, user_id, external_id)
    if ended:
        await work.record("sessions-ended", user=user_id, sessions=len(ended))
