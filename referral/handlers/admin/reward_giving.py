"""A reward that somebody gives by hand: the form, what it will do, and the deed."""

from typing import Any

from aiohttp import web

from referral.clock import DAY, now
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.rewards import RewardCreationSchema
from referral.database import DATABASE
from referral.ids import new_id
from referral.queries.rewards import BALANCE
from referral.rules.giving import give
from referral.rules.named_user import id_of_person
from referral.rules.units import amount_in, exponent_of
from referral.web import admin_rewards as words
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_people import theirs
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.admin_values import money_of, time_of
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
REWARDS = "/admin/rewards"
NEW = f"{REWARDS}/new"
FIELDS = ("id", "user", "kind", "amount", "unit", "label", "hold_days", "reason")


def _facts(request: web.Request) -> dict[str, Any]:
    units = [one.partition(":")[0] for one in request.app[CONFIG].rewards.units]
    return {
        "units_listed": [(unit, unit) for unit in units],
        "id": request.get(FORM, {}).get("id") or new_id(),
    }


@routes.get(NEW)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def new_reward(request: web.Request) -> web.Response:
    """The form, with what the address says of it."""
    given = {name: request.query[name] for name in FIELDS if name in request.query and name != "id"}
    return admin_page(request, "reward_new.html", given=given, **_facts(request))


@routes.post(NEW)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_new_reward(request: web.Request) -> web.Response:
    """The button of the form: it says what the reward will do, and does nothing yet."""
    form, _, config = request[FORM], texts_of(request), request.app[CONFIG]
    try:
        body, _asked = await _body(request)
    except Problem as problem:
        return _refused(request, problem)
    user_id, value = body["user"]["id"], body.get("value")
    async with request.app[DATABASE].reader() as conn:
        names = await words.names_of(conn, {user_id})
        balance = await words.balance_of(conn, user_id, value["unit"]) if value and body["kind"] == BALANCE else None
    who = words.link_by(names, request.app[PUBLIC_URL].path, _)(user_id)
    parts = [theirs(body["label"])] if body.get("label") else []
    parts += [money_of(value["amount"], value["unit"], _, config)] if value else []
    effects: list[str] = [_("%(who)s gets: %(worth)s.", who=who, worth=words.joined(parts))]
    if body["hold_days"] > 0:
        until = time_of(now() + round(body["hold_days"] * DAY))
        effects.append(_("It is on hold, and earned at %(time)s. Until then it can be rejected.", time=until))
    else:
        effects.append(_("It is earned at once. It can be taken back."))
    if balance is not None and value:
        effects.append(words.balance_after(_, balance, value["amount"], config))
    effects.append(_("The user can read the reason: %(reason)s", reason=theirs(body["reason"])))
    hidden = {name: form[name] for name in FIELDS if form.get(name)}
    return confirm_page(
        request,
        title=_("Give a reward"),
        effects=effects,
        action=REWARDS,
        button=_("Give it"),
        tone="primary",
        cancel=NEW,
        hidden=hidden,
    )


@routes.post(REWARDS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def give_reward(request: web.Request) -> web.Response:
    """The button of that page; its id lets a second press do nothing."""
    try:
        body, asked = await _body(request)
        given = await give(request, body, asked)
    except Problem as problem:
        if problem.kind.status >= 500:
            raise
        return _refused(request, problem)
    return see_other(request, f"{REWARDS}/{given.document['id']}", "reward-given")


def _refused(request: web.Request, problem: Problem) -> web.Response:
    """The form again; what the API calls `value/amount` is the form's `amount`."""
    for error in problem.members.get("errors", []):
        error["pointer"] = {"/value/amount": "/amount", "/value": "/amount", "/value/unit": "/unit"}.get(
            error["pointer"], error["pointer"] if error["pointer"].removeprefix("/") in FIELDS[1:] else ""
        )
    form = request[FORM]
    return refused_form(request, "reward_new.html", problem, form, **_facts(request))


async def _body(request: web.Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the form says, as the API would take it, and the document that this was made of. Raises a problem."""
    form = {name: text for name in FIELDS if (text := request[FORM].get(name, "").strip())}
    asked: dict[str, Any] = {name: form[name] for name in ("id", "kind", "label", "reason") if name in form}
    if "user" not in form:
        raise invalid("/user", "Must be an id, ext: and the product's own id, or an e-mail address.")
    async with request.app[DATABASE].reader() as conn:
        try:
            asked["user"] = {"id": await id_of_person(conn, form["user"])}
        except Problem as problem:
            raise invalid("/user", problem.detail) from None
    if "amount" in form:
        unit = form.get("unit", "")
        exponent = exponent_of(unit, request.app[CONFIG])
        amount = amount_in(form["amount"], exponent)
        if amount is None:
            raise invalid("/amount", f"Must be a number with at most {exponent} digits behind the point.")
        asked["value"] = {"unit": unit, "amount": amount}
    if "hold_days" in form:
        days = amount_in(form["hold_days"], 6)
        if days is None:
            raise invalid("/hold_days", "Must be a number of days.")
        asked["hold_days"] = days / 1_000_000
    return load(RewardCreationSchema(), asked), asked
