"""What is done to a user at the back office: each action says first what it will do, and does what the API's call does."""

from typing import Any

from aiohttp import web

from referral.clock import now
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.codes import CodeCreationSchema
from referral.contract.schemas.product_users import SuspensionSchema
from referral.database import DATABASE, Connection
from referral.queries import codes, ledger, people, rewards, sessions
from referral.queries.people import Person
from referral.rules import suspension
from referral.rules.codes import check_new_code, end_code, make_code_of
from referral.rules.erasure import erase, leave_nothing
from referral.rules.named_user import id_of_named, no_such_user
from referral.rules.product_tokens import end_all_sessions
from referral.rules.product_users import check_role, contact_of, lock_known
from referral.rules.user_export import begin_export
from referral.rules.work import Work, work_on
from referral.texts import code_in
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_people import called, shortened
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.bodies import load
from referral.web.exports import send_export

routes = web.RouteTableDef()

PAGE = "a page of the back office"
USERS = "/admin/users"
USER = f"{USERS}/{{user_id}}"
# Days that a code is good for unless somebody says otherwise.
CODE_DAYS = 365
# Digits of a number in a form.
LONGEST_NUMBER = 12


async def _person(request: web.Request, conn: Connection) -> Person:
    """The user whom the path names and who was not erased. Raises `not-found`."""
    found = await people.list_people(conn, [await id_of_named(conn, request.match_info["user_id"])])
    if not found or found[0].erased_at is not None:
        raise no_such_user()
    return found[0]


async def _locked(request: web.Request, work: Work) -> str:
    """The id of the user whom the path names; nobody puts out whoever asks. Raises `not-found`."""
    await work.hold_caller()
    return await id_of_named(work.conn, request.match_info["user_id"])


def _page(person: Person) -> str:
    return f"{USERS}/{person.id}"


def _title(person: Person) -> str:
    return shortened(called(person))


# Suspension


@routes.get(f"{USER}/suspend")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_suspension(request: web.Request) -> web.Response:
    return confirm_page(request, **await _suspension(request))


async def _suspension(request: web.Request) -> dict[str, Any]:
    """What the page says before a user is suspended."""
    _, moment = texts_of(request), now()
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
        count = await sessions.count_sessions(conn, person.id, moment)
        waiting = await rewards.count_rewards_of_user(conn, person.id, None, None, "pending", MOST_COUNTED)
        code = await codes.find_current_code(conn, person.id, moment)
    effects = [
        _("The user signs in nowhere from then on."),
        _.plural("%(count)s session ends at once.", "%(count)s sessions end at once.", count),
    ]
    if code is not None:
        effects.append(_("Nobody comes by the code %(code)s until the suspension ends.", code=code.code))
    effects.append(
        _.plural("%(count)s reward that waits goes on waiting.", "%(count)s rewards that wait go on waiting.", waiting)
    )
    effects.append(_("No new rewards are earned, and nothing is spent. What is there already stays."))
    return {
        "title": _("Suspend %(who)s", who=_title(person)),
        "effects": effects,
        "action": f"{_page(person)}/suspend",
        "button": _("Suspend"),
        "cancel": _page(person),
        "template": "user_suspend.html",
    }


@routes.post(f"{USER}/suspend")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def suspend_user(request: web.Request) -> web.Response:
    """As `POST /users/{user}/suspend`. The first time and reason stay."""
    try:
        reason = load(SuspensionSchema(), _given(request[FORM]))["reason"]
    except Problem as problem:
        return _refused(request, problem, await _suspension(request))
    async with work_on(request) as work:
        user = await lock_known(work, await _locked(request, work))
        await check_role(work, user.id)
        await suspension.suspend_known(work, contact_of(user), user.external_id, reason)
    said = "user-suspended" if user.suspended_at is None else "user-was-suspended"
    return see_other(request, f"{USERS}/{user.id}", said)


