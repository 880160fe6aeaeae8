"""The export of a user: everything that is kept about the person, as one JSON document, written piece by piece.

Each list is read in pages, each by itself, so that neither a long history nor a slow client holds the database or the
memory.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from referral.clock import NEVER, now, rfc_3339
from referral.contract.schemas.balances import balance_view, first_view
from referral.contract.schemas.codes import code_view
from referral.contract.schemas.events import event_view
from referral.contract.schemas.rewards import reward_view
from referral.contract.schemas.second_factors import second_factor_view
from referral.contract.schemas.sessions import session_view
from referral.contract.schemas.users import user_view
from referral.database import Connection, Database, read_from_replica
from referral.links import Links
from referral.queries import (
    audit,
    codes,
    event_contexts,
    events,
    identities,
    ledger,
    one_time_tokens,
    outbox,
    referrals,
    reviews,
    rewards,
    second_factors,
    sessions,
    users,
)
from referral.rules.named_user import no_such_user
from referral.rules.product_users import check_not_admins
from referral.rules.work import Work

# Rows read at a time.
ROWS = 500
BEGINNING = (NEVER, "\U0010ffff")

Key = tuple[Any, str]


@dataclass(frozen=True, slots=True)
class _List:
    """A list of the document: what reads a page of it behind a key, the key of a row, and the view of one."""

    name: str
    read: Callable[[Connection, str, Key], Awaitable[list[Any]]]
    key: Callable[[Any], Key]
    view: Callable[[Any], dict[str, Any]]
    beginning: Key = BEGINNING


async def begin_export(work: Work, user_id: str) -> users.Account:
    """The account that is to be exported, which is recorded. Raises `not-found`, and `forbidden` as `check_not_admins`."""
    account = await users.find_account(work.conn, user_id, work.moment)
    if account is None:
        raise no_such_user()
    await check_not_admins(work, account.id)
    await work.record("user-exported", user=account.id)
    return account


async def export_user(database: Database, account: users.Account, links: Links) -> AsyncIterator[bytes]:
    """The document, in pieces."""
    moment = now()

    async def read_small(conn: Connection) -> dict[str, Any]:
        return {
            "exported_at": rfc_3339(moment),
            "user": user_view(account, moment, links),
            "second_factor": second_factor_view(await second_factors.find_second_factor(conn, account.id)),
            "identities": [_identity(found) for found in await identities.list_identities(conn, account.id)],
            "mails": [_mail(found) for found in await outbox.list_mail_of_user(conn, account.id)],
            "balances": [balance_view(found) for found in await ledger.list_balances(conn, account.id)],
            "review": _review(await reviews.find_review(conn, account.id)),
            "signals": [_signal(found) for found in await reviews.list_signals(conn, account.id)],
            "links": [_link(found) for found in await one_time_tokens.list_links(conn, account.id)],
        }

    small = await read_from_replica(database, read_small)
    yield orjson.dumps(small)[:-1]
    for part in _lists(account.id, moment):
        yield b"," + orjson.dumps(part.name) + b":["
        key, separator = part.beginning, b""
        while True:
            rows = await _read_page(database, part, account.id, key)
            if not rows:
                break
            yield separator + b",".join(orjson.dumps(part.view(row)) for row in rows)
            key, separator = part.key(rows[-1]), b","
        yield b"]"
    yield b"}"


async def _read_page(database: Database, part: _List, user_id: str, key: Key) -> list[Any]:
    return await read_from_replica(database, lambda conn: part.read(conn, user_id, key))


def _lists(user_id: str, moment: int) -> tuple[_List, ...]:
    return (
        _List(
            "codes",
            lambda conn, user_id, key: codes.list_codes(conn, user_id, key, ROWS),
            lambda code: (code.created_at, code.code),
            lambda code: code_view(code, moment),
        ),
        _List(
            "referrals",
            lambda conn, user_id, key: referrals.list_referrals(conn, user_id, key, ROWS, with_email=False),
            lambda referral: (referral.joined_at, referral.user_id),
            _referral,
        ),
        _List(
            "events",
            lambda conn, user_id, key: events.list_events_of_user(conn, user_id, None, 0, key, ROWS),
            lambda event: (event.received_at, event.id),
            event_view,
        ),
        _List(
            "event_contexts",
            lambda conn, user_id, key: event_contexts.list_contexts(conn, user_id, key, ROWS),
            lambda context: (context.event_id, context.kind),
            lambda context: {"event_id": context.event_id, "kind": context.kind},
            ("", ""),
        ),
        _List(
            "rewards",
            lambda conn, user_id, key: rewards.list_rewards_of_user(conn, user_id, None, None, None, key, ROWS),
            lambda reward: (reward.created_at, reward.id),
            lambda reward: reward_view(reward, moment),
        ),
        _List(
            "redemptions",
            lambda conn, user_id, key: ledger.list_redemptions_of_user(conn, user_id, key, ROWS),
            lambda redemption: (redemption.created_at, redemption.id),
            lambda redemption: first_view(redemption) | {"status": redemption.status},
        ),
        _List(
            "sessions",
            lambda conn, user_id, key: sessions.list_sessions(conn, user_id, moment, key, ROWS),
            lambda session: (session.created_at, session.id),
            lambda session: session_view(session, ""),
        ),
        _List(
            "security_events",
            lambda conn, user_id, key: audit.list_events_about_user(conn, user_id, key, ROWS),
            lambda event: (event.at, event.id),
            lambda event: _security_event(event, user_id),
        ),
    )


def _identity(identity: identities.Identity) -> dict[str, Any]:
    return {"issuer": identity.issuer, "subject": identity.subject, "created_at": rfc_3339(identity.created_at)}


def _mail(mail: outbox.MailOfUser) -> dict[str, Any]:
    return {"kind": mail.kind, "recipient": mail.recipient, "created_at": rfc_3339(mail.created_at)}


def _review(review: reviews.Review | None) -> dict[str, Any] | None:
    """Of the referral by which the user came. Who decided is somebody else."""
    if review is None:
        return None
    return {
        "status": review.status,
        "score": review.score,
        "opened_at": rfc_3339(review.opened_at),
        "decided_at": None if review.decided_at is None else rfc_3339(review.decided_at),
        "reason": review.reason,
    }


def _signal(signal: reviews.KeptSignal) -> dict[str, Any]:
    """Without the evidence, by which somebody else may be known."""
    return {"kind": signal.kind, "weight": signal.weight, "at": rfc_3339(signal.at)}


def _link(link: one_time_tokens.KeptLink) -> dict[str, Any]:
    return {
        "purpose": link.purpose,
        "email": link.email,
        "created_at": rfc_3339(link.created_at),
        "expires_at": rfc_3339(link.expires_at),
        "used_at": None if link.used_at is None else rfc_3339(link.used_at),
    }


def _referral(referral: referrals.Referral) -> dict[str, Any]:
    """Whoever came by the user is somebody else: their names are theirs to export."""
    return {"id": referral.user_id, "joined_at": rfc_3339(referral.joined_at), "code": referral.code}


def _security_event(event: audit.Event, user_id: str) -> dict[str, Any]:
    """Whoever else did something, or had something done to them, is somebody else: who, and from where, is theirs."""
    is_own = event.actor_id in (None, user_id)
    return {
        "id": event.id,
        "at": rfc_3339(event.at),
        "event": event.event,
        "actor_id": event.actor_id if is_own else None,
        "user_id": event.user_id if event.user_id == user_id else None,
        "address": event.address if is_own else None,
        "detail": orjson.loads(event.detail),
    }
