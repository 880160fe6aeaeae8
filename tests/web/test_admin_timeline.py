"""The timeline in sentences: each kind of step, with its reason, in both languages, whatever people have written."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from markupsafe import Markup

from referral.queries.audit import Event
from referral.queries.codes import Code
from referral.queries.events import ReportedEvent
from referral.queries.people import Named
from referral.queries.referrals import Referral
from referral.queries.reviews import KeptSignal
from referral.queries.rewards import Reward
from referral.queries.timeline import Approval, Fulfilment, Joining, NamedClick, ReviewCourse, Spending, Taking
from referral.rules.deciding import REASON
from referral.rules.rewards import RETRACTED
from referral.rules.timeline import Step
from referral.web.admin_people import called, shortened
from referral.web.admin_texts import texts_in
from referral.web.admin_timeline import Teller, mentioned
from tests.support.admin_world import HOSTILE, LONG


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the dialect."""
    return "sqlite"


NAMES = {
    "a": Named("a", "Alice", None, None, None, None),
    "b": Named("b", None, "bob@example.com", "42", None, None),
    "boss": Named("boss", None, None, None, "boss", None),
    "gone": Named("gone", None, None, None, None, 5),
}
EVENT = ReportedEvent(
    "e1", "purchase", "b", 1_000, 1_000, "USD", 4_900, 0, None, None, None, None, "none", None, None, None, 0, None
)
REWARD = Reward(
    "w1", "a", "referrer", "balance", None, "USD", 980, 1, 0, 0, "pending", "r1", 2, '{"name": "Give 20 %"}', "e1", "b", "a",
    0, 2_000_000, 1_000, None, None, None, None, None, None,
)  # fmt: skip
TAKING = Taking("t", 1, "reversal", "USD", 980, "available", -480, "w1", "cheating", "b")
# What a rejection took from the referrer, and whatever it takes from them before it was earned.
REJECTED = Taking(
    "t", 1, "retraction", "USD", 980, "available", 0, "w1", REASON, "c", "rejected", "boss", None, "one person"
)  # fmt: skip
JOINING = Joining(1, "CODE", "click", "none", None, "a", None, None, "Alice", None)
REVIEW = ReviewCourse("open", 100, 1, None, None, None, None, 0)
ACT = Event("x", 1, "account-suspended", "boss", "b", None, None, None, '{"reason": "made up accounts"}')


def act(event: str, **members: Any) -> Event:
    return replace(ACT, event=event, **members)


def tell(kind: str, about: Any, language: str = "en") -> str:
    """All that is said of one step."""
    return words(told(kind, about, language))


def told(kind: str, about: Any, language: str = "en") -> str:
    teller = teller_in(language)
    (one,) = teller.tell([Step(1, 1, "1", kind, about)])
    return " ".join([str(one.text), *map(str, one.more), one.tone])


def teller_in(language: str) -> Teller:
    def money(amount: int, unit: str) -> Markup:
        return Markup.escape(f"{amount} {unit}")

    return Teller("b", 1_000_000, texts_in(language), lambda path: f"/prefix{path}", money, NAMES, {"r9": "Old rule"})


def words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", "", text)).split())


def skipped(reason: str) -> str:
    return f'{{"rewards": [], "skipped": [{{"rule_id": "r9", "reason": "{reason}"}}]}}'


