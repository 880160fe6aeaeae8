"""The pages that mailed links lead to, and those that explain problems. They work without scripts.

A GET only shows a form and uses nothing up, because mail programs and virus scanners follow links.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from referral.config import CONFIG
from referral.contract.access import Access, Limit, allow
from referral.contract.catalogue import CATALOGUE
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem
from referral.rules.mailed_links import confirm_email, confirm_reset, disown
from referral.web.bodies import read_form
from referral.web.pages import html

routes = web.RouteTableDef()

PAGE = "a page, for a reader"


@routes.get("/account/verify")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented(PAGE)
async def get_verify_page(request: web.Request) -> web.Response:
    return html(request, "verify.html", token=request.query.get("token", ""))


@routes.post("/account/verify")
@allow(Access.ANYBODY)
@undocumented(PAGE)
async def submit_verify_page(request: web.Request) -> web.Response:
    """The button of the page of the verification mail."""
    return await _press(request, confirm_email, "Thank you", "Your e-mail address is confirmed.")


@routes.get("/account/disown")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented(PAGE)
async def get_disown_page(request: web.Request) -> web.Response:
    return html(request, "disown.html", token=request.query.get("token", ""))


@routes.post("/account/disown")
@allow(Access.ANYBODY)
@undocumented(PAGE)
async def submit_disown_page(request: web.Request) -> web.Response:
    """The button of the page for whoever did not register."""
    return await _press(request, disown, "The account is gone", "Nobody uses your e-mail address here any more.")


async def _press(
    request: web.Request, use_link: Callable[[web.Request, str], Awaitable[None]], title: str, text: str
) -> web.Response:
    """Use the link that the form carries, and say what that did, or why it cannot be."""
    form = await read_form(request)
    try:
        await use_link(request, form.get("token", ""))
    except Problem as problem:
        return _refused(request, problem)
    return html(request, "message.html", title=title, text=text)


@routes.get("/account/reset")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented(PAGE)
async def get_reset_page(request: web.Request) -> web.Response:
    return _reset_form(request, request.query.get("token", ""))


def _reset_form(request: web.Request, token: str, error: str | None = None) -> web.Response:
    least = request.app[CONFIG].auth.password_min_length
    return html(request, "reset.html", 422 if error else 200, token=token, least=least, error=error)


@routes.post("/account/reset")
@allow(Access.ANYBODY)
@undocumented(PAGE)
async def submit_reset_page(request: web.Request) -> web.Response:
    """The button of the page of the password mail."""
    form = await read_form(request)
    token = form.get("token", "")
    try:
        await confirm_reset(request, token, form.get("new_password", ""))
    except Problem as problem:
        if problem.kind.name == "validation-error":
            return _reset_form(request, token, problem.members["errors"][0]["detail"])
        return _refused(request, problem)
    return html(
        request,
        "message.html",
        title="Your password is set",
        text="Sign in with the new one. You have been signed out everywhere.",
    )


def _refused(request: web.Request, problem: Problem) -> web.Response:
    page = html(request, "message.html", problem.kind.status, title=problem.kind.title, text=problem.detail)
    page.headers.update(problem.headers)
    return page


@routes.get("/problems/{problem}")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented(PAGE)
async def get_problem_page(request: web.Request) -> web.Response:
    """What a problem means."""
    kind = CATALOGUE.get(request.match_info["problem"])
    if kind is None:
        raise Problem("not-found", "There is no such problem.")
    return html(request, "problem.html", kind=kind)