def _given(form: dict[str, str]) -> dict[str, str]:
    """What somebody has put into a form, without what they left empty."""
    return {name: text.strip() for name, text in form.items() if text.strip()}


def _refused(request: web.Request, problem: Problem, facts: dict[str, Any]) -> web.Response:
    """The page that says what will happen once more, with what is wrong with its form."""
    template, form = facts.pop("template"), request[FORM]
    return refused_form(request, template, problem, form, **{"hidden": {}, **facts})


@routes.get(f"{USER}/unsuspend")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_unsuspension(request: web.Request) -> web.Response:
    """What the end of a suspension does, before it is done."""
    _ = texts_of(request)
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
    return confirm_page(
        request,
        title=_("End the suspension of %(who)s", who=_title(person)),
        effects=[
            _("The user can sign in again; sessions that ended stay ended."),
            _("Their code is what it was, and others come by it again."),
            _("Rewards that waited for this alone are approved within ten seconds."),
        ],
        action=f"{_page(person)}/unsuspend",
        button=_("End the suspension"),
        tone="primary",
        cancel=_page(person),
    )


@routes.post(f"{USER}/unsuspend")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def unsuspend_user(request: web.Request) -> web.Response:
    """As `POST /users/{user}/unsuspend`."""
    async with work_on(request) as work:
        user = await lock_known(work, await _locked(request, work))
        await suspension.unsuspend_known(work, contact_of(user), user.external_id)
    said = "user-was-not-suspended" if user.suspended_at is None else "user-unsuspended"
    return see_other(request, f"{USERS}/{user.id}", said)


# Codes


