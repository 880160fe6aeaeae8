"""Rows of a ledger: people who were given rewards and spent some of them, and rewards that are pending.

Whatever is kept as a sum is right: `run.py verify` finds no difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.fill import Population, Table, user_id

UNIT = "USD"
ACCOUNTS = ("user_id", "unit", "programme", "pending", "available", "spent", "earned", "lines")
REWARDS = (
    "id",
    "user_id",
    "kind",
    "unit",
    "value",
    "status",
    "release_at",
    "created_at",
    "approved_at",
    "caller_id",
    "reason",
)
REDEMPTIONS = ("id", "user_id", "unit", "amount", "status", "created_at", "outcome", "body_hash")
TRANSFERS = (
    "kind",
    "reference",
    "user_id",
    "unit",
    "debit",
    "credit",
    "amount",
    "at",
    "line",
    "available_after",
    "reward_id",
    "redemption_id",
)
# What one turn of a user is: two rewards of so much, given and approved at once, and one redemption of so much.
REWARD, SPENT = 500, 700
TRANSFERS_OF_TURN, LINES_OF_TURN = 5, 3
# Every sixth turn is the first user's, who so has a line of a statement for every ten transfers.
SHARE_OF_FIRST = 6


class Ledger:
    """So many transfers (rounded down to whole turns) of a population's referrers, spread over its time; the first one's
    statement has a line for every ten of them."""

    def __init__(self, population: Population, transfers: int) -> None:
        self._population = population
        self.turns = transfers // TRANSFERS_OF_TURN
        self.transfers = self.turns * TRANSFERS_OF_TURN
        # Nothing moves before its user came.
        self._start = population.moment(population.referrers)
        self._step = (population.moment(population.users) - self._start) / max(self.turns, 1)

    @property
    def longest(self) -> int:
        """Lines of the first one's statement."""
        return self._turns_of(0) * LINES_OF_TURN

    def _turn(self, number: int) -> tuple[str, int, int]:
        """Whose turn it is, how many that user had before, and when it is (ms)."""
        turn, rest = divmod(number, SHARE_OF_FIRST)
        moment = self._start + int(number * self._step)
        if rest == 0:
            return self._population.id(0), turn, moment
        before, whose = divmod(number - turn - 1, self._population.referrers - 1)
        return self._population.id(1 + whose), before, moment

    def _turns_of(self, user: int) -> int:
        """How many turns a referrer has."""
        firsts = -(-self.turns // SHARE_OF_FIRST)
        if user == 0:
            return firsts
        all_have, more = divmod(self.turns - firsts, self._population.referrers - 1)
        return all_have + (user <= more)

    def account_rows(self) -> Iterator[tuple[Any, ...]]:
        for user in range(self._population.referrers):
            turns = self._turns_of(user)
            earned, spent = turns * 2 * REWARD, turns * SPENT
            if turns:
                lines = turns * LINES_OF_TURN
                yield self._population.id(user), UNIT, -earned, 0, earned - spent, spent, earned, lines

    def reward_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.turns):
            whose, _, moment = self._turn(number)
            for reward in (2 * number, 2 * number + 1):
                made = (REWARD, "approved", moment, moment, moment, f"given{reward:09}", "For the trouble")
                yield user_id(reward, moment), whose, "balance", UNIT, *made

    def redemption_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.turns):
            whose, before, moment = self._turn(number)
            outcome = json.dumps({"available": (before + 1) * (2 * REWARD - SPENT)})
            yield f"spent{number:09}", whose, UNIT, SPENT, "done", moment, outcome, "0" * 64

    def transfer_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.turns):
            whose, before, moment = self._turn(number)
            line, available = before * LINES_OF_TURN, before * (2 * REWARD - SPENT)
            for reward in (2 * number, 2 * number + 1):
                line, available, reward_id = line + 1, available + REWARD, user_id(reward, moment)
                given = (reward_id, whose, UNIT, "programme", "pending", REWARD, moment, None, None, reward_id, None)
                yield "reward", *given
                approved = (reward_id, whose, UNIT, "pending", "available", REWARD, moment, line, available, reward_id, None)
                yield "approval", *approved
            redemption = f"spent{number:09}"
            spent = ("available", "spent", SPENT, moment, line + 1, available - SPENT, None, redemption)
            yield "redemption", redemption, whose, UNIT, *spent

    def tables(self) -> list[Table]:
        accounts = sum(self._turns_of(user) > 0 for user in range(self._population.referrers))
        return [
            ("accounts", ACCOUNTS, self.account_rows(), accounts),
            ("rewards", REWARDS, self.reward_rows(), 2 * self.turns),
            ("redemptions", REDEMPTIONS, self.redemption_rows(), self.turns),
            ("transfers", TRANSFERS, self.transfer_rows(), self.transfers),
        ]


