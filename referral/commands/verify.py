"""The programme verified: everything that is kept as a sum, a count or a state, recomputed from its rows."""

import argparse
import asyncio

from referral.background.clicks import first_day_kept
from referral.clock import now
from referral.commands import Failed, opened
from referral.config import Config
from referral.rules.verification import Verification

# Differences that are printed; a broken disk may have millions.
MOST_TOLD = 1_000


def verify_programme(config: Config, arguments: argparse.Namespace) -> None:
    """Recompute balances, limits, counts and states from the rows of one moment, and print each difference. Raises Failed
    if there are any."""
    found, looked_at = asyncio.run(_verify(config))
    for difference in found[:MOST_TOLD]:
        print(difference)
    if found:
        raise Failed(f"{len(found)} differences; {looked_at}")
    print(f"No difference: {looked_at}.")


async def _verify(config: Config) -> tuple[list[str], str]:
    async with opened(config) as database, database.snapshot() as conn:
        verification = Verification(conn, first_day_kept(config, now()))
        found = [difference async for difference in verification.differences()]
    return found, (
        f"{verification.accounts} accounts, {verification.transfers} transfers, {verification.rewards} rewards and "
        f"{verification.redemptions} redemptions are verified"
    )
