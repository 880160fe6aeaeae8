"""HTML pages: templates, and the policy that lets nothing in but what this service serves."""

from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


def html(template: str, status: int = 200, policy: str = FORM_POLICY, **facts: Any) -> web.Response:
    """The page of a template, never kept by a cache: its address may hold a token."""
    return web.Response(
        text=PAGES.get_template(template).render(facts),
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"},
    )
