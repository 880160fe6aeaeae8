"""Events, recorded exactly once: the caller's id is the idempotency key, and is remembered for ever.

The unique key of the table decides which of several equal reports is the first. Whatever another one did until then is
rolled back, and it gets the first one's answer.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from referral.clock import now
from referral.config import CONFIG
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.events import REFUND, event_view
from referral.contract.schemas.referrals import operators_referral_view
from referral.contract.schemas.rewards import reward_view
from referral.database import DATABASE, Connection, ConstraintViolation, TransactionConflict
from referral.queries import events, locks, product_users, referrals, rewards
from referral.queries.events import Attribution, NewEvent, ReportedEvent
from referral.queries.product_users import ProductUser
from referral.queries.referrals import Referral, Standing
from referral.rules.accounts import is_reserved
from referral.rules.attributing import Came, Refused, Way, attribute, came_by, click_on, may_lead, ways_of
from referral.rules.event_contexts import keep_traces, traces_of
from referral.rules.idempotency import Answered, hash_of
from referral.rules.product_users import CLOCK_LEEWAY, Taken, describe, holder_of, id_of, lock_named
from referral.rules.programme import Happened
from referral.rules.rewarding import Meeting, decide, keep, kept_outcome, meet, weigh
from referral.rules.rewards import refund as take_back
from referral.rules.suspecting import joined_by, suspect, suspect_refund
from referral.rules.units import check_unit
from referral.rules.work import Work, work_on

# What of a user may be another's, by the rule of the schema that says so.
MEMBERS = {
    "users_email_key": ("/user/email", "email-taken"),
    "users_username_key": ("/user/username", "username-taken"),
}
# What is kept of a refund whose user was erased.
NAMELESS = ("id", "type", "refunds")
# Characters of a code or a click that are kept: a longer one is none of ours.
KEPT_TEXT = 64


class Tried(NamedTuple):
    """The ways by which the user may have come, those with a reason tried in vain; and what was said of the user that is
    another's, as it is answered."""

    ways: tuple[Way, ...] = ()
    ignored: tuple[dict[str, Any], ...] = ()

    def without(self, pointer: str, reason: str, user_id: str | None) -> "Tried":
        """What lies there is left out, for this reason; the user is who has it."""
        return self._replace(ignored=(*self.ignored, {"pointer": pointer, "reason": reason, "user_id": user_id}))


class _Known(Exception):
    """An event of this id is recorded already: the transaction has to be rolled back."""


async def record_event(request: web.Request, body: dict[str, Any], report: Any) -> Answered:
    """Record an event once; `body` is what EventReportSchema made of `report`, the JSON document.

    Raises a problem, and TransactionConflict if it may succeed when it is made again.
    """
    body_hash = hash_of(report)
    known = await _find(request, body["id"])
    if known:
        return await _repeated(request, known, body, body_hash)
    # That of a refund is the refunded event's.
    if body.get("value") is not None and body["type"] != REFUND:
        check_unit(body["value"]["unit"], request.app[CONFIG])
    tried = Tried()
    if body["type"] != REFUND:
        tried = Tried(await ways_of(request, body.get("code"), body.get("click_id"), _occurred_at(body, now())))
    while True:
        try:
            if body["type"] == REFUND:
                return await _record_refund(request, body, body_hash, tried)
            return await _record(request, body, body_hash, tried)
        except Refused as refused:
            # Once more, without the attempt.
            tried = tried._replace(ways=refused.without_it(tried.ways))
        except Taken as taken:
            # What happened is recorded, whatever else is wrong with the user.
            tried = tried.without(*MEMBERS[taken.constraint], await holder_of(request, taken))
        except _Known:
            known = await _find(request, body["id"])
            assert known is not None
            return await _repeated(request, known, body, body_hash)


async def _find(request: web.Request, event_id: str) -> ReportedEvent | None:
    async with request.app[DATABASE].reader() as conn:
        return await events.find_reported_event(conn, event_id)


