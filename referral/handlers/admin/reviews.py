"""Reviews: the queue of suspicious referrals, the evidence of one, and the two decisions."""

import uuid
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from referral.clock import DAY, now
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED, encode_cursor, read_cursor
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.contract.schemas.pages import ListQuerySchema
from referral.contract.schemas.reviews import ReviewClearingSchema, ReviewRejectionSchema, SignalCreationSchema
from referral.database import DATABASE, Connection
from referral.ids import new_id
from referral.queries import events, locks, people, referrals, reviews, rewards
from referral.queries.events import ReportedEvent
from referral.queries.people import Person
from referral.queries.reviews import OPEN, REJECTED, KeptSignal, Review, Undone
from referral.queries.rewards import Reward
from referral.rules import deciding
from referral.rules.product_users import lock_known
from referral.rules.reviewing import report
from referral.rules.work import work_on
from referral.web import admin_reviews as words
from referral.web import admin_rewards as reward_words
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_reviews import Place
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.bodies import QUERY, load
from referral.web.csv_answers import is_csv
from referral.web.lists import answer_reviews

routes = web.RouteTableDef()

PAGE = "a page of the back office"
REVIEWS = "/admin/reviews"
REVIEW = f"{REVIEWS}/{{referee_id}}"
PAGE_SIZE = 50
ALL = "all"
# Events of each side that a review shows, the newest.
MOST_EVENTS = 10
# The key before the oldest review.
_OLDEST = (-1, "")