@routes.get(f"{USER}/code/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_code_end(request: web.Request) -> web.Response:
    """What the end of the current code does, before it is done. Raises `not-found` for a user without one."""
    _ = texts_of(request)
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
        code = await codes.find_current_code(conn, person.id, now())
    if code is None:
        raise Problem("not-found", "The user has no current code.")
    return confirm_page(
        request,
        title=_("End the code %(code)s", code=code.code),
        effects=[
            _("Nobody comes by it any more, and its link leads on without it."),
            _("Nobody gets this text as a code again."),
            _("Whoever came by it until now stays referred, and rewards stay as they are."),
        ],
        action=f"{_page(person)}/code/end",
        button=_("End the code"),
        cancel=_page(person),
        hidden={"code": code.code},
    )


@routes.post(f"{USER}/code/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def end_code_of_user(request: web.Request) -> web.Response:
    """As `DELETE /codes/{code}`, of the code that the form names: one that was made since is not ended."""
    text = code_in(request[FORM].get("code", ""))
    async with work_on(request) as work:
        user_id = await _locked(request, work)
        if text is None or not await end_code(work, text, user_id):
            raise Problem("not-found", "The user has no such code.")
    return see_other(request, f"{USERS}/{user_id}", "code-ended")


@routes.get(f"{USER}/code/new")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_code_form(request: web.Request) -> web.Response:
    return admin_page(request, "user_code.html", **await _code_facts(request))


async def _code_facts(request: web.Request) -> dict[str, Any]:
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
    most = request.app[CONFIG].codes.max_ttl_days
    return {"person": person, "called": _title(person), "days": min(CODE_DAYS, most), "most_days": most}


@routes.post(f"{USER}/code/new")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def make_code_of_user(request: web.Request) -> web.Response:
    """As `POST /users/{user}/codes`."""
    form = request[FORM]
    given: dict[str, Any] = _given(form)
    for name in given.keys() & {"ttl_days", "max_uses"}:
        if given[name].isdecimal() and len(given[name]) <= LONGEST_NUMBER:
            given[name] = int(given[name])
    try:
        body = load(CodeCreationSchema(), given)
        check_new_code(body, request.app[CONFIG])
        async with work_on(request) as work:
            user_id = await _locked(request, work)
            await make_code_of(work, user_id, body)
    except Problem as problem:
        if problem.kind.name not in ("validation-error", "code-taken", "active-code-exists"):
            raise
        return refused_form(request, "user_code.html", problem, form, **await _code_facts(request))
    return see_other(request, f"{USERS}/{user_id}", "code-made")


# Sessions, the export and the end


@routes.get(f"{USER}/sessions/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_sessions_end(request: web.Request) -> web.Response:
    """What the end of all sessions does, before it is done."""
    _ = texts_of(request)
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
        count = await sessions.count_sessions(conn, person.id, now())
    return confirm_page(
        request,
        title=_("End all sessions of %(who)s", who=_title(person)),
        effects=[
            _.plural("%(count)s session ends at once.", "%(count)s sessions end at once.", count),
            _("The user can sign in again at any time: to keep them out, suspend them."),
        ],
        action=f"{_page(person)}/sessions/end",
        button=_("End all sessions"),
        cancel=_page(person),
    )


@routes.post(f"{USER}/sessions/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def end_sessions_of_user(request: web.Request) -> web.Response:
    """As `DELETE /users/{user}/sessions`."""
    async with work_on(request) as work:
        user = await lock_known(work, await _locked(request, work))
        await check_role(work, user.id)
        await end_all_sessions(work, user.id, user.external_id)
    return see_other(request, f"{USERS}/{user.id}", "users-sessions-ended")


@routes.post(f"{USER}/export")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def export_user(request: web.Request) -> web.StreamResponse:
    """As `GET /users/{user}/export`: a file. By a form, since it is recorded."""
    async with work_on(request) as work:
        account = await begin_export(work, await _locked(request, work))
    return await send_export(request, account)


@routes.get(f"{USER}/erase")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_erasure(request: web.Request) -> web.Response:
    return confirm_page(request, **await _erasure(request))


async def _erasure(request: web.Request) -> dict[str, Any]:
    """What the page says before a user is erased."""
    _ = texts_of(request)
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
        has_money = bool(await ledger.list_balances(conn, person.id))
    effects = [
        _("Name, e-mail address, external id, username and metadata go for good. Nobody can bring them back."),
        _("All sessions and the current code end."),
        _("What was reported of the user loses what is personal; amounts and times stay."),
    ]
    if has_money:
        effects.append(_("Rewards and movements stay in the books without a name. Nobody can spend what is left."))
    if person.referrer_id is not None:
        if _is_taken_back(request, person):
            effects.append(_("They never verified their address: their referral is taken back, with its rewards."))
        else:
            effects.append(_("The referrer keeps a nameless entry for them."))
    if person.referral_count:
        effects.append(_("Those whom they brought stay; nobody earns by them any more."))
    return {
        "title": _("Erase %(who)s", who=_title(person)),
        "effects": effects,
        "action": f"{_page(person)}/erase",
        "button": _("Erase for good"),
        "cancel": _page(person),
        "template": "user_erase.html",
        "wanted": _wanted(person),
    }


def _is_taken_back(request: web.Request, person: Person) -> bool:
    """Whether the referral of the user goes with them: nobody has vouched for them."""
    is_vouched_for = person.external_id is not None or person.email_verified_at is not None
    return person.email is not None and not is_vouched_for and request.app[CONFIG].limits_unverified


def _wanted(person: Person) -> str:
    """What has to be typed before somebody is erased."""
    return person.email or person.external_id or person.username or person.id


@routes.post(f"{USER}/erase")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def erase_user(request: web.Request) -> web.Response:
    """As `DELETE /users/{user}`, once somebody has typed whom they mean."""
    typed = request[FORM].get("confirm", "").strip()
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
    if typed not in (_wanted(person), person.external_id):
        problem = invalid("/confirm", "This is not what stands above.")
        return _refused(request, problem, await _erasure(request))
    async with work_on(request) as work:
        await work.hold_caller()
        await check_role(work, person.id)
        if not await erase(work, person.id, None):
            raise no_such_user()
    await leave_nothing(request.app, person.id)
    return see_other(request, USERS, "user-erased")
