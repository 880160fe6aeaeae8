"""Outside services over HTTP: none of them is trusted to be there, to be short, or to make sense."""

from collections.abc import Mapping
from time import monotonic
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, DummyCookieJar

from referral import __version__

# A verdict has 1 KB and a person with a company some 10 KB.
MAX_ANSWER = 65_536
CHUNK = 8_192

FAILURES = 5
PAUSE = 10.0


class NoAnswer(Exception):
    """There is no usable answer. The message says why; it holds neither the key nor the address that was asked about."""


def open_vendor_session() -> ClientSession:
    """The one client session of an application. No cookies; no compression, so that sizes are what they are."""
    return ClientSession(
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"referral/{__version__}"},
    )


async def ask_vendor(
    session: ClientSession, url: str, parameters: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[int, Any]:
    """GET `url`. Returns the status and, of a 200, the JSON document; of every other status None.

    Redirects are not followed. Raises NoAnswer when the connection fails, and when a 200 is longer than MAX_ANSWER or is no
    JSON. The caller has to bound the time.
    """
    try:
        async with session.get(url, params=parameters, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                return response.status, None
            body = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise NoAnswer(f"an answer of more than {MAX_ANSWER} bytes")
            return 200, orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoAnswer("an answer that is no JSON") from None
    except (ClientError, OSError) as error:
        # The text of some of aiohttp's errors holds the URL, and with it the e-mail address.
        raise NoAnswer(type(error).__name__) from None


class Breaker:
    """A circuit breaker: after FAILURES failures in a row it keeps requests from the vendor for PAUSE seconds; then one may
    try again."""

    def __init__(self) -> None:
        self._failures = 0
        self._next_try = 0.0

    def allows(self) -> bool:
        """Whether to ask now. After a True, say `succeeded` or `failed`."""
        if self._failures < FAILURES:
            return True
        if monotonic() < self._next_try:
            return False
        self._next_try = monotonic() + PAUSE
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._next_try = monotonic() + PAUSE
