"""Changes (the transactional outbox): a transaction announces what it changes by rows of its own, so that a change is told
if and only if it is committed.

The relay (`background/relay.py`) gives each its place in the feed. What is told is the whole object, as it is at the end of
the transaction.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from referral.contract.schemas.balances import balance_view, redemption_view
from referral.contract.schemas.codes import code_view
from referral.contract.schemas.people import person
from referral.contract.schemas.referrals import operators_referral_view
from referral.contract.schemas.rewards import reward_view
from referral.contract.schemas.users import user_view
from referral.contract.schemas.webhooks import webhook_view
from referral.database import Connection
from referral.ids import new_id
from referral.links import Links
from referral.queries import changes, codes, referrals, users
from referral.queries.changes import ChangeType
from referral.queries.codes import Code
from referral.queries.ledger import Balance, Moved, Redemption
from referral.queries.referrals import Referral
from referral.queries.rewards import Reward
from referral.queries.webhooks import Webhook

# With an erased user these members go from whatever was told of them.
PERSONAL = [
    "email",
    "external_id",
    "metadata",
    "name",
    "note",
    "profile",
    "reason",
    "reference",
    "username",
]


class Change(NamedTuple):
    """What is told: the type, what it is about, the whole object, and whose it is."""

    type: ChangeType
    subject_id: str
    data: dict[str, Any]
    user_id: str | None = None


async def announce(conn: Connection, told: Sequence[Change], at: int) -> None:
    """Announce changes made at a time (ms), in this order. Comes behind whatever locks their subjects, so that two
    transactions which change one thing announce it in the order of their commits."""
    if told:
        rows = [
            {
                "id": new_id(),
                "type": change.type,
                "subject_id": change.subject_id,
                "user_id": change.user_id,
                "data": orjson.dumps(change.data).decode(),
            }
            for change in told
        ]
        await changes.insert_announcements(conn, rows, at)


async def user_change(conn: Connection, kind: ChangeType, user_id: str, at: int, links: Links) -> Change:
    """A user as they are now. Whom they came by is told by id alone: the name is another person's."""
    account = await users.find_account(conn, user_id, at)
    assert account is not None
    return account_change(kind, account, at, links)


def account_change(kind: ChangeType, account: users.Account, at: int, links: Links) -> Change:
    """As `user_change`, of a user who is at hand."""
    data = user_view(account, at, links)
    if account.referrer_id is not None:
        data["referrer"] = person(account.referrer_id, None, None)
    return Change(kind, account.id, data, account.id)


def erased_user_change(user_id: str) -> Change:
    """That a user is gone: as others see them from now on."""
    return Change("user.erased", user_id, person(user_id, None, None), user_id)


def code_change(kind: ChangeType, code: Code, owner_id: str, at: int, *, is_suspended: bool = False) -> Change:
    """A code as it is at this time (ms); whether its owner `is_suspended`."""
    data = code_view(code, at)
    reason = data["status"] if data["status"] != "active" else "suspended" if is_suspended else None
    return Change(kind, code.code, {**data, "user_id": owner_id, "ended_by": reason}, owner_id)


async def found_code_change(conn: Connection, kind: ChangeType, text: str, at: int) -> Change:
    """The code of this text as it is at this time (ms)."""
    code = await codes.find_told_code(conn, text)
    assert code is not None
    return code_change(kind, code, code.referrer_id, at, is_suspended=code.suspended_at is not None)


async def referral_change(conn: Connection, kind: ChangeType, user_id: str, referrer_id: str) -> Change:
    """By whom a user came, as it is now."""
    found = await referrals.find_referral(conn, user_id)
    assert found is not None
    return known_referral_change(kind, found, referrer_id)


def taken_referral_change(referral: Referral, referrer_id: str) -> Change:
    """That a user came by somebody is taken back: there is no such referral any more."""
    left = referral._replace(external_id=None, username=None, name=None, email=None)
    change = known_referral_change("referral.retracted", left, referrer_id)
    return change._replace(data={**change.data, "status": "ended"})


def known_referral_change(kind: ChangeType, referral: Referral, referrer_id: str) -> Change:
    """As `referral_change`, of a referral that is at hand."""
    data = {**operators_referral_view(referral), "referrer_id": referrer_id}
    return Change(kind, referral.user_id, data, referral.user_id)


def reward_change(kind: ChangeType, reward: Reward, at: int) -> Change:
    """A reward as it is at this time (ms)."""
    return Change(kind, reward.id, reward_view(reward, at), reward.user_id)


def balance_changes(moved: Iterable[Moved]) -> list[Change]:
    """What users have after their money was moved."""
    return [
        Change("balance.changed", one.user_id, {"user_id": one.user_id, **balance_view(one)}, one.user_id) for one in moved
    ]


def redemption_change(kind: ChangeType, redemption: Redemption, balance: Balance) -> Change:
    """A redemption, with the user's balance after it."""
    data = redemption_view(redemption, balance_view(balance))
    return Change(kind, redemption.id, data, redemption.user_id)


def disabled_webhook_change(webhook: Webhook) -> Change:
    """That a webhook is disabled. A query may hold what its receiver keeps secret from other readers of the feed."""
    view = webhook_view(webhook)
    return Change("webhook.disabled", webhook.id, {**view, "url": webhook.url.partition("?")[0]})
