"""Reviews in plain words: how long one waits, what was reported, and what is worth a block."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from referral.clock import DAY
from referral.queries.people import Person
from referral.queries.reviews import KindOfSignal
from referral.web.admin_reviews import HOUR, blockable, kinds_of, waited
from referral.web.admin_texts import texts_in
from tests.support.admin_world import HOSTILE

ENGLISH = texts_in("en")
PERSON = Person(
    "a", None, None, None, None, None, "user", 1, None, None, None, None, None, 0, 0, None, None, None, None, None, None,
    None, None, None, None, None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (-1, "for less than an hour"),
        (HOUR - 1, "for less than an hour"),
        (HOUR, "for 1 hour"),
        (DAY - 1, "for 23 hours"),
        (DAY, "for 1 day"),
        (2 * DAY, "for 2 days"),
    ],
)
def test_how_long_somebody_waits_is_said_in_hours_and_days(passed: int, said: str) -> None:
    assert waited(ENGLISH, 5, 5 + passed) == said


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (None, "Reported by somebody"),
        ({}, "Reported by somebody"),
        ([], "Reported by somebody"),
        ({"note": "Odd"}, 'Reported by somebody: <bdi class="theirs">Odd</bdi>'),
    ],
)
def test_a_report_is_listed_with_its_note(evidence: object, said: str) -> None:
    kept = None if evidence is None else orjson.dumps(evidence).decode()
    assert kinds_of(ENGLISH, [KindOfSignal("a", "reported", kept)]) == [said]


def test_of_a_long_note_the_beginning_is_listed_as_text() -> None:
    (said,) = kinds_of(ENGLISH, [KindOfSignal("a", "reported", orjson.dumps({"note": HOSTILE * 20}).decode())])
    assert "<b onclick" not in said
    assert said.endswith("…</bdi>")


@pytest.mark.parametrize(
    ("members", "is_referee", "kinds"),
    [
        ({"email": "a@firm.com", "external_id": "42"}, True, ["email", "email-domain", "external-id"]),
        ({"email": "a@GMail.com", "external_id": "42"}, True, ["email", "external-id"]),
        ({"email": "a@mailinator.com"}, True, ["email", "email-domain"]),
        ({"email": "a@firm.com", "external_id": "42"}, False, ["email-domain"]),
        ({"email": "a@firm.com", "external_id": "42", "joined_at": 5}, False, ["email", "email-domain", "external-id"]),
        ({}, True, []),
    ],
)
def test_only_blocks_that_can_catch_somebody_are_offered(
    members: dict[str, object], is_referee: bool, kinds: list[str]
) -> None:
    person = replace(PERSON, **members)  # type: ignore[arg-type]
    assert [kind for kind, _ in blockable(person, is_referee=is_referee)] == kinds
