"""What makes a referral look suspicious. Pure: it knows no connection and no clock.

A signal says what somebody would have to look at, never what has happened: people share flats, offices and phones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from referral.clock import SECOND, rfc_3339
from referral.mailboxes import canonical, differences, domain_of, is_disposable, is_somebodys

# Joined so soon (ms) after a click: nobody has read the page.
TOO_FAST = 5 * SECOND
# So many purchases say how many of them come back.
FEWEST_PURCHASES = 5
# Users whom the evidence names.
MOST_NAMED = 20
# What it is called that two users have the same.
SAME_DEVICE, SAME_PAYMENT, SAME_NETWORK = "same-device", "same-payment", "same-network"


@dataclass(frozen=True, slots=True)
class Signal:
    """A reason to look at a referral: its kind, what it counts (0 to 1,000), and the evidence, as JSON members. The
    reference tells several of one kind apart."""

    kind: str
    weight: int
    evidence: dict[str, Any]
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a referral; times in ms. Nothing follows from what is not known.

    Addresses are as `email_key` makes them. `alike` are, by the kind of signal, the referrer and other referrals of the
    referrer who have the same. `known_since` is when the product first had the user, `joined_at` when they came by the
    click, and `joined_in_the_hour` how many came by the referrer until then, this one included. `blocked` are the kinds of
    blocks that the user meets. `purchases` are those of all referrals of the referrer, of which so many are `refunded`
    wholly; `has_tipped` says that there were as many before.
    """

    email: str | None = None
    referrer_email: str | None = None
    alike: Mapping[str, frozenset[str]] = field(default_factory=dict)
    clicked_at: int | None = None
    clicked_by_robot: bool = False
    known_since: int | None = None
    joined_at: int | None = None
    joined_in_the_hour: int = 0
    blocked: frozenset[str] = frozenset()
    purchases: int = 0
    refunded: int = 0
    has_tipped: bool = False


def signals_of(facts: Facts, weights: Mapping[str, int], per_hour: int) -> list[Signal]:
    """The signals that follow, one of a kind; those of weight 0 are switched off. More than so many referrals `per_hour` are
    a burst."""
    found = (
        *_of_address(facts),
        *_of_click(facts),
        *likenesses(facts.alike),
        *_of_numbers(facts, per_hour),
    )
    return [Signal(kind, weights[kind], evidence) for kind, evidence in found if weights[kind] > 0]


def likenesses(alike: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """That others have the same."""
    for kind in (SAME_DEVICE, SAME_PAYMENT, SAME_NETWORK):
        if users := alike.get(kind):
            yield kind, {"users": sorted(users)[:MOST_NAMED]}


def _of_address(facts: Facts) -> Iterator[tuple[str, dict[str, Any]]]:
    if facts.blocked:
        yield "blocked", {"blocks": sorted(facts.blocked)}
    if facts.email is None:
        return
    domain = domain_of(facts.email)
    if is_disposable(domain):
        yield "disposable-email", {"domain": domain}
    if facts.referrer_email is None:
        return
    if canonical(facts.email) == canonical(facts.referrer_email):
        yield "same-email", {"differs_by": ", ".join(differences(facts.email, facts.referrer_email))}
    if domain == domain_of(facts.referrer_email) and is_somebodys(domain):
        yield "same-domain", {"domain": domain}


def _of_click(facts: Facts) -> Iterator[tuple[str, dict[str, Any]]]:
    if facts.clicked_at is None:
        return
    clicked_at = rfc_3339(facts.clicked_at)
    if facts.clicked_by_robot:
        yield "bot-click", {"clicked_at": clicked_at}
    if facts.known_since is not None and facts.known_since < facts.clicked_at:
        yield "seen-before", {"known_since": rfc_3339(facts.known_since), "clicked_at": clicked_at}
    if facts.joined_at is not None and 0 <= facts.joined_at - facts.clicked_at < TOO_FAST:
        yield "too-fast", {"seconds": (facts.joined_at - facts.clicked_at) // SECOND}


def _of_numbers(facts: Facts, per_hour: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if facts.joined_in_the_hour > per_hour:
        yield "burst", {"in_the_hour": facts.joined_in_the_hour}
    if not facts.has_tipped and facts.purchases >= FEWEST_PURCHASES and 2 * facts.refunded >= facts.purchases:
        yield "refunds", {"refunded": facts.refunded, "purchases": facts.purchases}
