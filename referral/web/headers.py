"""Headers of every answer, those of errors and static files included."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from referral.ids import REQUEST_ID, new_id

# Headers of everything that is not a page: nothing in an answer may be run or framed, and no browser guesses its type.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    # Answers hold personal data, or what is true for a moment. Those that may be cached say so themselves.
    "Cache-Control": "no-store",
    # Replaces the versions of aiohttp and Python.
    "Server": "referral",
}
# A JSON answer begins as a copy of these: setting them one by one took 4 % of a look-up's time.
JSON_HEADERS = CIMultiDict({"Content-Type": "application/json", **HEADERS})
# A year, in seconds: what OWASP ASVS asks for. Subdomains are the operator's to speak for.
TRANSPORT_SECURITY = "max-age=31536000"


def preparing_headers(public_url: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler (`on_response_prepare`) that sets the headers of every answer, in a service that is reached by
    `public_url`."""
    set_headers = setting_headers(public_url)

    async def prepare_headers(request: web.Request, response: web.StreamResponse) -> None:
        set_headers(request, response)

    return prepare_headers


def setting_headers(public_url: str) -> Callable[[web.BaseRequest, web.StreamResponse], None]:
    """The function that sets them on an answer that no signal reaches."""
    is_secure = public_url.startswith("https:")

    def set_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
        headers = response.headers
        try:
            headers["X-Request-ID"] = request[REQUEST_ID]
        except KeyError:
            # aiohttp refuses an unknown `Expect` at an unknown address before any middleware has run.
            headers["X-Request-ID"] = new_id()
        if is_secure:
            headers["Strict-Transport-Security"] = TRANSPORT_SECURITY
        # Copies of JSON_HEADERS have them already.
        if "Referrer-Policy" not in headers:
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            # aiohttp has set this header to its own name by now.
            headers["Server"] = HEADERS["Server"]

    return set_headers
