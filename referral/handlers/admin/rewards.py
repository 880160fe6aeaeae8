"""Rewards: listed, looked at, and what people do with them."""

from collections.abc import Awaitable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from aiohttp import web
from markupsafe import Markup

from referral.clock import now
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED, encode_cursor, read_cursor
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.rewards import (
    RewardFulfilmentSchema,
    RewardQuerySchema,
    RewardRejectionSchema,
    RewardReversalSchema,
)
from referral.database import DATABASE, Connection
from referral.ids import new_id
from referral.queries import audit, events, ledger, reviews, rewards, rules
from referral.queries.audit import Event
from referral.queries.events import ReportedEvent
from referral.queries.ledger import Balance, Transfer
from referral.queries.people import Named
from referral.queries.reviews import Review
from referral.queries.rewards import BALANCE, STATUSES, Reward
from referral.rules import reward_steps as steps
from referral.rules.named_user import id_of_person
from referral.rules.reward_lists import find_rewards
from referral.rules.rewards import no_such_reward
from referral.rules.units import amount_in, exponent_of
from referral.web import admin_rewards as words
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_rewards import APPROVE, FULFIL, REJECT, REVERSE
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.bodies import QUERY, load
from referral.web.csv_answers import is_csv
from referral.web.lists import answer_rewards

routes = web.RouteTableDef()

PAGE = "a page of the back office"
REWARDS = "/admin/rewards"
REWARD = f"{REWARDS}/{{reward_id}}"
PAGE_SIZE = 50
# Rules that can be chosen to filter by, the newest.
MOST_RULES = 100
# Acts that a reward's page shows.
MOST_ACTS = 100
FILTERS = ("status", "user", "rule", "event", "cursor", "format")


