"""The second factor of whoever looks: switched on by a QR code and a code of the app, and off again."""

import base64
from typing import Any

from aiohttp import web

from referral import qr
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem
from referral.rules import second_factors
from referral.web.admin_pages import admin_page, confirm_page, problem_beside, refused_form, see_other
from referral.web.admin_sessions import ACCOUNT, FORM
from referral.web.admin_texts import texts_of

routes = web.RouteTableDef()

PAGE = "a page of the back office"
PATH = f"{ACCOUNT}/second-factor"
OFF = f"{PATH}/off"
QR_SIZE = 200


@routes.get(PATH)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_second_factor_page(request: web.Request) -> web.Response:
    """The password is asked for or, once it was given, a code of the app. It leads back where one is switched on."""
    found = await second_factors.own_second_factor(request)
    if found is not None and found.is_on:
        return see_other(request, ACCOUNT)
    return admin_page(request, "second_factor.html", **await _begun(request))


async def _begun(request: web.Request) -> dict[str, Any]:
    """What the page shows of a second factor that was begun."""
    found = await second_factors.own_second_factor(request)
    if found is None or found.is_on:
        return {"begun": False}
    begun = await second_factors.find_begun(request, found)
    image = base64.b64encode(qr.svg(begun.uri, QR_SIZE)).decode()
    groups = " ".join(begun.secret[start : start + 4] for start in range(0, len(begun.secret), 4))
    return {"begun": True, "grouped": groups, "qr": f"data:image/svg+xml;base64,{image}"}


@routes.post(PATH)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def begin(request: web.Request) -> web.Response:
    """As `POST /users/me/second-factor`."""
    try:
        await second_factors.begin(request, request[FORM].get("password", ""))
    except Problem as problem:
        if problem.kind.name != "wrong-password":
            raise
        return refused_form(request, "second_factor.html", problem_beside("password", problem), {}, begun=False)
    return see_other(request, PATH)


@routes.post(f"{PATH}/confirm")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm(request: web.Request) -> web.Response:
    """As `POST /users/me/second-factor/confirm`. The answer is the page itself, which shows the codes this once."""
    try:
        codes = await second_factors.confirm(request, request[FORM].get("code", ""))
    except Problem as problem:
        if problem.kind.name != "wrong-code":
            raise
        return refused_form(request, "second_factor.html", problem_beside("code", problem), {}, **await _begun(request))
    return admin_page(request, "recovery_codes.html", codes=codes)


@routes.get(OFF)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_second_factor_off(request: web.Request) -> web.Response:
    return _off_page(request)


def _off_page(request: web.Request, problem: Problem | None = None) -> web.Response:
    """What switching it off does; once more, with what is wrong."""
    _ = texts_of(request)
    return confirm_page(
        request,
        title=_("Switch the second factor off"),
        effects=[_("A sign-in takes the password alone again."), _("The recovery codes are good for nothing any more.")],
        action=OFF,
        button=_("Switch it off"),
        cancel=ACCOUNT,
        template="second_factor_off.html",
        problem=problem,
    )


@routes.post(OFF)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def switch_off(request: web.Request) -> web.Response:
    """As `DELETE /users/me/second-factor`."""
    form = request[FORM]
    try:
        await second_factors.switch_off(request, form.get("password", ""), form.get("code", ""))
    except Problem as problem:
        if problem.kind.name not in ("wrong-password", "wrong-code"):
            raise
        return _off_page(request, problem_beside("password" if problem.kind.name == "wrong-password" else "code", problem))
    return see_other(request, ACCOUNT, "second-factor-off")
