"""The programme recomputed from its rows: balances from transfers, limits from rewards, states from what moved, counts from
referrals, events and clicks, statistics from all of them. Whatever is kept and is something else is named.

All of it is read at one moment, so that it can be run beside a live service.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from referral.background.programme_stats import differences, kept_sums, sums_of_rows
from referral.clock import DAY, rfc_3339
from referral.database import Connection
from referral.queries import programme_stats, rewards, rules, verify
from referral.queries.reviews import OPEN, REJECTED
from referral.queries.rewards import BALANCE, FULFILLED, PENDING, REVERSED, VOID
from referral.queries.verify import MovedRedemption, SummedAccount, SummedReward
from referral.rules.money import remains

# Rows read at a time.
ROWS = 500

T = TypeVar("T")

# Which transfers a redemption in each state has caused.
MOVES = {
    "done": ({"redeemed"}, {"reserved", "captured"}),
    "reserved": ({"reserved"},),
    "released": ({"reserved", "released"},),
    "cancelled": ({"redeemed", "cancelled"}, {"reserved", "captured", "cancelled"}),
}


class Verification:
    """What was looked at is counted, and each difference is a sentence."""

    def __init__(self, conn: Connection, clicks_from: int = 0) -> None:
        """Sums of clicks are compared from a day (ms) on, from which all clicks are kept."""
        self._conn = conn
        self._clicks_from = clicks_from
        self.accounts = self.transfers = self.rewards = self.redemptions = 0

    async def differences(self) -> AsyncIterator[str]:
        """Each difference between what is kept and what the rows say."""
        for check in (
            self._accounts,
            self._statements,
            self._rewards,
            self._ordinals,
            self._refunds,
            self._conversions,
            self._reviews,
            self._referrers,
            self._limits,
            self._redemptions,
            self._rules,
            self._clicks,
            self._stats,
        ):
            async for difference in check():
                yield difference

    async def _pages(
        self, read: Callable[[Connection, Any, int], Awaitable[list[T]]], beginning: Any, key: Callable[[T], Any]
    ) -> AsyncIterator[T]:
        """All rows, a page at a time."""
        after = beginning
        while rows := await read(self._conn, after, ROWS):
            for row in rows:
                yield row
            after = key(rows[-1])

    async def _accounts(self) -> AsyncIterator[str]:
        async for account in self._pages(verify.list_summed_accounts, ("", ""), lambda row: (row.user_id, row.unit)):
            self.accounts += 1
            self.transfers += account.transfers
            for name, kept, summed in _sides(account):
                if kept != summed:
                    yield f"{account.unit} of user {account.user_id}: {name} is {kept}, and transfers come to {summed}"

    async def _statements(self) -> AsyncIterator[str]:
        whose, number, available = ("", ""), 0, 0
        async for line in self._pages(verify.list_lines, ("", "", 0), lambda row: (row.user_id, row.unit, row.line)):
            if (line.user_id, line.unit) != whose:
                whose, number, available = (line.user_id, line.unit), 0, 0
            number, available = number + 1, available + line.amount
            if (line.line, line.available_after) != (number, available):
                yield (
                    f"statement in {line.unit} of user {line.user_id}: line {line.line} says {line.available_after}, "
                    f"and is the {number}. line, after which {available} are available"
                )
                number, available = line.line, line.available_after

    async def _rewards(self) -> AsyncIterator[str]:
        async for reward in self._pages(verify.list_summed_rewards, "", lambda row: row.id):
            self.rewards += 1
            for objection in (*_of_state(reward), *_of_money(reward), *_of_taken(reward)):
                yield f"reward {reward.id} is {reward.status}: {objection}"

    async def _ordinals(self) -> AsyncIterator[str]:
        for found in await verify.list_doubled_ordinals(self._conn):
            yield (
                f"rule {found.rule_id} gave the {found.side} the {found.ordinal}. reward for the referral of "
                f"{found.referral_user_id} more than once"
            )

    async def _refunds(self) -> AsyncIterator[str]:
        async for event in self._pages(verify.list_wrong_refunds, "", lambda row: row.id):
            yield f"event {event.id}: {event.refunded} are refunded, and its refunds come to {event.all_refunds}"

    async def _conversions(self) -> AsyncIterator[str]:
        async for referral in self._pages(verify.list_wrong_conversions, "", lambda row: row.user_id):
            yield (
                f"referral of user {referral.user_id}: {referral.conversions} events are said to convert it, and "
                f"{referral.all_conversions} do, since {referral.converted_at}"
            )

    async def _reviews(self) -> AsyncIterator[str]:
        async for found in self._pages(verify.list_wrong_reviews, "", lambda row: row.user_id):
            whose = f"referral of user {found.user_id}"
            if found.review != found.status:
                yield f"{whose}: its review is said to be {found.review}, and is {found.status}"
            if found.status == OPEN and found.score != found.all_signals:
                yield f"{whose}: its review has a score of {found.score}, and its signals come to {found.all_signals}"
            if found.review == REJECTED and (found.conversions or found.left_rewards):
                yield (
                    f"{whose} is rejected, and has {found.conversions} conversions and {found.left_rewards} rewards that "
                    "are left"
                )

    async def _referrers(self) -> AsyncIterator[str]:
        async for user in self._pages(verify.list_counted_referrers, "", lambda row: row.id):
            if user.referral_count != user.all_referrals:
                yield f"user {user.id} is said to have {user.referral_count} referrals, and has {user.all_referrals}"
            if user.converted_count != user.all_converted:
                yield (f"user {user.id} is said to have {user.converted_count} converted ones, and has {user.all_converted}")

    async def _limits(self) -> AsyncIterator[str]:
        conn = self._conn
        for period in await verify.list_usage_periods(conn):
            rule_id, bounds = period.rule_id, (period.starts_at, period.ends_at)
            budget = await verify.find_counted_budget(conn, rule_id, period.starts_at)
            if budget is not None:
                given = await rules.sum_given(conn, rule_id, budget.unit, bounds)
                amount = given.amount if given else 0
                if budget.used != amount:
                    yield f"budget of rule {rule_id} from {period.starts_at}: {budget.used} are used, {amount} were given"
            for limit in await verify.list_wrong_referrers_limits(conn, rule_id, *bounds):
                yield (
                    f"limit of rule {rule_id} from {period.starts_at}: {limit.used} are counted of referrer "
                    f"{limit.subject}, and there are {limit.all_rewards}"
                )

    async def _redemptions(self) -> AsyncIterator[str]:
        async for redemption in self._pages(verify.list_moved_redemptions, "", lambda row: row.id):
            self.redemptions += 1
            moves = _moves(redemption)
            if redemption.strayed:
                yield f"redemption {redemption.id}: {redemption.strayed} of its transfers are of another account"
            if set(moves) not in MOVES.get(redemption.status, ()) or set(moves.values()) != {redemption.amount}:
                said = ", ".join(f"{name} {amount}" for name, amount in moves.items()) or "nothing"
                yield f"redemption {redemption.id} of {redemption.amount} is {redemption.status}, its transfers say {said}"

    async def _rules(self) -> AsyncIterator[str]:
        for rule in await verify.list_wrong_rules(self._conn):
            yield f"rule {rule.id} is said to be in version {rule.version}, and its latest is {rule.latest}"

    async def _clicks(self) -> AsyncIterator[str]:
        days = await verify.find_summed_days(self._conn)
        if days is None or days.first is None or days.last is None:
            return
        for day in range(max(days.first, self._clicks_from), days.last + 1, DAY):
            for found in await verify.list_wrong_click_days(self._conn, day, ROWS):
                yield (
                    f"code {found.code} on {rfc_3339(day)[:10]}: {found.clicks} clicks by {found.visitors} visitors and "
                    f"{found.robots} by robots are counted, and there are {found.all_clicks} by {found.all_visitors} and "
                    f"{found.all_robots}"
                )

    async def _stats(self) -> AsyncIterator[str]:
        if not await programme_stats.are_stats_filled(self._conn):
            return
        found = differences(await kept_sums(self._conn), await sums_of_rows(self._conn))
        for (day, what, unit), (count, amount) in sorted(found.items()):
            yield (
                f"statistics of {rfc_3339(day)[:10]}: {what} {unit}".rstrip()
                + f" is {count:+} in number and {amount:+} in amount beside what the rows come to"
            )


def _sides(account: SummedAccount) -> list[tuple[str, int, int]]:
    """The name of each sum, as it is kept, and as the transfers say."""
    names = ("programme", "pending", "available", "reserved", "spent")
    return [
        *((name, getattr(account, name), getattr(account, f"to_{name}")) for name in names),
        ("earned", account.earned, account.all_earned),
        ("reversed", account.reversed, account.all_reversed),
        ("the number of lines", account.lines, account.all_lines),
    ]


def _of_state(reward: SummedReward) -> list[str]:
    """What contradicts the state in the reward's own row."""
    found = []
    if reward.status not in rewards.STATUSES:
        found.append("there is no such state")
    counts = reward.rule_id is not None and reward.status != VOID and not reward.retracted
    if (reward.ordinal is not None) != counts:
        found.append("an ordinal is kept exactly by those of a rule that are neither void nor retracted")
    if reward.ordinal is not None and reward.times is not None and not 1 <= reward.ordinal <= reward.times:
        found.append(f"it is the {reward.ordinal}. of {reward.times} at most")
    if reward.status == FULFILLED and reward.fulfilled_at is None:
        found.append("nobody knows when it was fulfilled")
    is_whole = reward.value is not None and reward.reversed == reward.value
    # A void one may have lost its value to refunds, or be rejected before.
    if reward.value is not None and reward.status != VOID and is_whole != (reward.status == REVERSED):
        found.append(f"{reward.reversed} of {reward.value} are reversed")
    owners = {"referrer": reward.referrer_id, "referee": reward.referral_user_id, None: reward.user_id}
    if owners.get(reward.side) != reward.user_id:
        found.append(f"it is user {reward.user_id}'s, who is not the {reward.side}")
    waits = reward.needs_approval or reward.suspended_at is not None or reward.review == "open"
    if reward.status == PENDING and not waits and reward.due_at != reward.release_at:
        found.append("nothing keeps it, and it will not be released at its time")
    return found