@routes.get(REWARDS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def list_rewards(request: web.Request) -> web.StreamResponse:
    """All rewards, or those that are looked for."""
    asked = {name: text for name in FILTERS if (text := request.query.get(name, "").strip())}
    refused, user_id = None, None
    found: list[Reward] = []
    total = 0
    async with request.app[DATABASE].replica() as conn:
        try:
            request[QUERY] = query = load(RewardQuerySchema(), asked)
            if "user" in query:
                user_id = await id_of_person(conn, query["user"])
            found, total = await find_rewards(conn, query, user_id, read_cursor(query), PAGE_SIZE + 1)
        except Problem as problem:
            is_of_user = problem.kind.name == "not-found"
            refused = invalid("/user", problem.detail) if is_of_user else problem
        kept = await rules.list_rules(conn, read_cursor({}), MOST_RULES)
        shown = found[:PAGE_SIZE]
        names = await words.names_of(
            conn,
            {
                user_id,
                *(one.user_id for one in shown),
                *(one.referral_user_id for one in shown),
                *(one.referrer_id for one in shown),
            },
        )
    if refused is None and is_csv(request):

        async def whose(conn: Connection) -> str | None:
            return user_id

        return await answer_rewards(request, whose)
    path, _, moment = request.app[PUBLIC_URL].path, texts_of(request), now()
    facts: dict[str, Any] = {
        "statuses": [("", _("any")), *((status, _.word(status)) for status in STATUSES)],
        "rules": [(rule.id, words.name_in(rule.definition)) for rule in kept],
        "rows": [
            {
                "reward": reward,
                "worth": words.worth_of(reward, _, request.app[CONFIG]),
                "waits": words.waits_of(_, reward, moment, path),
                "reason": words.reason_of(_, reward.reason),
                "rule_name": words.rule_name(reward),
            }
            for reward in shown
        ],
        "who": words.link_by(names, path, _),
        "total": total,
        "most_counted": MOST_COUNTED,
        "is_filtered": bool(asked.keys() - {"cursor", "format"}),
        "next_cursor": encode_cursor((shown[-1].created_at, shown[-1].id)) if len(found) > PAGE_SIZE else None,
    }
    if refused is not None:
        return refused_form(request, "rewards.html", refused, asked, **facts)
    return admin_page(request, "rewards.html", given=asked, **facts)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A reward with what is around it."""

    reward: Reward
    event: ReportedEvent | None
    transfers: list[Transfer]
    acts: list[Event]
    review: Review | None
    balance: Balance | None
    names: dict[str, Named]


async def _read(request: web.Request) -> _Shown:
    reward_id = id_in_path(request, "reward_id", no_such_reward())
    async with request.app[DATABASE].reader() as conn:
        reward = await rewards.find_reward(conn, reward_id)
        if reward is None:
            raise no_such_reward()
        event = None if reward.event_id is None else await events.find_reported_event(conn, reward.event_id)
        transfers = await ledger.list_transfers_of_reward(conn, reward.id)
        acts = await audit.list_acts_on_reward(conn, reward.user_id, reward.id, MOST_ACTS)
        of_referral = reward.referral_user_id
        review = await reviews.find_review(conn, of_referral) if of_referral is not None else None
        is_money = reward.kind == BALANCE and reward.unit is not None
        balance = await words.balance_of(conn, reward.user_id, reward.unit) if is_money and reward.unit else None
        ids = {reward.user_id, reward.referral_user_id, reward.referrer_id, *(act.actor_id for act in acts)}
        if review is not None:
            ids.add(review.decided_by_user)
        return _Shown(reward, event, transfers, acts, review, balance, await words.names_of(conn, ids))


async def _page(request: web.Request, status: int = 200, refusal: str | None = None) -> web.Response:
    """The reward that the path names, with why something was refused."""
    shown, texts, path, moment = await _read(request), texts_of(request), request.app[PUBLIC_URL].path, now()
    reward, config = shown.reward, request.app[CONFIG]
    who = words.link_by(shown.names, path, texts)
    acts = words.acts_of(texts, reward, shown.acts, who, config)
    acts += words.decision_on(texts, reward, shown.review, who, path)
    return admin_page(
        request,
        "reward.html",
        status,
        reward=reward,
        refusal=refusal,
        worth=words.worth_of(reward, texts, config),
        meaning=words.state_sentence(texts, reward),
        waits=words.waits_of(texts, reward, moment, path),
        reason=words.reason_of(texts, reward.reason),
        rule_name=words.rule_name(reward),
        event=shown.event,
        moves=words.moves_of(texts, shown.transfers),
        acts=sorted(acts, key=itemgetter("at")),
        balance=shown.balance,
        actions=words.actions_of(reward, moment),
        who=who,
    )


@routes.get(REWARD)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_reward(request: web.Request) -> web.Response:
    """All that is known of a reward."""
    return await _page(request)


async def _confirm(
    request: web.Request, action: str, problem: Problem | None = None, form: dict[str, str] | None = None
) -> web.Response:
    """The page that says what an action would do, once more with what is wrong with its form; the reward's own page where it
    cannot be done any more."""
    shown, _, config, moment = await _read(request), texts_of(request), request.app[CONFIG], now()
    reward = shown.reward
    own = f"{REWARDS}/{reward.id}"
    if action not in words.actions_of(reward, moment):
        return see_other(request, own, "reward-moved-on")
    effects: dict[str, list[Markup]] = {
        APPROVE: words.approval_effects(_, reward, moment, shown.balance, config),
        REJECT: words.rejection_effects(_, reward, shown.balance, config),
        REVERSE: words.reversal_effects(_, reward, shown.balance, config),
        FULFIL: words.fulfilment_effects(_, reward, config),
    }
    titles = {
        APPROVE: (_("Approve a reward"), _("Approve")),
        REJECT: (_("Reject a reward"), _("Reject")),
        REVERSE: (_("Take a reward back"), _("Take back")),
        FULFIL: (_("Note a delivery"), _("It is delivered")),
    }
    title, button = titles[action]
    facts: dict[str, Any] = {
        "title": title,
        "effects": effects[action],
        "action": f"{own}/{action}",
        "button": button,
        "tone": "danger" if action in (REJECT, REVERSE) else "primary",
        "cancel": own,
        "hidden": {"id": (form or {}).get("id") or new_id()} if action == REVERSE else {},
        "step": action,
        "reward": reward,
        "worth": words.worth_of(reward, _, config),
        "is_held": reward.release_at > moment,
        "who": words.link_by(shown.names, request.app[PUBLIC_URL].path, _),
    }
    if problem is not None:
        return refused_form(request, "reward_action.html", problem, form or {}, **facts)
    return confirm_page(request, template="reward_action.html", **facts)


async def _done(request: web.Request, action: str, said: str, step: Awaitable[Any]) -> web.Response:
    """The redirect after a step; where it is refused, the page that says why: the reward as it is now, or the form."""
    try:
        await step
    except Problem as problem:
        if problem.kind.name in ("reward-state", "sum-too-large", "id-mismatch"):
            return await _page(request, problem.kind.status, problem.detail)
        if problem.kind.name == "validation-error":
            return await _confirm(request, action, problem, request[FORM])
        raise
    return see_other(request, f"{REWARDS}/{id_in_path(request, 'reward_id', no_such_reward())}", said)


@routes.get(f"{REWARD}/approve")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_approval(request: web.Request) -> web.Response:
    """What an approval does."""
    return await _confirm(request, APPROVE)


@routes.post(f"{REWARD}/approve")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def approve(request: web.Request) -> web.Response:
    """The button of that page."""
    reward_id = id_in_path(request, "reward_id", no_such_reward())
    at_once = request[FORM].get("now") == "yes"
    return await _done(request, APPROVE, "reward-approved", steps.approve_reward(request, reward_id, at_once=at_once))


@routes.get(f"{REWARD}/reject")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_rejection(request: web.Request) -> web.Response:
    """What a rejection does."""
    return await _confirm(request, REJECT)


@routes.post(f"{REWARD}/reject")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def reject(request: web.Request) -> web.Response:
    """The button of that page."""

    async def step() -> None:
        body = load(RewardRejectionSchema(), _given(request[FORM], "reason"))
        await steps.reject_reward(request, id_in_path(request, "reward_id", no_such_reward()), body["reason"])

    return await _done(request, REJECT, "reward-rejected", step())


@routes.get(f"{REWARD}/reverse")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_reversal(request: web.Request) -> web.Response:
    """What taking it back does."""
    return await _confirm(request, REVERSE)


@routes.post(f"{REWARD}/reverse")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def reverse(request: web.Request) -> web.Response:
    """The button of that page; its id lets a second press do nothing."""

    async def step() -> None:
        form, reward = request[FORM], (await _read(request)).reward
        asked: dict[str, Any] = _given(form, "id", "reason")
        amount = form.get("amount", "").strip()
        if amount:
            exponent = exponent_of(reward.unit, request.app[CONFIG]) if reward.unit else 0
            asked["amount"] = amount_in(amount, exponent)
            if asked["amount"] is None:
                raise invalid("/amount", f"Must be a number with at most {exponent} digits behind the point.")
        body = load(RewardReversalSchema(), asked)
        await steps.reverse_reward(request, reward.id, body, asked)

    return await _done(request, REVERSE, "reward-reversed", step())


@routes.get(f"{REWARD}/fulfil")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_fulfilment(request: web.Request) -> web.Response:
    """What the note of a delivery does."""
    return await _confirm(request, FULFIL)


@routes.post(f"{REWARD}/fulfil")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def fulfil(request: web.Request) -> web.Response:
    """The button of that page."""

    async def step() -> None:
        body = load(RewardFulfilmentSchema(), _given(request[FORM], "reference"))
        reward_id = id_in_path(request, "reward_id", no_such_reward())
        await steps.fulfil_reward(request, reward_id, body.get("reference"))

    return await _done(request, FULFIL, "reward-fulfilled", step())


def _given(form: dict[str, str], *names: str) -> dict[str, Any]:
    """The members of a form that were filled in."""
    return {name: text for name in names if (text := form.get(name, "").strip())}