async def _repeated(request: web.Request, known: ReportedEvent, body: dict[str, Any], body_hash: str) -> Answered:
    """The first answer again. Raises `event-mismatch` for another body."""
    async with request.app[DATABASE].reader() as conn:
        user = await product_users.find_product_user(conn, known.user_id)
        is_same = known.body_hash == body_hash if known.body_hash is not None else _is_alike(known, user, body)
        if not is_same:
            raise Problem("event-mismatch", "Another event was reported with this id before.")
        is_shown = user is not None and known.attribution in (events.ATTRIBUTED, events.KEPT)
        referral = await referrals.find_referral(conn, known.user_id) if is_shown else None
        outcome = orjson.loads(known.outcome) if known.outcome else {"rewards": [], "skipped": []}
        now_kept = {
            reward.id: reward_view(reward) for reward in await rewards.list_rewards_of_event(conn, known.refunds or known.id)
        }
    # What of a reward has changed since is told as it was.
    first = [{**now_kept[state["id"]], **state} for state in outcome["rewards"]]
    return Answered(_document(replace(known, refunded=0), referral, first, outcome["skipped"]), True)


def _is_alike(known: ReportedEvent, user: ProductUser | None, body: dict[str, Any]) -> bool:
    """Whether a report may be the same, of an event without a hash: the service's own, and one whose user was erased, of
    which nothing personal is left to compare."""
    value, named = body.get("value"), body.get("user")
    if (known.type, known.refunds) != (body["type"], body.get("refunds")):
        return False
    if value is None:
        # A refund that names no value has taken what was left.
        if known.unit is not None and known.type != REFUND:
            return False
    elif (known.unit, known.amount) != (value["unit"], value["amount"]):
        return False
    return user is None or named is None or named.get("id") == user.id or named.get("external_id", "") == user.external_id


def _document(
    event: ReportedEvent, referral: Referral | None, rewarded: list[dict[str, Any]], skipped: list[dict[str, str]]
) -> dict[str, Any]:
    """RecordedEvent, of an event as it was recorded."""
    view = event_view(event)
    return {
        "event": view,
        "user_id": event.user_id,
        "attribution": view["attribution"],
        "referral": operators_referral_view(referral) if referral else None,
        "rewards": rewarded,
        "skipped": skipped,
        "ignored": orjson.loads(event.ignored) if event.ignored else [],
    }


def _referral(user: ProductUser, came: Came | None, standing: Standing | None) -> Referral | None:
    """That the user came by somebody."""
    if came is None or standing is None:
        return None
    return Referral(
        None,
        user.id,
        user.external_id,
        user.username,
        user.name,
        user.email,
        came.joined_at,
        came.code,
        standing.source,
        standing.review,
        standing.converted_at,
    )


def _occurred_at(body: dict[str, Any], moment: int) -> int:
    occurred_at = int(body.get("occurred_at", moment))
    if not 0 <= occurred_at <= moment + CLOCK_LEEWAY:
        raise invalid("/occurred_at", "Must not be more than 5 minutes in the future, nor before 1970.")
    return occurred_at


async def _record(request: web.Request, body: dict[str, Any], body_hash: str, tried: Tried) -> Answered:
    """Raises Refused, Taken and _Known, after which nothing is left of it."""
    is_tried = may_lead(tried.ways)
    may_refer = is_tried and await _may_refer(request, body["user"])
    async with _once(), work_on(request) as work:
        if "external_id" not in body["user"]:
            # Else they are held by what locks the user.
            await locks.hold_rules(work.conn)
        await work.hold_caller()
        occurred_at = _occurred_at(body, work.moment)
        if may_refer:
            await locks.lock_referrers(work.conn)
        user, is_new = await lock_named(work, body["user"])
        if is_tried and not (may_refer or is_new) and user.referrer_id is None:
            raise TransactionConflict("another request has just made the user, whom somebody may have come by since")
        user, tried = await _describe(work, user, body["user"], tried)
        weighed = await weigh(work, body["type"], user.id, user.referrer_id)
        attribution, came = await attribute(work, user, tried.ways, occurred_at, is_new=is_new)
        is_referred = came is not None or user.referrer_id is not None
        standing = await referrals.find_standing(work.conn, user.id) if is_referred else None
        meeting, told = Meeting(), _referral(user, came, standing)
        if standing is not None:
            meeting = await meet(work, user.id, body["type"], occurred_at, standing, told)
        click = click_on(tried.ways, came.code) if came and attribution.status == events.ATTRIBUTED else None
        joined = joined_by(user, occurred_at, click, is_new=is_new) if attribution.status == events.ATTRIBUTED else None
        traces = await traces_of(work, body.get("context"), occurred_at, click)
        review = await suspect(work, user, meeting.referrer_id, joined, traces, meeting.review)
        meeting, told = replace(meeting, review=review), told._replace(review=review) if told else None
        outcome = await decide(work, body["id"], _happened(body, occurred_at), user.id, meeting, weighed)
        event = _event(body, work.moment, occurred_at, user.id, attribution, tried, body_hash, outcome.kept(), meeting.facts)
        await events.insert_event_once(work.conn, event)
        await keep_traces(work, event.id, event.user_id, event.referrer_id, traces)
        await keep(work, outcome)
    referral = told._replace(converted_at=meeting.converted_at) if told is not None else None
    return Answered(_document(_as_kept(event), referral, outcome.views, outcome.skipped_views), False)


