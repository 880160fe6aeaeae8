"""Share links: what is added to where they lead, and where they may lead."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.config import load_config
from referral.links import LONGEST_TO, Links, target_of

CODE, CLICK_ID = "8ZK4M2QA", "01a1fc33-b15e-7485-b662-a53a843b9176"
ADDED = f"ref={CODE}&click={CLICK_ID}"


# What is there already under the names that a link adds, however they are written.
OWN_NAMES = re.compile(r"[?&](ref|%72ef)=")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example.com", f"https://shop.example.com?{ADDED}"),
        ("https://shop.example.com/", f"https://shop.example.com/?{ADDED}"),
        ("https://shop.example.com/?", f"https://shop.example.com/?{ADDED}"),
        ("https://shop.example.com/a?x=1", f"https://shop.example.com/a?x=1&{ADDED}"),
        ("https://shop.example.com/a?x=1&x=2&y=&z", f"https://shop.example.com/a?x=1&x=2&y=&z&{ADDED}"),
        ("https://shop.example.com/a?x=1&", f"https://shop.example.com/a?x=1&{ADDED}"),
        ("https://shop.example.com/a?&&x", f"https://shop.example.com/a?&&x&{ADDED}"),
        ("https://shop.example.com/a?q=%26%3D%23+b;c", f"https://shop.example.com/a?q=%26%3D%23+b;c&{ADDED}"),
        ("https://shop.example.com/%2F/a%20b?x#top?y=1", f"https://shop.example.com/%2F/a%20b?x&{ADDED}#top?y=1"),
        ("https://shop.example.com/#/app?x=1", f"https://shop.example.com/?{ADDED}#/app?x=1"),
        # What a link adds replaces what has its name, however that is written.
        ("https://shop.example.com/?ref=OTHER&x=1&click=2", f"https://shop.example.com/?x=1&{ADDED}"),
        ("https://shop.example.com/?%72ef=OTHER&cl%69ck", f"https://shop.example.com/?{ADDED}"),
        ("https://shop.example.com/?refer=1&Ref=2", f"https://shop.example.com/?refer=1&Ref=2&{ADDED}"),
    ],
)
def test_a_link_adds_to_the_query_and_keeps_what_is_there(url: str, expected: str) -> None:
    target = target_of(url)
    assert target.by(CODE, CLICK_ID) == expected
    assert target.by(CODE, None) == expected.replace(f"&click={CLICK_ID}", "")
    assert target.plain == (
        url if not OWN_NAMES.search(url) else expected.replace(ADDED, "").replace("?#", "#").rstrip("?&")
    )


QUERY_TEXT = st.text(st.sampled_from("ab=&%26+;/?:@"), max_size=30)


@given(QUERY_TEXT, st.text(st.sampled_from("ab/?=&"), max_size=10))
def test_whatever_the_query_every_pair_of_it_is_still_there(query: str, fragment: str) -> None:
    found = urlsplit(target_of(f"https://shop.example.com/?{query}#{fragment}").by(CODE, CLICK_ID))
    kept = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] not in ("ref", "click")]
    assert parse_qsl(found.query, keep_blank_values=True) == [*kept, ("ref", CODE), ("click", CLICK_ID)]
    assert found.fragment == fragment


@pytest.fixture
def links() -> Links:
    origins = "https://shop.example.com,http://localhost:3000,https://xn--e1afmkfd.example"
    environ = {"REFERRAL_LINKS_DESTINATION": "https://example.com/", "REFERRAL_LINKS_ALLOWED_ORIGINS": origins}
    return Links(load_config(environ=environ))


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("https://shop.example.com", "https://shop.example.com/"),
        ("https://shop.example.com/a?b=1#c", "https://shop.example.com/a?b=1#c"),
        ("https://shop.example.com?b=1", "https://shop.example.com/?b=1"),
        ("https://shop.example.com#c", "https://shop.example.com/#c"),
        ("HTTPS://SHOP.EXAMPLE.COM:443/A", "https://shop.example.com/A"),
        ("http://localhost:3000/", "http://localhost:3000/"),
        # A path stays one, whatever it looks like.
        ("https://shop.example.com//evil.example/", "https://shop.example.com//evil.example/"),
        ("https://shop.example.com/@evil.example", "https://shop.example.com/@evil.example"),
        ("https://shop.example.com/?next=https://evil.example", "https://shop.example.com/?next=https://evil.example"),
        ("https://shop.example.com/привет", "https://shop.example.com/%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82"),
        ("https://пример.example/", "https://xn--e1afmkfd.example/"),
        ("https://ПРИМЕР.example/", "https://xn--e1afmkfd.example/"),
        ("https://XN--E1AFMKFD.example/", "https://xn--e1afmkfd.example/"),
        # As browsers read full-width letters, which is why the origin is written anew.
        ("https://ｓhop.example.com/", "https://shop.example.com/"),
    ],
)
def test_a_link_leads_to_pages_of_allowed_origins(links: Links, to: str, expected: str) -> None:
    target = links.target_to(to)
    assert target is not None
    assert target.plain == expected


# How else somebody may try to name a page of another origin, or one that browsers and this service would read otherwise.
ELSEWHERE = [
    "",
    "/welcome",
    "welcome",
    "//evil.example",
    "///evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://evil.example",
    "https://evil.example/shop.example.com",
    "https://evil.example?https://shop.example.com",
    "https://evil.example#https://shop.example.com",
    "http://shop.example.com",
    "https://shop.example.com:8443/",
    "https://shop.example.com:80/",
    "https://shop.example.com:0/",
    "https://shop.example.com:0443x/",
    "https://shop.example.com./",
    "https://shop.example.com.evil.example/",
    "https://evil.example.shop.example.com/",
    "https://shop.example.com@evil.example/",
    "https://shop.example.com:x@evil.example/",
    "https://user@shop.example.com/",
    "https://shop.example.com%2eevil.example/",
    "https://shop.example.com%00.evil.example/",
    "https://shop.example.com\\evil.example",
    "https://evil.example\\@shop.example.com/",
    "https:\\\\shop.example.com/",
    "https://shop.example.com/\\evil",
    "\\\\evil.example",
    "/\\evil.example",
    "https://shop.example.com\t.evil.example/",
    "https://shop.example.com/\r\nSet-Cookie: a=b",
    "https://shop.example.com/ a",
    " https://shop.example.com/",
    "\x00https://shop.example.com/",
    "ht\ntps://shop.example.com/",
    "javascript:alert(1)",
    "JaVaScRiPt://shop.example.com/%0aalert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://shop.example.com/",
    "wss://shop.example.com/",
    "intent://shop.example.com/#Intent;scheme=https;end",
    "https://[::1]/",
    "https://127.0.0.1/",
    "https://shop.example.com:/",
    "https://shop.example.com:65536000/",
    "https://shop。example。com.evil.example/",
    "https://shop.exаmple.com/",
    "https://\N{SOFT HYPHEN}/",
    "https://xn--/",
    "https://shop.example.com/" + "a" * LONGEST_TO,
    "null",
    "*",
]


@pytest.mark.parametrize("to", ELSEWHERE)
def test_a_link_leads_nowhere_else(links: Links, to: str) -> None:
    assert links.target_to(to) is None


@given(st.text(max_size=80) | st.text(st.sampled_from("https:/\\@.#?%\t evil.exampleshop.com。ｓ"), max_size=80))
def test_no_text_leads_to_another_origin(text: str) -> None:
    environ = {"REFERRAL_LINKS_ALLOWED_ORIGINS": "https://shop.example.com"}
    links = Links(load_config(environ=environ))
    for to in (text, f"https://shop.example.com{text}", f"https://{text}shop.example.com/"):
        target = links.target_to(to)
        if target is not None:
            for url in (target.plain, target.by(CODE, CLICK_ID)):
                assert url.startswith("https://shop.example.com/")
                assert url.isascii()
                assert url.isprintable()
                assert not set(" \\") & set(url)


@pytest.mark.parametrize(
    ("settings", "link"),
    [
        ({}, f"http://127.0.0.1:8000/r/{CODE}"),
        ({"REFERRAL_SERVER_PUBLIC_URL": "https://example.com/referrals/"}, f"https://example.com/referrals/r/{CODE}"),
        ({"REFERRAL_LINKS_BASE": "https://go.example.com/"}, f"https://go.example.com/r/{CODE}"),
    ],
)
def test_a_code_has_a_link_where_links_lead_somewhere(settings: dict[str, str], link: str) -> None:
    assert Links(load_config(environ=settings)).url_of(CODE) is None
    environ = {"REFERRAL_LINKS_DESTINATION": "https://example.com/", **settings}
    assert Links(load_config(environ=environ)).url_of(CODE) == link
