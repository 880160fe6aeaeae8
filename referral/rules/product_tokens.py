"""The end of tokens that the product's own identity provider issued: nobody here can take them back, but they name a
user."""

from referral.auth.identity import token_name
from referral.config import CONFIG
from referral.queries import identities
from referral.rules.work import Work


async def end_product_tokens(work: Work, user_id: str, external_id: str | None) -> None:
    """Once the request is answered, tokens that name the user are looked up anew: by their external id, which may not be
    theirs any more, or by who they are at an issuer."""
    for found in await identities.list_identities(work.conn, user_id):
        work.ends_sessions(token_name(found.issuer, found.subject))
    if external_id is not None:
        for trusted in work.request.app[CONFIG].identity.issuers:
            work.ends_sessions(token_name(trusted.issuer, external_id))
