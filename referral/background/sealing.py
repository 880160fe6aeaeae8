"""After a rotation of keys: what is sealed in the database is sealed anew, because the key before is forgotten by the next
one."""

from referral.auth.sealing import Seal
from referral.background.webhook_upkeep import seal_webhooks_anew
from referral.database import Database
from referral.queries import second_factors


async def seal_all_anew(database: Database, seal: Seal) -> None:
    """Have the secrets of webhooks and of second factors sealed by the current key. Raises DatabaseUnavailable."""
    await seal_webhooks_anew(database, seal)
    async with database.reader() as conn:
        found = await second_factors.list_second_factors(conn)
    for one in found:
        renewed = seal.renewed(one.secret)
        if renewed is not None:
            async with database.transaction() as conn:
                await second_factors.update_second_factor_secret(conn, one.user_id, renewed, one.secret)