def _happened(body: dict[str, Any], occurred_at: int) -> Happened:
    value = body.get("value") or {}
    return Happened(body["type"], occurred_at, value.get("unit"), value.get("amount"), body.get("metadata") or {})


async def _may_refer(request: web.Request, user: dict[str, Any]) -> bool:
    """Whether a code will be tried for a user whom others may have come by: then the graph of referrals is locked first. It
    is not for a user whom this event makes, nor for one who came by somebody."""
    async with request.app[DATABASE].reader() as conn:
        if "external_id" in user:
            found = await product_users.find_product_user_by_external_id(conn, user["external_id"])
        else:
            found = await product_users.find_product_user(conn, id_of(user))
    return found is not None and found.referrer_id is None


async def _describe(work: Work, user: ProductUser, given: dict[str, Any], tried: Tried) -> tuple[ProductUser, Tried]:
    """Change what the event says of the user. Nothing of it is taken where the caller may not change this user, and no
    reserved name: the event is recorded without."""
    members = _description(given, tried)
    username = members.get("username")
    if username is not None and username != user.username and is_reserved(username, work.request.app[CONFIG]):
        del members["username"]
        tried = tried.without("/user/username", "username-reserved", None)
    try:
        return await describe(work, user, members, "/user"), tried
    except Problem as problem:
        if problem.kind.name != "forbidden":
            raise
    return user, tried.without("/user", "forbidden", user.id)


def _description(user: dict[str, Any], tried: Tried) -> dict[str, Any]:
    """What is said of the user, but for what is another's."""
    left_out = {"id", "external_id", *(found["pointer"].removeprefix("/user/") for found in tried.ignored)}
    if "email" in left_out:
        left_out.add("email_verified")
    return {name: value for name, value in user.items() if name not in left_out}


def _event(
    body: dict[str, Any],
    moment: int,
    occurred_at: int,
    user_id: str,
    attribution: Attribution,
    tried: Tried,
    body_hash: str | None,
    outcome: str | None,
    facts: dict[str, Any],
) -> NewEvent:
    value, metadata = body.get("value") or {}, body.get("metadata")
    ignored = sorted(tried.ignored, key=lambda found: str(found["pointer"]))
    return NewEvent(
        id=body["id"],
        type=body["type"],
        user_id=user_id,
        received_at=moment,
        occurred_at=occurred_at,
        unit=value.get("unit"),
        amount=value.get("amount"),
        refunds=body.get("refunds"),
        code=_kept(body.get("code")),
        click_id=_kept(body.get("click_id")),
        metadata=orjson.dumps(metadata).decode() if metadata else None,
        attribution=attribution.status,
        reason=attribution.reason,
        ignored=orjson.dumps(ignored).decode() if ignored else None,
        body_hash=body_hash,
        outcome=outcome,
        **facts,
    )


def _kept(text: str | None) -> str | None:
    return text[:KEPT_TEXT] if text is not None and text.isprintable() else None


def _as_kept(event: NewEvent) -> ReportedEvent:
    return ReportedEvent(
        refunded=0, **{name: getattr(event, name) for name in ReportedEvent.__slots__ if name != "refunded"}
    )


