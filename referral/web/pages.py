"""HTML pages: templates, and the policy that lets nothing in but what this service serves."""

from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from referral.config.public_url import PUBLIC_URL

PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).resolve().parent.parent / "templates" / "pages"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)

# A page with a form: a style sheet and a POST to the service itself, no script at all.
FORM_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def html(request: web.Request, template: str, status: int = 200, policy: str = FORM_POLICY, **facts: Any) -> web.Response:
    """The page of a template, which finds `path()` among its facts: the address of a path of the service. It is never kept
    by a cache: its own address may hold a token."""
    return web.Response(
        text=PAGES.get_template(template).render(facts, path=request.app[PUBLIC_URL].path),
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"},
    )