TOLD: list[tuple[str, Any, list[str]]] = [
    ("click", NamedClick("c", 1, "CODE", 0, "a"), ["the link of Alice", "CODE"]),
    ("click", NamedClick("c", 1, "CODE", 1, None), ["the link of the code CODE", "a program's", "warn"]),
    ("code-made", Code("CODE", 1, 86_400_000, None, 5, 0), ["Got the code CODE", "1970-01-02", "5 users"]),
    ("code-ended", Code("CODE", 1, 2, 2, None, 0), ["The code CODE ended"]),
    ("joined", JOINING, ["Came by Alice", "a click on the link", "good"]),
    ("joined", replace(JOINING, source="code", review="open"), ["whose code CODE was given", "under review", "warn"]),
    ("joined", replace(JOINING, referrer_id="gone", review="rejected"), ["an erased user", "nothing is earned", "bad"]),
    ("brought", Referral(1, "b", None, None, None, None, 1, "CODE"), ["Brought bob@example.com", "No purchase counts"]),
    ("brought", Referral(1, "b", None, None, None, None, 1, "C", "code", "none", 5), ["converted since 1970"]),
    ("event", replace(EVENT, type="signup", unit=None, amount=None), ["Signed up."]),
    ("event", EVENT, ["Bought for 4900 USD (e1)", "No rule of the programme was about such a purchase"]),
    ("event", replace(EVENT, refunded=900, outcome=skipped("times")), ["900 USD of it was given back", "“Old rule” gave"]),
    ("event", replace(EVENT, outcome=skipped("not-referred")), ["gave nothing: the user came by nobody"]),
    ("event", replace(EVENT, outcome=skipped("of another version")), ["gave nothing: of another version"]),
    ("event", replace(EVENT, type="refund", refunds="e0"), ["Was given back 4900 USD of the purchase e0", "warn"]),
    ("event", replace(EVENT, code="NO", reason="own-code"), ["The code NO changed nothing: it is the user's own code"]),
    ("event", replace(EVENT, click_id="1", reason="click-expired"), ["The click that was named", "too long ago"]),
    ("event", replace(EVENT, received_at=900_000), ["It happened at 1970-01-01 00:00 UTC, and was reported later"]),
    ("event", replace(EVENT, type="trial", unit=None, amount=None), ["The product reported “trial” (e1)"]),
    ("signal", KeptSignal("same-device", "", 60, '{"users": ["a"]}', 1), ["The same device (weight 60)", "Alice"]),
    ("signal", KeptSignal("same-email", "", 100, '{"differs_by": "plus part"}', 1), ["reaches the referrer", "plus part"]),
    ("signal", KeptSignal("same-email", "", 100, "{}", 1), ["The same mailbox (weight 100)"]),
    ("signal", KeptSignal("too-fast", "", 20, '{"seconds": 1}', 1), ["Joined 1 second after the click"]),
    ("signal", KeptSignal("seen-before", "", 60, '{"known_since": "x", "clicked_at": 1}', 1), ["known_since: x"]),
    ("signal", KeptSignal("new-kind", "", 60, None, 1), ["new-kind", "no longer kept"]),
    ("review-opened", REVIEW, ["came to too much", "Look at it and decide", "warn"]),
    (
        "review-decided",
        replace(REVIEW, status="rejected", decided_by_user="boss", reason="one person", suspends=1),
        ["rejected by boss", "one person", "The referrer was suspended", "bad"],
    ),
    ("review-decided", replace(REVIEW, status="cleared", decided_by_key="shop"), ["cleared by the key “shop”", "good"]),
    ("reward", REWARD, ["made: 980 USD for bringing bob@example.com", "“Give 20 %” (version 2)", "until 1970-01-01"]),
    ("reward", replace(REWARD, review="open", release_at=0), ["waits for the review of the referral", "warn"]),
    ("reward", replace(REWARD, needs_approval=1, release_at=0), ["waits for somebody to approve it"]),
    ("reward", replace(REWARD, suspended_at=1), ["until 1970", "the end of the user's suspension"]),
    ("reward", replace(REWARD, side="referee", status="approved"), ["for coming by Alice", "can be spent", "good"]),
    ("reward", replace(REWARD, status="void", reason="refunded"), ["void", "The purchase was refunded.", "bad"]),
    ("reward", replace(REWARD, status="reversed", reason="a mistake"), ["taken back", "a mistake", "bad"]),
    ("reward", replace(REWARD, status="approved", reversed=80), ["80 USD of it was taken back"]),
    (
        "reward",
        replace(REWARD, side=None, rule_id=None, kind="coupon", label="A month", value=None, unit=None, status="approved",
                reason="For the trouble"),
        ["made by hand: “A month”", "For the trouble", "has to deliver it"],
    ),
    ("approval", Approval("w1", 5, "balance", None, "USD", 980, 5), ["Earned 980 USD: the reward was approved", "At once"]),
    ("approval", Approval("w1", 5, "balance", None, "USD", 980, 1), ["since 1970-01-01", "nothing held it back"]),
    ("fulfilment", Fulfilment("w1", 5, "coupon", "A month", "USD", 980, "81"), ["“A month”, worth 980 USD", "81"]),
    ("taking", TAKING, ["980 USD of a reward was taken back", "Why: cheating", "a debt", "bad"]),
    ("reward", replace(REWARD, status="reversed", reason=REASON), ["approved. The referral was rejected.", "bad"]),
    ("taking", replace(TAKING, kind="refund", available_after=20), ["the purchase was given back", "after that: 20 USD."]),
    ("taking", replace(TAKING, kind="void", debit="pending", available_after=None), ["still waited", "Why: cheating"]),
    ("taking", replace(TAKING, reason=None), ["The reason is no longer kept."]),
    ("taking", REJECTED, ["of c was rejected by boss. Look at the review", "Reason: one person", "that: 0 USD."]),
    ("taking", replace(REJECTED, kind="void", debit="pending"), ["still waited", "was rejected by boss", "one person"]),
    ("taking", replace(REJECTED, decided_by_user=None, decided_by_key="shop"), ["was rejected by the key “shop”."]),
    ("taking", replace(REJECTED, referral_user_id="b"), ["Why: the referral by which this user came was rejected by boss."]),
    ("taking", replace(REJECTED, review=None, reason=RETRACTED), ["the referral of c was taken back, because nobody"]),
    ("reward", replace(REWARD, approved_at=1_000, status="approved"), ["Earned 980 USD for bringing bob@example.com"]),
    ("reward", replace(REWARD, approved_at=2_000, status="approved"), ["A reward was made: 980 USD"]),
    ("spending", Spending("d", 1, "USD", 100, "done", "order 17", None), ["Spent 100 USD", "order 17"]),
    ("spending", Spending("d", 1, "USD", 100, "released", None, None), ["is available again"]),
    ("act", ACT, ["The user was suspended", "Done by boss", "made up accounts", "bad"]),
    ("act", act("external-id-changed", detail='{"key": "shop"}'), ["own id", "Done by the key “shop”"]),
    ("act", act("registered", actor_id="b", detail="{}"), ["registered", "Done by the user"]),
    ("act", act("sign-in-refused", actor_id=None, detail="{}"), ["by nobody who was signed in"]),
    ("act", act("of-a-later-version", detail="{}"), ["of-a-later-version"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "about", "expected"), TOLD)
def test_a_step_says_what_happened_and_why(kind: str, about: Any, expected: list[str]) -> None:
    said = tell(kind, about)
    for part in expected:
        assert part in said, said


@pytest.mark.parametrize(("kind", "about", "expected"), TOLD)
def test_every_step_is_told_in_russian(kind: str, about: Any, expected: list[str]) -> None:
    said = tell(kind, about, "ru")
    assert re.search("[а-яё]{3}", said), said
    assert "%(" not in said


def test_what_people_wrote_is_text_alone() -> None:
    for kind, about in (
        ("click", NamedClick("c", 1, HOSTILE, 0, None)),
        ("event", replace(EVENT, id=HOSTILE, type=HOSTILE)),
        ("event", replace(EVENT, code=HOSTILE, reason=HOSTILE, outcome=skipped("<b>"))),
        ("signal", KeptSignal("reported", "1", 50, '{"note": "<b onclick=1>"}', 1)),
        ("signal", KeptSignal("<b>", "1", 50, '{"<b>": {"<i>": "<b onclick=1>"}}', 1)),
        ("reward", replace(REWARD, label=HOSTILE, definition='{"name": "<b>"}', event_id=HOSTILE)),
        ("taking", replace(TAKING, reason=HOSTILE)),
        ("taking", replace(REJECTED, review_reason=HOSTILE, decided_by_user=None, decided_by_key=HOSTILE)),
        ("spending", Spending("d", 1, "USD", 100, "done", HOSTILE, HOSTILE)),
        ("act", act("account-suspended", detail='{"reason": "<b>", "key": "<b>"}')),
    ):
        for language in ("en", "ru"):
            assert "<b" not in re.sub(r"</?bdi[^>]*>", "", told(kind, about, language))


def test_what_somebody_did_to_a_reward_is_told_once_with_what_came_of_it() -> None:
    taken = Step(7, 13, "x", "taking", TAKING)
    by_boss = Step(7, 2, "y", "act", act("reward-reversed", at=7, detail='{"reward_id": "w1"}'))
    of_another = Step(7, 2, "z", "act", act("reward-reversed", id="z", at=7, detail='{"reward_id": "w2"}'))
    told = teller_in("en").tell([taken, of_another, by_boss])
    assert [one.kind for one in told] == ["taking", "act"]
    assert "Done by boss." in words(str(told[0].more[0]))


def test_a_reward_that_was_approved_as_it_was_made_is_one_step() -> None:
    approval = Approval("w1", 1, "balance", None, "USD", 980, 1)
    steps = [Step(1, 12, "w1", "approval", approval), Step(1, 11, "w1", "reward", replace(REWARD, status="approved"))]
    assert [one.kind for one in teller_in("en").tell(steps)] == ["reward"]
    assert [one.kind for one in teller_in("en").tell(steps[:1])] == ["approval"], "its reward stands on the next page"
    later = replace(approval, at=9)
    assert [one.kind for one in teller_in("en").tell([Step(9, 12, "w1", "approval", later), *steps[1:]])] == [
        "approval",
        "reward",
    ]


def test_links_lead_to_whatever_is_named() -> None:
    assert 'href="/prefix/admin/users/b"' in told("reward", REWARD)
    assert 'href="/prefix/admin/rules/r1"' in told("reward", REWARD)
    assert 'href="/prefix/admin/rewards/w1"' in told("taking", TAKING)
    assert 'href="/prefix/admin/reviews/b"' in told("review-opened", REVIEW)
    assert 'href="/prefix/admin/reviews/b"' in told("reward", replace(REWARD, review="open"))
    assert 'href="/prefix/admin/reviews/b"' in told("reward", replace(REWARD, status="void", reason=REASON))
    assert 'href="/prefix/admin/reviews/c"' in told("taking", REJECTED)


@pytest.mark.parametrize("status", ["pending", "void"])
@pytest.mark.parametrize("side", ["referrer", "referee", None])
def test_what_was_not_earned_is_never_told_as_earned(status: str, side: str | None) -> None:
    reward = replace(REWARD, status=status, side=side, reason=REASON if status == "void" else None)
    said = tell("reward", reward)
    assert "Earned" not in said
    assert re.search("not earned yet|never earned", said), said


def test_steps_say_whose_names_they_need() -> None:
    steps = [
        Step(1, 1, "1", kind, about)
        for kind, about in (
            ("reward", REWARD),
            ("taking", REJECTED),
            ("act", replace(ACT, actor_id=None)),
            ("event", replace(EVENT, outcome=skipped("times"))),
            ("signal", KeptSignal("same-device", "", 60, '{"users": ["gone"]}', 1)),
        )
    ]
    assert mentioned(steps).users == {"a", "b", "c", "boss", "gone"}
    assert mentioned(steps).rules == {"r9"}


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (Named("1", "Alice", "a@example.com", "42", "alice", None), "Alice"),
        (Named("1", None, "a@example.com", "42", "alice", None), "a@example.com"),
        (Named("1", None, None, "42", "alice", None), "42"),
        (Named("1", None, None, None, "alice", None), "alice"),
        (Named("1", None, None, None, None, None), "1"),
    ],
)
def test_everybody_is_called_something(user: Named, name: str) -> None:
    assert called(user) == name


def test_a_long_name_is_cut_in_a_sentence() -> None:
    assert len(shortened(LONG * 60)) == 60
    assert shortened(LONG) == LONG


def test_the_services_own_reasons_are_told_once_and_in_the_language_of_the_page() -> None:
    said = tell("taking", replace(TAKING, kind="retraction", reason=REASON))
    assert "Why: the referral of bob@example.com was rejected." in said
    assert "Why: the referral" not in said.replace("Why: the referral of bob@example.com was rejected.", "")
    russian = tell("reward", replace(REWARD, status="reversed", reason=REASON), "ru")
    assert "Реферал отклонён." in russian
    assert REASON not in russian