class Pending:
    """So many rewards by a rule for events of users who came by others, each to the referrer; all become due one after the
    other, from a moment on (ms), within so many milliseconds."""

    def __init__(self, population: Population, rewards: int, first_due: int, within: int) -> None:
        self._population = population
        self.rewards = rewards
        self.first_due, self.within = first_due, within
        self._made_at = population.moment(population.users)

    def _ids(self, number: int) -> tuple[str, str, str, str]:
        """The ids of a reward, its event, its referee and its referrer."""
        people = self._population
        referee = number % len(people.referrer_of)
        who = people.id(people.referrers + referee), people.id(people.referrer_of[referee])
        return user_id(number, self._made_at), f"pending{number:09}", *who

    def rule_rows(self) -> Iterator[tuple[Any, ...]]:
        yield user_id(0, self._made_at), 1, "order", "referrer", self._made_at

    def version_rows(self) -> Iterator[tuple[Any, ...]]:
        give = {"kind": "balance", "label": None, "unit": UNIT, "fixed": REWARD, "percent": None, "max": None}
        rule = {"name": "held", "on": "order", "to": "referrer", "times": None, "give": give, "tiers": [], "if": None}
        rule |= {"hold_days": 30, "approval": "automatic", "limits": None, "starts_at": None, "ends_at": None}
        yield user_id(0, self._made_at), 1, self._made_at, json.dumps({**rule, "enabled": True})

    def event_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.rewards):
            _, event, referee, referrer = self._ids(number)
            at = self._made_at
            yield event, "order", referee, at, at, UNIT, 10 * REWARD, "kept", referrer, at, 1

    def account_rows(self) -> Iterator[tuple[Any, ...]]:
        for referrer, sum_of in sorted(self._sums().items()):
            yield self._population.id(referrer), UNIT, -sum_of, sum_of, 0, 0, 0, 0

    def _sums(self) -> dict[int, int]:
        """What is pending for each referrer."""
        found: dict[int, int] = {}
        referrer_of = self._population.referrer_of
        for number in range(self.rewards):
            referrer = referrer_of[number % len(referrer_of)]
            found[referrer] = found.get(referrer, 0) + REWARD
        return found

    def reward_rows(self) -> Iterator[tuple[Any, ...]]:
        rule, people = user_id(0, self._made_at), len(self._population.referrer_of)
        for number in range(self.rewards):
            reward, event, referee, referrer = self._ids(number)
            due_at = self.first_due + number * self.within // self.rewards
            money = ("referrer", "balance", UNIT, REWARD, "pending", rule, 1, event, referee, referrer)
            yield reward, referrer, *money, number // people + 1, due_at, due_at, self._made_at

    def transfer_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.rewards):
            reward, _, _, referrer = self._ids(number)
            legs = ("programme", "pending", REWARD, self._made_at, None, None, reward, None)
            yield "reward", reward, referrer, UNIT, *legs

    def tables(self) -> list[Table]:
        given = ("id", "user_id", "side", "kind", "unit", "value", "status", "rule_id", "rule_version", "event_id")
        given += ("referral_user_id", "referrer_id", "ordinal", "release_at", "due_at", "created_at")
        happened = ("id", "type", "user_id", "received_at", "occurred_at", "unit", "amount", "attribution")
        happened += ("referrer_id", "joined_at", "tier")
        return [
            ("rules", ("id", "version", "on_type", "side", "created_at"), self.rule_rows(), 1),
            ("rule_versions", ("rule_id", "version", "created_at", "definition"), self.version_rows(), 1),
            ("events", happened, self.event_rows(), self.rewards),
            ("accounts", ACCOUNTS, self.account_rows(), len(self._sums())),
            ("rewards", given, self.reward_rows(), self.rewards),
            ("transfers", TRANSFERS, self.transfer_rows(), self.rewards),
        ]
