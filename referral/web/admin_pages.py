"""Pages of the back office: their templates, what each of them finds, and how a form is answered.

CONTRIBUTING.md says how a page is written. They work without scripts; the one that there is shows times in the reader's
zone.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from referral.auth.identity import IDENTITY
from referral.clock import rfc_3339
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.problems import Problem, invalid
from referral.ids import REQUEST_ID
from referral.mail.compose import LANGUAGES
from referral.web.admin_sessions import ACCOUNT, FORM_TOKEN, LOGOUT, drop_cookie, form_token_of
from referral.web.admin_tables import labelled
from referral.web.admin_texts import LANGUAGE_COOKIE, SAID, Texts, texts_of
from referral.web.admin_values import money_of, time_of
from referral.web.headers import HEADERS

ADMIN = "/admin"
LOGIN = "/admin/login"
LOGIN_CODE = "/admin/login/code"

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).resolve().parent.parent / "templates" / "admin"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["labelled"] = labelled

# Of the service itself: a style sheet, a script, pictures, which may be part of a page, and forms. Nothing else, from
# nowhere.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
PAGE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": POLICY,
    # With no-referrer, browsers would not say from which origin a form comes.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# The pages that the menu leads to, in its order.
MENU = (
    ("/admin", "Overview"),
    ("/admin/users", "Users"),
    ("/admin/reviews", "Reviews"),
    ("/admin/rewards", "Rewards"),
    ("/admin/rules", "Rules"),
    ("/admin/webhooks", "Webhooks"),
    ("/admin/keys", "Keys"),
    ("/admin/audit", "Audit"),
    ("/admin/outbox", "Outbox"),
    ("/admin/account", "Account"),
)
# Seconds for which a chosen language is kept: a year.
LANGUAGE_KEPT = 365 * 86_400
_NEXT = re.compile(r"/admin(/[\w~:@.%+-]*)*(\?[\w~:@.%+=&/-]*)?", re.ASCII)
LONGEST_NEXT = 2_000


def is_page(path: str) -> bool:
    """Whether the address belongs to the back office, so that its errors are pages, too."""
    return path == ADMIN or path.startswith(f"{ADMIN}/")


def admin_page(request: web.Request, template: str, status: int = 200, **facts: Any) -> web.Response:
    """The page of a template, which finds these facts and those of `_facts`. No cache keeps it."""
    texts = texts_of(request)
    page = web.Response(
        text=TEMPLATES.get_template(template).render({**_facts(request, texts), **facts}),
        status=status,
        content_type="text/html",
        headers=PAGE_HEADERS,
    )
    if request.query.get("lang") in LANGUAGES:
        page.set_cookie(LANGUAGE_COOKIE, texts.language, max_age=LANGUAGE_KEPT, httponly=True, samesite="Lax")
    return page


def _facts(request: web.Request, texts: Texts) -> dict[str, Any]:
    """What every page finds: texts, addresses, and how times, numbers and money are shown."""
    path, config = request.app[PUBLIC_URL].path, request.app[CONFIG]

    def here(**changes: Any) -> str:
        """The address of this page with these members of its query changed, or taken away by None."""
        kept = {name: value for name, value in request.query.items() if name not in ("said", "lang")} | changes
        query = urlencode([(name, value) for name, value in kept.items() if value is not None])
        return path(request.rel_url.raw_path) + (f"?{query}" if query else "")

    def money(amount: int, unit: str) -> Markup:
        return money_of(amount, unit, texts, config)

    existing = {resource.canonical for resource in request.app.router.resources()}
    said = SAID.get(request.query.get("said", ""))
    return {
        "_": texts,
        "plural": texts.plural,
        "word": texts.word,
        "number": texts.number,
        "percent": texts.percent,
        "money": money,
        "time": time_of,
        "day": _day,
        "path": path,
        "here": here,
        "language": texts.language,
        "languages": LANGUAGES,
        "menu": [(target, text) for target, text in MENU if target in existing],
        "at": request.rel_url.raw_path,
        "query": request.query,
        "token_of_forms": form_token_of(request),
        "form_token_name": FORM_TOKEN,
        "is_signed_in": IDENTITY in request,
        "me_id": request[IDENTITY].user_id if IDENTITY in request else None,
        "said": texts(said) if said else None,
        "given": {},
        "errors": {},
    }


def _day(milliseconds: int) -> str:
    """The day of a moment, in UTC."""
    return rfc_3339(milliseconds)[:10]


def see_other(request: web.Request, path: str, said: str | None = None) -> web.Response:
    """The answer to a form that did what it says: a redirect to a page, which says what was done by the text of a word of
    SAID."""
    assert said is None or said in SAID, said
    query = f"{'&' if '?' in path else '?'}said={said}" if said else ""
    return web.Response(status=303, headers={**PAGE_HEADERS, "Location": request.app[PUBLIC_URL].path(path) + query})


def refused_form(
    request: web.Request, template: str, problem: Problem, form: Mapping[str, str], **facts: Any
) -> web.Response:
    """The page of a form once more, with what somebody has put in, as `given`, and what is wrong with each member, as
    `errors`. What is wrong with the whole is under "". Its status is the problem's."""
    return admin_page(request, template, problem.kind.status, given=form, errors=errors_of(problem), **facts)


