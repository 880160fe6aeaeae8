"""The unit of work: one transaction of a request, and everything that belongs to its end.

A handler says what it changes, in any order, while it changes it. The end of the block does the rest in the one right
order: it tells the caches before the commit, invalidates them after it, and wakes workers last. It does so also when the
request is cancelled during the commit.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import orjson
from aiohttp import web

from referral.auth.identity import ACCESS_TOKEN, CLAIMS, IDENTITY, KEY, caller_of
from referral.background.mailer import MAILER
from referral.background.relay import RELAY
from referral.cache.codes import CODE_CACHE
from referral.cache.invalidation import Invalidation, invalidating
from referral.cache.sessions import SESSION_CACHE
from referral.changes import Change, announce, found_code_change, referral_change, user_change
from referral.clock import now
from referral.contract.problems import Problem
from referral.database import DATABASE, Connection
from referral.ids import OWN_REQUEST_ID, new_id
from referral.limits import ADDRESS, network_of
from referral.links import LINKS
from referral.mail.compose import language_of
from referral.queries import audit, codes, identities, locks, outbox, service_keys, sessions
from referral.queries.changes import ChangeType
from referral.queries.identities import LiveIdentity
from referral.rules.strangers import MOST_EVENTS, MOST_EVENTS_IN_ALL, STRANGERS_EVENTS

# What one can do to an account without end, and what nobody asks for one by one.
REPEATED: frozenset[audit.EventName] = frozenset(
    (
        "signed-in",
        "signed-out",
        "session-ended",
        "username-changed",
        "external-id-changed",
        "user-token-made",
        "user-exported",
        "password-changed",
        "email-change-requested",
        "code-edited",
    )
)


def _put_out() -> Problem:
    return Problem("unauthorized", "The session has just ended. Sign in again.", headers={"WWW-Authenticate": "Bearer"})


class Wakeable(Protocol):
    def wake(self) -> None:
        """See to it that what was queued is found at once."""
        ...


class Work:
    """What a request does in one transaction, as of one moment (ms)."""

    def __init__(
        self, request: web.Request, conn: Connection, moment: int, codes: Invalidation, sessions: Invalidation
    ) -> None:
        self.request = request
        self.conn = conn
        self.moment = moment
        self._codes = codes
        self._sessions = sessions
        self._to_wake: dict[Wakeable, float] = {}
        self._told: list[Change | Callable[[], Awaitable[Change]]] = []
        self._held_key: str | None = None

    async def hold_caller(self) -> None:
        """From here to the end of the transaction nobody puts out whoever makes the request; it also locks a user.

        Comes first in the transaction of each change that somebody makes. The request may have taken its time since its
        token was looked at: its body came slowly, or it waited for others. Raises `unauthorized` for whoever was put out
        meanwhile; of a service key the end of the transaction does so.
        """
        key = self.request.get(KEY)
        if key is not None:
            self._held_key = key.id
            return
        me = self.request[IDENTITY]
        if not await (self._hold_user(me) if isinstance(me, LiveIdentity) else self._hold_session(me)):
            raise _put_out()

    async def _hold_user(self, me: LiveIdentity) -> bool:
        claims = self.request[CLAIMS]
        await locks.lock_user(self.conn, me.user_id)
        if claims.is_external_id:
            user = await identities.find_live_external_user(self.conn, claims.subject)
        else:
            user = await identities.find_live_identity(self.conn, claims.issuer, claims.subject)
        return user is not None and user.user_id == me.user_id and user.takes(claims.issued_at)

    async def _hold_session(self, me: sessions.LiveSession) -> bool:
        # A cookie holds the session as long as there is one; a token is of one generation of it.
        token = self.request.get(ACCESS_TOKEN)
        session = await sessions.hold_live_session(self.conn, me.session_id, self.moment)
        # Whoever was an admin then may have been demoted.
        if session is None or session.role != me.role:
            return False
        return token is None or session.takes(token.generation, token.refresh)

    def ends_key(self, key_id: str) -> None:
        """This key ends in the transaction. Whoever ends their own does so by it."""
        if self._held_key == key_id:
            self._held_key = None

    async def check_key(self) -> None:
        """Raises `unauthorized` if a key was held and is no more."""
        if self._held_key is not None and not await service_keys.find_held_key(self.conn, self._held_key):
            raise _put_out()

    def invalidates_code(self, *codes: str) -> None:
        """These codes are changed: whether they are active, or what everybody sees of them."""
        self._codes.add(*codes)

    async def invalidate_code_of(self, user_id: str) -> None:
        """What everybody sees of this user's code is changed, or by which address it is found."""
        # At time 0, which finds an expired code, too: it may get a new expiry at this very moment.
        code = await codes.find_current_code(self.conn, user_id, 0)
        if code:
            self.invalidates_code(code.code)

    def ends_sessions(self, *session_ids: str) -> None:
        """These sessions end. Once the request is answered, their access tokens are refused."""
        self._sessions.add(*session_ids)

    def ends_tokens(self, session_id: str) -> None:
        """The session goes on, but tokens of it end. Once the request is answered, they are refused."""
        self._sessions.add(session_id)

    async def record(
        self,
        event: audit.EventName,
        *,
        actor: str | None = None,
        user: str | None = None,
        email: str | None = None,
        **detail: Any,
    ) -> None:
        """Record a security event in the transaction: it is kept if and only if what it records is.

        By default the actor is who is signed in, and the user is the actor. Give `email` only where no account is known.
        `detail` becomes JSON, without what is None; it must not hold a password or a token. Of what strangers cause, and of
        what somebody signed in can do again and again, so much an hour is recorded (`strangers.py`).
        """
        actor_id = actor or caller_of(self.request)
        key = self.request.get(KEY)
        if key is not None:
            # Keys are deleted when they are revoked; what they did keeps their names.
            detail = {"key": key.name, **detail}
        if actor_id is None and await self._left_out(user):
            return
        whose = user or actor_id
        if event in REPEATED and await self._left_out(whose, f"{whose} {event}"):
            return
        event_id, facts = new_id(), {name: value for name, value in detail.items() if value is not None}
        found = audit.Event(
            id=event_id,
            at=self.moment,
            event=event,
            actor_id=actor_id,
            user_id=user or actor_id,
            email=email,
            address=self.request[ADDRESS],
            request_id=self.request[OWN_REQUEST_ID],
            detail=orjson.dumps(facts).decode(),
        )
        await audit.insert_event(self.conn, found)

    async def _left_out(self, user_id: str | None, window: str | None = None) -> bool:
        """Whether an event is one too many: of a stranger, about this account or none, or in the `window` of what this user
        does. It is counted in the record then."""
        counts, network = self.request.app[STRANGERS_EVENTS], network_of(self.request[ADDRESS])
        # Of each bound: what is counted by, how many, and whose or of which network the rest is.
        bounds: list[tuple[str, int, str | None, str | None]]
        if window:
            bounds = [(window, MOST_EVENTS, user_id, None)]
        else:
            bounds = [(user_id, MOST_EVENTS, user_id, None)] if user_id else []
            bounds += [
                (network, MOST_EVENTS, None, network),
                # What is tried with unknown names must not crowd out what is tried with accounts.
                ("accounts" if user_id else "nobody", MOST_EVENTS_IN_ALL, None, None),
            ]
        for counted_by, most, about, place in bounds:
            left_out = counts.count(counted_by, most, self.moment)
            if left_out is not None:
                await audit.count_left_out(self.conn, left_out.id, left_out.since, about, place, left_out.count)
                return True
        return False

    def announce(self, *told: Change) -> None:
        """Have the product told of these changes, if and only if this is committed."""
        self._told += told

    def announce_user(self, kind: ChangeType, user_id: str) -> None:
        """Announce a user, as they are at the end."""
        self._told.append(lambda: user_change(self.conn, kind, user_id, self.moment, self.request.app[LINKS]))

    def announce_code(self, kind: ChangeType, text: str) -> None:
        """Announce the code of this text, as it is at the end."""
        self._told.append(lambda: found_code_change(self.conn, kind, text, self.moment))

    def announce_referral(self, kind: ChangeType, user_id: str, referrer_id: str) -> None:
        """Announce by whom the user came, as it is at the end."""
        self._told.append(lambda: referral_change(self.conn, kind, user_id, referrer_id))

    async def tell(self) -> None:
        """Write down what was announced. This is the last thing that the transaction does, unless it calls it itself before
        it takes what many wait for."""
        if self._told:
            waiting, self._told = self._told, []
            told = [change if isinstance(change, Change) else await change() for change in waiting]
            await announce(self.conn, told, self.moment)
            self.wakes(self.request.app[RELAY])

    async def queue_mail(
        self, kind: outbox.MailKind, user_id: str | None, recipient: str, *, wake_after: float = 0.0, **params: Any
    ) -> None:
        """Queue a mail in the language of the request, and wake the mail worker so many seconds after the end."""
        language = language_of(self.request.headers.get("Accept-Language", ""))
        await outbox.insert_mail(self.conn, new_id(), kind, user_id, recipient, language, self.moment, **params)
        self.wakes(self.request.app[MAILER], wake_after)

    def wakes(self, worker: Wakeable, after: float = 0.0) -> None:
        """The worker has something to do once this is committed. It is woken so many seconds later."""
        self._to_wake[worker] = after

    def wake_workers(self) -> None:
        """Wake the workers; the transaction is over. A worker that finds nothing to do goes back to sleep."""
        for worker, after in self._to_wake.items():
            if after:
                asyncio.get_running_loop().call_later(after, worker.wake)
            else:
                worker.wake()


@asynccontextmanager
async def work_on(request: web.Request) -> AsyncIterator[Work]:
    """The unit of work of a request. It is committed when the block ends, and rolled back on any exception.

    Raises DatabaseUnavailable. If a commit was under way then, nobody knows whether it took place.
    """
    app = request.app
    codes, sessions = Invalidation(app[CODE_CACHE]), Invalidation(app[SESSION_CACHE])
    ended: Work | None = None
    try:
        async with invalidating(app[DATABASE], codes, sessions) as conn:
            work = Work(request, conn, now(), codes, sessions)
            yield work
            await work.tell()
            await work.check_key()
            ended = work
    finally:
        # Once the block has ended well, the transaction may have been committed, whatever has failed since.
        if ended is not None:
            ended.wake_workers()