@asynccontextmanager
async def _once() -> AsyncIterator[None]:
    """Raises _Known where the block violates that an event is recorded once."""
    try:
        yield
    except ConstraintViolation as violation:
        if violation.constraint in events.ONCE:
            raise _Known from None
        raise


async def _record_refund(request: web.Request, body: dict[str, Any], body_hash: str | None, tried: Tried) -> Answered:
    """Raises Taken and _Known, after which nothing is left of it."""
    value = body.get("value")
    async with work_on(request) as work:
        await locks.hold_rules(work.conn)
        await work.hold_caller()
        occurred_at = _occurred_at(body, work.moment)
        refunded = await _lock_refunded(work, body)
        # An equal report may have taken what this one would ask for.
        if await events.find_reported_event(work.conn, body["id"]):
            raise _Known
        if value is not None and value["unit"] != refunded.unit:
            raise invalid("/value/unit", f"Must be the refunded event's, {refunded.unit}.")
        total = await events.refund_event(work.conn, refunded.id, value["amount"] if value else None)
        if total is None:
            raise Problem("refund-too-large", "So much is not left of the event's value.")
        taken = {"unit": refunded.unit, "amount": total - refunded.refunded}
        await _retract(work, refunded, total)
        user = await product_users.find_product_user(work.conn, refunded.user_id)
        if user is None:
            # The user was erased: what would be personal again is not kept.
            body, body_hash = {name: body[name] for name in NAMELESS if name in body}, None
        elif "user" in body:
            user, tried = await _describe(work, user, body["user"], tried)
        came = came_by(user) if user else None
        attribution, referrer_id = Attribution(events.KEPT if came else events.NONE), came.referrer_id if came else None
        traces = await traces_of(work, body.get("context"), occurred_at)
        if user:
            if referrer_id and refunded.type == events.PURCHASE and total == refunded.amount and total > 0:
                await suspect_refund(work, user.id, referrer_id)
            await suspect(work, user, referrer_id, None, traces, "none")
        refund = {**body, "value": taken}
        views = [reward_view(reward, work.moment) for reward in await take_back(work, refunded, body["id"], total)]
        event = _event(
            refund, work.moment, occurred_at, refunded.user_id, attribution, tried, body_hash, kept_outcome(views, []), {}
        )
        if not await events.insert_event_of_user(work.conn, event):
            raise _Known
        await keep_traces(work, event.id, event.user_id, referrer_id, traces)
        referral = await referrals.find_referral(work.conn, user.id) if user and came else None
    return Answered(_document(_as_kept(event), referral, views, []), False)


async def _retract(work: Work, refunded: ReportedEvent, total: int) -> None:
    """An event that converted its user's referral, and is wholly refunded, does so no more."""
    if refunded.converts and total == refunded.amount:
        left = await referrals.retract_conversion(work.conn, refunded.user_id)
        if left is not None and left.conversions == 0:
            await referrals.decrement_converted_count(work.conn, left.referrer_id)
            work.announce_referral("referral.retracted", refunded.user_id, left.referrer_id)


async def _lock_refunded(work: Work, body: dict[str, Any]) -> ReportedEvent:
    """The event that is to be refunded, whose user is locked. Raises a problem."""
    conn = work.conn
    refunded = await events.find_reported_event(conn, body["refunds"])
    if refunded is None:
        raise Problem("event-unknown", "No event with the id of `refunds` was reported.")
    if refunded.type == REFUND or refunded.amount is None:
        raise invalid("/refunds", "Must be the id of an event that has a value, and is no refund.")
    await locks.lock_user(conn, refunded.user_id)
    # Of a user who was erased nobody knows any more what the product calls them.
    is_alive = await product_users.find_product_user(conn, refunded.user_id) is not None
    if is_alive and "user" in body and await _id_of(conn, body["user"]) != refunded.user_id:
        raise invalid("/user", "Must be the user of the refunded event.")
    again = await events.find_reported_event(conn, refunded.id)
    assert again is not None
    return again


async def _id_of(conn: Connection, user: dict[str, Any]) -> str | None:
    if "external_id" in user:
        return await product_users.find_user_id_by_external_id(conn, user["external_id"])
    return id_of(user)
