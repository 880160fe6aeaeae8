"""Signals of fraud: what is known of a referral is gathered, `suspicion` says what follows, and `reviewing` notes it.

Facts are read where the referral is made, or an event of it recorded, by one statement, behind whatever locks the referrer
there. So of two transactions at once that make referrals of one referrer, or convert them, the later one sees what the
earlier one has kept; so it is with an event of the referrer's own, whose row is locked. Two further events at once of users
who came before may miss each other: the next one finds it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from referral.clock import DAY, SECOND
from referral.config import CONFIG
from referral.config.weights import weights_of
from referral.mailboxes import canonical, domain_of, upwards
from referral.networks import network_in
from referral.queries import event_contexts, locks, suspicion
from referral.queries.clicks import Click
from referral.queries.product_users import ProductUser
from referral.queries.suspicion import Fact
from referral.rules.event_contexts import NO_TRACES, Traces
from referral.rules.reviewing import note_signals
from referral.rules.suspicion import MOST_NAMED, SAME_NETWORK, Facts, Signal, likenesses, signals_of
from referral.rules.work import Work
from referral.texts import optional_email_key

HOUR = 3_600 * SECOND
# Referrals of an hour that are counted beyond those that are no burst.
MOST_JOINED = 1_000
# How far (ms) the product's clock may be from this one.
CLOCKS_APART = 300 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """That somebody has just come by a referrer: at a time (ms) as it was reported, by this click, if by any. `is_new` says
    that this transaction makes the user, whom the product has `known_since` then."""

    at: int
    click: Click | None
    is_new: bool
    known_since: int | None = None


def joined_by(user: ProductUser, at: int, click: Click | None, *, is_new: bool) -> Joined:
    """That a user has come at a time (ms) who may have been known before the click."""
    known_since: int | None = user.created_at
    if click is not None and user.created_at >= click.clicked_at and user.signed_up_at is not None:
        # The product says when, by its own clock.
        known_since = user.signed_up_at if user.signed_up_at + CLOCKS_APART < click.clicked_at else None
    return Joined(at=at, click=click, is_new=is_new, known_since=known_since)


async def suspect(
    work: Work, user: ProductUser, referrer_id: str | None, joined: Joined | None, traces: Traces, review: str
) -> str:
    """Note what an event, whose context left `traces`, says of its user, who is locked: of their referral, which it has just
    made if they `joined`, or else by the referrer if they came by one who is not erased; and of others who have the same.
    `review` is the word of the referral's review; returns what it is then."""
    if referrer_id is not None and joined is not None:
        return await suspect_referral(work, user, referrer_id, joined, traces)
    # Of most users there is nobody to compare them with.
    if traces.sought and (referrer_id is not None or user.referral_count):
        return await _suspect_event(work, user.id, referrer_id, traces)
    return review


async def suspect_referral(
    work: Work, user: ProductUser, referrer_id: str, joined: Joined, traces: Traces = NO_TRACES
) -> str:
    """Note what is suspicious of a referral that this transaction has made, and of others by the same referrer. The user and
    the referrer are locked. Returns the word of its review."""
    config, click = work.request.app[CONFIG], joined.click
    email = optional_email_key(user.email)
    found = await suspicion.list_facts(
        work.conn,
        user.id,
        referrer_id,
        given=traces.sought,
        with_stored=not joined.is_new,
        with_address=email is not None,
        blocks=_blocks_of(email, user.external_id),
        joined_since=work.moment - HOUR,
        most_joined=config.fraud.per_hour + MOST_JOINED,
        seen_since=work.moment - DAY if traces.network is not None else None,
    )
    facts = Facts(
        email=email,
        clicked_at=click.clicked_at if click is not None else None,
        clicked_by_robot=click is not None and click.robot == 1,
        known_since=joined.known_since,
        joined_at=joined.at,
    )
    if not joined.is_new:
        await event_contexts.bind_contexts(work.conn, user.id, referrer_id)
    return await _note(work, user.id, referrer_id, found, facts, traces)


async def _suspect_event(work: Work, user_id: str, referrer_id: str | None, traces: Traces) -> str:
    found = await suspicion.list_facts(
        work.conn,
        user_id,
        referrer_id,
        given=traces.sought,
        seen_since=work.moment - DAY if traces.network is not None and referrer_id is not None else None,
    )
    return await _note(work, user_id, referrer_id, found, Facts(), traces)