def _of_money(reward: SummedReward) -> list[str]:
    """What contradicts the state in the ledger."""
    value = reward.value if reward.kind == BALANCE and reward.value is not None else 0
    found = []
    if reward.strayed:
        found.append(f"{reward.strayed} of its transfers are another user's, or of another unit")
    if reward.made != value:
        found.append(f"{reward.made} were promised in the ledger, of {value}")
    if value == 0:
        moved = reward.approved + reward.unearned + reward.clawed_back
        return [*found, "it has money in the ledger"] if moved else found
    expected = {
        PENDING: (0, reward.reversed, 0),
        VOID: (0, value, 0),
    }.get(reward.status, (value - reward.unearned, reward.unearned, reward.reversed - reward.unearned))
    moved_sums = (reward.approved, reward.unearned, reward.clawed_back)
    if moved_sums != expected:
        found.append(f"{moved_sums} were approved, given back before, and taken back after, in place of {expected}")
    return found


def _of_taken(reward: SummedReward) -> list[str]:
    """What contradicts the refunds of its event and the reversals by hand."""
    found = []
    if reward.reversed_by_hand != reward.by_hand:
        found.append(f"{reward.reversed_by_hand} are reversed by hand, and the reversals come to {reward.by_hand}")
    if reward.status == VOID or reward.retracted:
        return found
    amount, refunded = reward.amount or 0, reward.refunded or 0
    if reward.value is None:
        is_gone = (amount > 0 and refunded == amount) or reward.reversals > 0
        if is_gone != (reward.status == REVERSED):
            found.append("its event and its reversals say otherwise")
        return found
    rest = reward.value
    if refunded:
        rest = remains(reward.value, by_percentage=reward.by_percentage == 1, amount=amount, refunded=refunded)
    taken = min(reward.value, reward.by_hand + reward.value - rest)
    if reward.reversed != taken:
        found.append(f"{reward.reversed} are reversed, and refunds and reversals take {taken}")
    return found


def _moves(redemption: MovedRedemption) -> dict[str, int]:
    names = ("redeemed", "reserved", "captured", "released", "cancelled")
    found = {name: getattr(redemption, name) for name in names}
    return {name: amount for name, amount in found.items() if amount is not None}
