"""When a provider is asked about a user."""

from referral.background.profiles import PROFILE_WORKER
from referral.config import CONFIG
from referral.queries import profiles
from referral.rules.work import Work


async def look_profile_up(work: Work, user_id: str) -> None:
    """Have the provider, if there is one, asked about the user's address once this is committed. What it said of a former
    address is forgotten."""
    app = work.request.app
    if app[CONFIG].enrichment.provider:
        await profiles.insert_lookup(work.conn, user_id, work.moment)
        await profiles.delete_profile(work.conn, user_id)
        work.wakes(app[PROFILE_WORKER])


async def look_verified_profile_up(work: Work, user_id: str) -> None:
    """As `look_profile_up`, for a user whose address has just been verified; where unverified ones are asked about, that was
    done before."""
    if work.request.app[CONFIG].limits_unverified:
        await look_profile_up(work, user_id)