async def suspect_description(work: Work, user: ProductUser) -> None:
    """Note what the address and the id of a user say, who is locked, and has just been given another one of them."""
    if user.referrer_id is None:
        return
    email = optional_email_key(user.email)
    blocks = _blocks_of(email, user.external_id)
    found = await suspicion.list_facts(work.conn, user.id, user.referrer_id, with_address=email is not None, blocks=blocks)
    await _note(work, user.id, user.referrer_id, found, Facts(email=email), NO_TRACES)


async def suspect_refund(work: Work, user_id: str, referrer_id: str) -> None:
    """Note that too much is refunded of what the referrals of a referrer buy, when a purchase of the user's was wholly. The
    user is locked."""
    fraud, refunds = work.request.app[CONFIG].fraud, await suspicion.find_refunds(work.conn, referrer_id)
    facts = Facts(purchases=refunds.purchases, refunded=refunds.refunded, has_tipped=refunds.tipped > 0)
    if signals_of(facts, weights_of(fraud.weights), fraud.per_hour):
        found = await suspicion.list_facts(work.conn, user_id, referrer_id)
        await _note(work, user_id, referrer_id, found, facts, NO_TRACES)


def _blocks_of(email: str | None, external_id: str | None) -> list[dict[str, str]]:
    """The blocks that somebody would meet: of their address in any spelling, of its domain and those above it, and of their
    id."""
    blocks = [] if external_id is None else [{"kind": "external-id", "value": external_id}]
    if email is not None:
        blocks += [{"kind": "email", "value": spelling} for spelling in sorted({email, canonical(email)})]
        blocks += [{"kind": "email-domain", "value": domain} for domain in upwards(domain_of(email))]
    return blocks


async def _note(
    work: Work, user_id: str, referrer_id: str | None, found: Sequence[Fact], facts: Facts, traces: Traces
) -> str:
    """Note what follows for the user's referral, and for others who turn out to have the same. Returns the word of the
    user's review."""
    fraud = work.request.app[CONFIG].fraud
    weights = weights_of(fraud.weights)
    review = next((fact.kind for fact in found if fact.fact == "review"), None)
    noted = {fact.kind for fact in found if fact.fact == "noted"}
    if review is not None:
        signals = signals_of(_with(facts, found, referrer_id, traces), weights, fraud.per_hour)
        review = await note_signals(work, user_id, [signal for signal in signals if signal.kind not in noted], review)
    await _note_others(work, user_id, found, weights)
    return review or "none"


def _with(facts: Facts, found: Iterable[Fact], referrer_id: str | None, traces: Traces) -> Facts:
    """The facts, with those that were found."""
    alike: defaultdict[str, set[str]] = defaultdict(set)
    blocked: set[str] = set()
    for fact in found:
        match fact.fact:
            case "email":
                facts = replace(facts, referrer_email=optional_email_key(fact.subject))
            case "block" if fact.kind is not None:
                blocked.add(fact.kind)
            case "joined":
                facts = replace(facts, joined_in_the_hour=fact.number or 0)
            case "address" if referrer_id is not None and network_in(fact.subject or "") == traces.network:
                alike[SAME_NETWORK].add(referrer_id)
            case "referrer" | "sibling" if fact.kind is not None and fact.subject is not None:
                alike[fact.kind].add(fact.subject)
    return replace(facts, alike={kind: frozenset(users) for kind, users in alike.items()}, blocked=frozenset(blocked))


async def _note_others(work: Work, user_id: str, found: Iterable[Fact], weights: dict[str, int]) -> None:
    """Note of other referrals that they have the same as this user: the first of them by their ids, unless that is known.
    They are locked behind the user, and behind the referrer where that is locked: in the rare case that one of them waits
    for the referrer meanwhile, the database undoes one of both, which is made again."""
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for fact in found:
        if fact.fact in ("sibling", "referee") and fact.kind and fact.subject and not fact.number and weights[fact.kind]:
            kinds[fact.subject].add(fact.kind)
    others = sorted(kinds)[:MOST_NAMED]
    if not others:
        return
    await locks.lock_users(work.conn, others)
    for other in await suspicion.list_reviews_of(work.conn, others):
        alike = {kind: frozenset({user_id}) for kind in kinds[other.user_id]}
        signals = [Signal(kind, weights[kind], evidence) for kind, evidence in likenesses(alike)]
        await note_signals(work, other.user_id, signals, other.review)
