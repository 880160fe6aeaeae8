"""Who is a person and who is not."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from referral.robots import is_fetched_ahead, is_robot

PEOPLE = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    # People in an application's own browser.
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/22F76 "
    "[FBAN/FBIOS;FBAV/510.0.0.0;FBDV/iPhone15,3]",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Mobile Safari/537.36 "
    "Instagram 400.0.0.0",
]
ROBOTS = [
    "",
    "   ",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Twitterbot/1.0",
    "WhatsApp/2.23.20.0",
    "TelegramBot (like TwitterBot)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "curl/8.11.0",
    "python-requests/2.32",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_browsers_are_peoples(agent: str) -> None:
    assert not is_robot(agent)


@pytest.mark.parametrize("agent", ROBOTS)
def test_programs_and_nobody_are_robots(agent: str) -> None:
    assert is_robot(agent)


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("Sec-Purpose", "prefetch", True),
        ("Sec-Purpose", "prefetch;prerender", True),
        ("Purpose", "prefetch", True),
        ("purpose", "prefetch", True),
        ("X-Purpose", "preview", True),
        ("X-Moz", "prefetch", True),
        ("Sec-Purpose", "", False),
        ("Sec-Fetch-Dest", "document", False),
    ],
)
def test_what_a_browser_fetches_ahead_nobody_looks_at(header: str, value: str, *, expected: bool) -> None:
    assert is_fetched_ahead(CIMultiDict({header: value})) == expected