@routes.get(REVIEWS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def list_reviews(request: web.Request) -> web.StreamResponse:
    """The queue: of those that are open, who has waited longest comes first; of the others, who was decided last."""
    _, config, moment = texts_of(request), request.app[CONFIG], now()
    status = request.query.get("status", OPEN)
    if status not in (*reviews.STATUSES, ALL):
        raise Problem("not-found", f"There are no such reviews: they are {', '.join(reviews.STATUSES)}, or {ALL}.")
    cursor = request.query.get("cursor")
    asked = {name: request.query[name] for name in ("cursor", "format") if name in request.query}
    request[QUERY] = query = load(ListQuerySchema(), asked)
    if is_csv(request):
        return await answer_reviews(request, None if status == ALL else status)
    before = read_cursor(query)
    async with request.app[DATABASE].replica() as conn:
        counts = {one: await reviews.count_reviews_in_state(conn, one, MOST_COUNTED) for one in reviews.STATUSES}
        if status == ALL:
            found = await reviews.list_reviews(conn, before, PAGE_SIZE + 1)
        elif status == OPEN:
            found = await reviews.list_longest_waiting(conn, OPEN, before if cursor else _OLDEST, PAGE_SIZE + 1)
        else:
            found = await reviews.list_reviews_in_state(conn, status, before, PAGE_SIZE + 1)
        shown = found[:PAGE_SIZE]
        ids = [review.user_id for review in shown]
        kinds = await reviews.list_kinds_of_signals(conn, ids)
        money = await reviews.list_money_of_referrals(conn, ids)
        undone = await reviews.list_money_undone(conn, ids, deciding.REASON)
        names = await reward_words.names_of(conn, {*ids, *(review.referrer_id for review in shown)})
    rows = []
    for review in shown:
        of_it = [one for one in (undone if review.status == REJECTED else money) if one.user_id == review.user_id]
        waiting, paid = words.money_of_rewards(_, of_it, config)
        rows.append(
            {
                "review": review,
                "kinds": words.kinds_of(_, (one for one in kinds if one.user_id == review.user_id)),
                "waiting": waiting,
                "paid": paid,
                "waited": words.waited(_, review.opened_at, moment),
                "is_overdue": _is_overdue(request, review, moment),
            }
        )
    return admin_page(
        request,
        "reviews.html",
        rows=rows,
        shown_status=status,
        statuses=[*reviews.STATUSES, ALL],
        counts=counts,
        review_at=config.fraud.review_at,
        who=reward_words.link_by(names, request.app[PUBLIC_URL].path, _),
        next_cursor=encode_cursor((shown[-1].opened_at, shown[-1].user_id)) if len(found) > PAGE_SIZE else None,
    )


def _is_overdue(request: web.Request, review: Review, moment: int) -> bool:
    reminder = request.app[CONFIG].fraud.reminder_days * DAY
    return review.status == OPEN and review.opened_at + reminder <= moment


@dataclass(frozen=True, slots=True)
class _Shown:
    """A review with its evidence, both people, and what a rejection would do, or has done."""

    review: Review
    signals: list[KeptSignal]
    people: dict[str, Person]
    events: dict[str, list[ReportedEvent]]
    rewards: list[Reward]
    preview: deciding.Preview | None
    places: list[Place]
    undone: list[Undone]


def _referee(request: web.Request) -> str:
    return id_in_path(request, "referee_id", deciding.no_such_review())


async def _read(request: web.Request) -> _Shown:
    user_id = _referee(request)
    # All of it at one moment: the preview and the balances beside it belong together.
    async with request.app[DATABASE].snapshot() as conn:
        review = await deciding.known_review(conn, user_id)
        signals = await reviews.list_signals(conn, user_id)
        told = words.told_signals(texts_of(request), signals, review.referrer_id)
        named = {user_id, review.referrer_id, *(one for signal in told for one in signal.text.users)}
        if review.decided_by_user is not None:
            named.add(review.decided_by_user)
        found = await people.list_people(conn, sorted(named))
        preview = await deciding.preview(conn, user_id) if review.status == OPEN else None
        is_rejected = review.status == REJECTED and review.decided_at is not None
        return _Shown(
            review,
            signals,
            {person.id: person for person in found},
            {side: await _events(conn, side) for side in (user_id, review.referrer_id)},
            await rewards.list_rewards_of_referral(conn, user_id),
            preview,
            await words.places_of(conn, preview) if preview is not None else [],
            await reviews.list_undone(conn, user_id, review.decided_at or 0) if is_rejected else [],
        )


async def _events(conn: Connection, user_id: str) -> list[ReportedEvent]:
    return await events.list_events_of_user(conn, user_id, None, 0, read_cursor({}), MOST_EVENTS)


def _facts(request: web.Request, shown: _Shown) -> dict[str, Any]:
    """What the page of a review, and those of its decisions, show."""
    _, config, moment = texts_of(request), request.app[CONFIG], now()
    path = request.app[PUBLIC_URL].path
    review = shown.review
    stake = {reward.id: reward for reward in shown.rewards}
    return {
        "review": review,
        "referee": shown.people[review.user_id],
        "referrer": shown.people[review.referrer_id],
        "told": words.told_signals(_, shown.signals, review.referrer_id),
        "events": shown.events,
        "rewards": [
            {
                "reward": reward,
                "worth": reward_words.worth_of(reward, _, config),
                "waits": reward_words.waits_of(_, reward, moment, path),
            }
            for reward in shown.rewards
        ],
        "undoings": words.undoings(_, shown.preview, config) if shown.preview is not None else [],
        "places": shown.places,
        "releases": words.releases(_, shown.rewards, moment, path, config),
        "blockable": _blockable(shown),
        "undone": [(one, stake.get(one.reward_id)) for one in shown.undone],
        "review_at": config.fraud.review_at,
        "waited": words.waited(_, review.opened_at, moment),
        "is_overdue": _is_overdue(request, review, moment),
        "who": reward_words.link_by(shown.people, path, _),
    }


def _blockable(shown: _Shown) -> list[tuple[str, list[tuple[str, str]]]]:
    """What can be blocked of each of both, by their ids."""
    referee, referrer = shown.people[shown.review.user_id], shown.people[shown.review.referrer_id]
    found = [
        (referee.id, words.blockable(referee, is_referee=True)),
        (referrer.id, words.blockable(referrer, is_referee=False)),
    ]
    return [(user_id, values) for user_id, values in found if values]


async def _page(request: web.Request, status: int = 200, refusal: str | None = None) -> web.Response:
    return admin_page(request, "review.html", status, refusal=refusal, **_facts(request, await _read(request)))


@routes.get(REVIEW)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_review(request: web.Request) -> web.Response:
    """The evidence, both people, and what a rejection would undo."""
    return await _page(request)


async def _confirm(
    request: web.Request, decision: str, problem: Problem | None = None, *, is_changed: bool = False
) -> web.Response:
    """The page that says what a decision does; where it is made already, the review's own."""
    shown, _ = await _read(request), texts_of(request)
    own = f"{REVIEWS}/{shown.review.user_id}"
    if shown.preview is None:
        return see_other(request, own, "review-decided")
    is_rejection = decision == "reject"
    all_facts = _facts(request, shown)
    facts: dict[str, Any] = {
        "title": _("Reject the referral") if is_rejection else _("Clear the referral"),
        "effects": words.effects_of(_, shown.preview) if is_rejection else words.clearing_effects(_, all_facts["releases"]),
        "action": f"{own}/{decision}",
        "button": _("Reject the referral") if is_rejection else _("Clear the referral"),
        "tone": "danger" if is_rejection else "primary",
        "cancel": own,
        "hidden": {"seen": words.fingerprint_of(shown.preview)} if is_rejection else {},
        "decision": decision,
        "is_changed": is_changed,
        **all_facts,
    }
    if problem is not None:
        form = request[FORM]
        return refused_form(request, "review_decision.html", problem, form, **facts)
    return confirm_page(request, template="review_decision.html", **facts)


@routes.get(f"{REVIEW}/clear")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_clearing(request: web.Request) -> web.Response:
    """What it does to find nothing wrong."""
    return await _confirm(request, "clear")


@routes.get(f"{REVIEW}/reject")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_rejection(request: web.Request) -> web.Response:
    """What a rejection undoes."""
    return await _confirm(request, "reject")


@routes.post(f"{REVIEW}/clear")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def clear(request: web.Request) -> web.Response:
    """The button of that page."""
    user_id = _referee(request)
    try:
        body = load(ReviewClearingSchema(), {"reason": request[FORM].get("reason", "").strip()})
        async with work_on(request) as work:
            await deciding.clear(work, user_id, body["reason"])
    except Problem as problem:
        return await _refused(request, "clear", problem)
    return see_other(request, f"{REVIEWS}/{user_id}", "review-cleared")


@routes.post(f"{REVIEW}/reject")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def reject(request: web.Request) -> web.Response:
    """The button of that page: done if the rejection still does what that page said, or else said anew."""
    user_id, form = _referee(request), request[FORM]
    asked = {"reason": form.get("reason", "").strip(), "suspend_referrer": form.get("suspend") == "yes"}
    try:
        body = load(ReviewRejectionSchema(), asked)
        async with work_on(request) as work:
            await locks.hold_rules(work.conn)
            await work.hold_caller()
            await locks.lock_user(work.conn, user_id)
            review = await deciding.known_review(work.conn, user_id)
            if review.status == OPEN and form.get("seen") != words.fingerprint_of(
                await deciding.preview(work.conn, user_id)
            ):
                raise Problem("review-state", "What a rejection would do has changed meanwhile. Look at it once more.")
            await deciding.reject(work, user_id, body["reason"], suspends=body["suspend_referrer"])
    except Problem as problem:
        return await _refused(request, "reject", problem)
    return see_other(request, f"{REVIEWS}/{user_id}", "review-rejected")


async def _refused(request: web.Request, decision: str, problem: Problem) -> web.Response:
    """Why nothing was decided: beside the form, or above the review as somebody else has decided it."""
    if problem.kind.name in ("not-found", "unauthorized") or problem.kind.status >= 500:
        raise problem
    async with request.app[DATABASE].reader() as conn:
        review = await deciding.known_review(conn, _referee(request))
    if review.status == OPEN:
        return await _confirm(request, decision, problem, is_changed=problem.kind.name == "review-state")
    return await _page(request, problem.kind.status, problem.detail)


@routes.get(f"{REVIEW}/report")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def new_report(request: web.Request) -> web.Response:
    """The form by which somebody reports a referral."""
    return admin_page(request, "review_report.html", report_id=new_id(), **await _reported(request))


@routes.post(f"{REVIEW}/report")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def report_referral(request: web.Request) -> web.Response:
    """The button of that page. The form brings the report's id along, so that a second press counts for nothing."""
    user_id, form = _referee(request), request[FORM]
    try:
        report_id = str(uuid.UUID(form.get("report_id", "")))
    except ValueError:
        raise Problem("bad-request", "The form is not whole. Nothing was done.") from None
    weight = form.get("weight", "").strip()
    asked = {
        "weight": int(weight) if weight.isascii() and weight.isdigit() and len(weight) < 10 else -1,
        "note": form.get("note", "").strip(),
    }
    try:
        body = load(SignalCreationSchema(), asked)
    except Problem as problem:
        facts = {"report_id": report_id, **await _reported(request)}
        return refused_form(request, "review_report.html", problem, form, **facts)
    async with work_on(request) as work:
        await work.hold_caller()
        user = await lock_known(work, user_id)
        if await report(work, user.id, body["weight"], body["note"], report_id) is None:
            raise _came_by_nobody()
    async with request.app[DATABASE].reader() as conn:
        is_reviewed = await reviews.find_review(conn, user_id) is not None
    return see_other(request, f"{REVIEWS if is_reviewed else '/admin/users'}/{user_id}", "referral-reported")


def _came_by_nobody() -> Problem:
    return Problem("not-found", "The user came by nobody.")


async def _reported(request: web.Request) -> dict[str, Any]:
    user_id = _referee(request)
    async with request.app[DATABASE].reader() as conn:
        standing = await referrals.find_standing(conn, user_id)
        if standing is None:
            raise _came_by_nobody()
        names = await reward_words.names_of(conn, {user_id, standing.referrer_id})
    return {
        "user_id": user_id,
        "referrer_id": standing.referrer_id,
        "review_at": request.app[CONFIG].fraud.review_at,
        "who": reward_words.link_by(names, request.app[PUBLIC_URL].path, texts_of(request)),
    }
