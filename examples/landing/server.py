"""A product's web server: it serves the pages, and reports each sign-up with the link by which the visitor came."""

import json
import os
import re
import uuid
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

HERE = Path(__file__).resolve().parent
SERVICE, KEY = os.environ.get("REFERRAL_URL", "http://127.0.0.1:8000"), os.environ["REFERRAL_KEY"]
POLICY = "default-src 'none'; style-src 'self'; img-src data: {0}/; form-action 'self'; script-src {0}/; connect-src {0}/"
# The cookie that referral.js keeps, too: a code, and the click if there was one.
LINK = re.compile(r"referral=([A-Za-z0-9_-]{4,32})\.([A-Za-z0-9_-]{0,64})")


def link_in(names: dict[str, str]) -> re.Match[str] | None:
    """The link that a query or a form names, as the cookie has it."""
    return LINK.fullmatch(f"referral={names.get('ref', '')}.{names.get('click', '')}")


class Product(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        """Keep the link, too: some browsers run no scripts, and others soon forget what a script keeps."""
        if link := link_in(dict(parse_qsl(urlsplit(self.path).query))):
            self.send_header("Set-Cookie", f"{link[0]}; Path=/; Max-Age=2592000; SameSite=Lax")
        self.send_header("Content-Security-Policy", POLICY.format(SERVICE))
        super().end_headers()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/signup" or length > 10_000:
            self.send_error(404)
            return
        form = dict(parse_qsl(self.rfile.read(length).decode(errors="replace")))
        # Here a product makes the account. Its id is the one by which the service will know the user.
        name = uuid.uuid4().hex
        user = {"external_id": name, "email": form.get("email")}
        event: dict[str, Any] = {"id": f"signup-{name}", "type": "signup", "user": user}
        if link := link_in(form) or LINK.search(self.headers.get("Cookie", "")):
            event |= {"code": link[1], "click_id": link[2] or None}
        told, token = report(event), token_of(name)
        text = (HERE / "welcome.html").read_text().replace("$attribution", escape(told)).replace("$token", escape(token))
        page = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the service answers. Raises OSError and ValueError."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = Request(f"{SERVICE}/api/v1{path}", json.dumps(body).encode(), headers)  # noqa: S310 - our own setting
    with urlopen(request, timeout=3) as answer:  # noqa: S310
        return dict(json.load(answer))


def token_of(external_id: str) -> str:
    """A token for a user's browser, by which the widget shows their own link; empty if the service gives none."""
    try:
        return str(post(f"/users/ext:{external_id}/token", {"ttl_seconds": 3600})["access_token"])
    except (OSError, ValueError):
        return ""


def report(event: dict[str, Any]) -> str:
    """What the service says of a sign-up. Nothing that becomes of it fails one; examples/shop tells later what failed."""
    try:
        attribution = post("/events", event)["attribution"]
    except (OSError, ValueError) as error:
        return f"not reported: {error}"
    return f"{attribution['status']}: {attribution['reason']}" if attribution["reason"] else str(attribution["status"])


if __name__ == "__main__":
    address = ("127.0.0.1", int(os.environ.get("PORT", "8001")))
    ThreadingHTTPServer(address, partial(Product, directory=str(HERE / "pages"))).serve_forever()
