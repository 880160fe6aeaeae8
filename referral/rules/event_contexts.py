"""The context of an event, kept as HMACs: whether two users have the same address, agent, device or means of payment can be
seen for as long as the key is kept. None of them can be had again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web

from referral.auth.context_keys import CONTEXT_KEYS
from referral.clock import DAY, NEVER
from referral.limits import ADDRESS
from referral.networks import is_local, network_in
from referral.queries import event_contexts
from referral.queries.clicks import Click
from referral.queries.event_contexts import NewContext
from referral.rules.suspicion import SAME_DEVICE, SAME_NETWORK, SAME_PAYMENT
from referral.rules.work import Work

ADDRESS_KIND, CLICK_KIND = "ip", "click"
# What it means that somebody else has the same. Many people have the same agent.
TELLING = {"device": SAME_DEVICE, "payment": SAME_PAYMENT, ADDRESS_KIND: SAME_NETWORK}
# Networks change their owners: both have to be seen within so long (ms).
NETWORK_HELD = DAY


class Kept(NamedTuple):
    """An HMAC that is to be kept, of what was so at a time (ms)."""

    kind: str
    key_id: str
    hash: str
    at: int


@dataclass(frozen=True, slots=True)
class Traces:
    """What a context leaves: HMACs to keep, by the key in use, and those by which others are found who have the same, by all
    keys; and the network at hand, which nobody keeps."""

    kept: tuple[Kept, ...] = ()
    sought: tuple[dict[str, Any], ...] = ()
    network: str | None = None


NO_TRACES = Traces()


async def traces_of(work: Work, context: Mapping[str, str | None] | None, at: int, click: Click | None = None) -> Traces:
    """The traces of what happened at a time (ms) in a context, and of the click that led to it. Empty texts say nothing."""
    given = {kind: _spelled(kind, text) for kind, text in (context or {}).items() if text}
    # The network of a loopback or private address is the operator's.
    given = {kind: text for kind, text in given.items() if kind != ADDRESS_KIND or not is_local(text)}
    is_clicked = click is not None and click.network is not None and abs(at - click.clicked_at) <= NETWORK_HELD
    if not given and not is_clicked:
        return NO_TRACES
    keys = await work.request.app[CONTEXT_KEYS].live(work.conn, work.moment)
    kept = [Kept(kind, keys[0].id, keys[0].digest(kind, text), at) for kind, text in given.items()]
    sought = [
        _sought(TELLING[kind], key.digest(kind, text), at) for kind, text in given.items() if kind in TELLING for key in keys
    ]
    if is_clicked and click is not None and click.network is not None and click.network_key in {key.id for key in keys}:
        kept.append(Kept(CLICK_KIND, click.network_key, click.network, click.clicked_at))
        sought.append(_sought(SAME_NETWORK, click.network, click.clicked_at))
    return Traces(tuple(kept), tuple(sought), given.get(ADDRESS_KIND))


def _spelled(kind: str, text: str) -> str:
    return network_in(text) if kind == ADDRESS_KIND else text


def _sought(signal: str, digest: str, at: int) -> dict[str, Any]:
    since, until = (at - NETWORK_HELD, at + NETWORK_HELD) if signal == SAME_NETWORK else (0, NEVER)
    return {"kind": signal, "hash": digest, "since": since, "until": until}


def own_context(request: web.Request) -> dict[str, str | None]:
    """The context of what somebody does here, and no product reports."""
    return {ADDRESS_KIND: request[ADDRESS], "user_agent": request.headers.get("User-Agent")}


async def keep_traces(work: Work, event_id: str, user_id: str, referrer_id: str | None, traces: Traces) -> None:
    """Keep what the context of an event leaves, which this transaction inserts; its user came by the referrer, if by
    anybody."""
    for kept in traces.kept:
        await event_contexts.insert_event_context(
            work.conn,
            NewContext(
                event_id=event_id,
                kind=kept.kind,
                user_id=user_id,
                referrer_id=referrer_id,
                key_id=kept.key_id,
                hash=kept.hash,
                at=kept.at,
            ),
        )