def problem_beside(member: str, problem: Problem) -> Problem:
    """The problem as one of this member of the form."""
    return invalid(f"/{member}", problem.detail)


def errors_of(problem: Problem) -> dict[str, str]:
    """What is wrong with each member of a form, by its name; with the whole, by an empty one."""
    listed = problem.members.get("errors") or [{"pointer": "", "detail": problem.detail}]
    return {error["pointer"].removeprefix("/"): error["detail"] for error in listed}


def confirm_page(
    request: web.Request,
    *,
    title: str,
    effects: list[str],
    action: str,
    button: str,
    cancel: str,
    hidden: Mapping[str, str] | None = None,
    template: str = "confirm.html",
    problem: Problem | None = None,
    **facts: Any,
) -> web.Response:
    """The page that says what an action will do before it is done: it lists the effects and has one form, which posts the
    hidden members to the path `action`. A template of its own may extend it, with fields in the block `fields`, and a
    `problem` comes back to these. The button looks like one that takes something away unless its `tone` is "primary"."""
    return admin_page(
        request,
        template,
        problem.kind.status if problem else 200,
        errors=errors_of(problem) if problem else {},
        title=title,
        effects=effects,
        action=action,
        button=button,
        cancel=cancel,
        hidden=hidden or {},
        **facts,
    )


def error_page(request: web.Request, problem: Problem) -> web.Response:
    """The page of a problem. Who is not signed in is led to the sign-in and, from there, back to what they asked for."""
    if problem.kind.name == "unauthorized":
        asked = request.rel_url.raw_path_qs
        wanted = f"?{urlencode({'next': asked})}" if request.method in ("GET", "HEAD") and is_next(asked) else ""
        led = see_other(request, f"{LOGIN}{wanted}")
        drop_cookie(led)
        return led
    if problem.kind.name == "second-factor-required" and request.method in ("GET", "HEAD"):
        return see_other(request, ACCOUNT, "second-factor-required")
    page = admin_page(
        request,
        "problem.html",
        problem.kind.status,
        kind=problem.kind,
        detail=problem.detail,
        request_id=request[REQUEST_ID],
    )
    page.headers.update(problem.headers)
    if "Connection" in problem.headers:
        page.force_close()
    return page


def is_next(target: str) -> bool:
    """Whether a page of the back office is at this path, and nothing else, however a browser reads it."""
    if len(target) > LONGEST_NEXT or not _NEXT.fullmatch(target):
        return False
    path = target.partition("?")[0]
    return not path.startswith((LOGIN, LOGOUT)) and not {".", ".."} & set(unquote(path).split("/"))
