"""Files of the pages, and scripts for the product's: each has a tag, by which a browser asks whether it has changed."""

import hashlib
from functools import cache
from pathlib import Path

import openapi_ui_bundles
from aiohttp import web

from referral.config.public_url import PUBLIC_URL
from referral.contract.problems import Problem
from referral.web.answers import answer_in_pieces, not_modified

OWN = Path(__file__).resolve().parent.parent / "assets"
SWAGGER_UI = openapi_ui_bundles.swagger_ui.static_path
REDOC = openapi_ui_bundles.redoc.static_path

ASSETS = {
    "page.css": (OWN / "page.css", "text/css"),
    "admin.css": (OWN / "admin.css", "text/css"),
    "admin.js": (OWN / "admin.js", "text/javascript; charset=utf-8"),
    "docs.css": (OWN / "docs.css", "text/css"),
    "docs.js": (OWN / "docs.js", "text/javascript"),
    "redoc.js": (OWN / "redoc.js", "text/javascript"),
    "referral.js": (OWN / "referral.js", "text/javascript; charset=utf-8"),
    "widget.js": (OWN / "widget.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": (SWAGGER_UI / "swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (SWAGGER_UI / "swagger-ui-bundle.js", "text/javascript"),
    "favicon.png": (SWAGGER_UI / "favicon-32x32.png", "image/png"),
    "redoc.standalone.js": (REDOC / "redoc.standalone.js", "text/javascript"),
    "logo-mini.svg": (REDOC / "logo-mini.svg", "image/svg+xml"),
}
# ReDoc would fetch its maker's logo from a CDN, although the package has it.
ELSEWHERE = b"https://cdn.redoc.ly/redoc/"


def asset(request: web.Request, name: str, headers: dict[str, str] | None = None) -> web.StreamResponse:
    """The file of this name, which browsers may keep for an hour. Raises `not-found`."""
    found = ASSETS.get(name)
    if found is None:
        raise Problem("not-found", "There is no such file.")
    path, kind = found
    body, tag = _read(path, request.app[PUBLIC_URL].path("/assets/"))
    kept = {"Content-Type": kind, "Cache-Control": "public, max-age=3600", "ETag": f'"{tag}"', **(headers or {})}
    return not_modified(request, kept) or answer_in_pieces(request, body, kept)


@cache
def _read(path: Path, assets: str) -> tuple[bytes, str]:
    """What the file has, and a tag of that; `assets` is where a browser finds the service's files."""
    body = path.read_bytes().replace(ELSEWHERE, assets.encode())
    return body, hashlib.sha256(body).hexdigest()[:16]
