"""A few people who use the service in any order, two of them at once now and then, against a small model of its rules.

The service runs on a clock that stands still until a step moves it. What two people do at once must come out as if one had
done it before the other. After every step the rows are what the model says, and the rules of the whole hold.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol, TypeVar

import hypothesis.strategies as st
import psycopg
import pytest
from aiohttp.test_utils import TestClient
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import referral.clock
from referral.app import create_app
from referral.clock import rfc_3339
from referral.config import Config
from referral.database import is_postgres, sqlite_path
from tests.conftest import MakeConfig
from tests.support.machines import play
from tests.support.people import API, PASSWORD, Answer
from tests.support.serving import client_of

T = TypeVar("T")

SECOND = 1_000
# Seconds for which codes are good: some end while the clock moves on, some never do.
LIVES = (5, 15, 86_400)
# Seconds that the clock moves on at a time, and in all: access tokens, which go by another clock, hold out that long.
TICK, MOST_TICKS = 10, 5
PEOPLE, CODES = 6, 8
# A longer search: `STATE_MACHINE_EXAMPLES=1000 make test ARGS=tests/rules/test_state_machine.py`.
EXAMPLES, STEPS = int(os.environ.get("STATE_MACHINE_EXAMPLES", "15")), 40


@dataclass(frozen=True)
class Dice:
    """What a step draws, always all of it: how a race came out must not change what hypothesis draws."""

    deed: int
    somebody: int
    slot: int
    code: int
    text: int
    name: int | None
    life: int
    max_uses: int | None
    yes: bool
    otherwise: bool

    def pick(self, number: int, choices: Sequence[T]) -> T:
        """One of the choices, whatever there are."""
        return choices[number % len(choices)]


ANY = st.integers(0, 9_999)
dices = st.builds(
    Dice,
    deed=ANY,
    somebody=ANY,
    slot=st.integers(0, PEOPLE - 1),
    code=ANY,
    text=st.integers(0, CODES - 1),
    name=st.none() | st.integers(0, 2),
    life=st.sampled_from(LIVES),
    max_uses=st.sampled_from([None, 1, 1, 2]),
    yes=st.booleans(),
    otherwise=st.booleans(),
)

# A status and what else the model knows of the answer: the name of a problem, a reason, or the document.
Outcome = tuple[int, Any]
Rows = tuple[dict[int, Any], dict[str, Any], dict[int, Any]]
UNAUTHORIZED: Outcome = (401, "unauthorized")
NOT_FOUND: Outcome = (404, "not-found")


# The model


@dataclass
class Code:
    owner: int
    expires_at: int
    max_uses: int | None
    uses: int = 0
    revoked: bool = False

    def status(self, now: int) -> str:
        if self.revoked:
            return "revoked"
        if self.expires_at <= now:
            return "expired"
        return "exhausted" if self.uses == self.max_uses else "active"


@dataclass
class User:
    """`number` is the registration's, `slot` says which e-mail address it was by."""

    number: int
    slot: int
    username: str | None
    alive: bool = True
    attributable: bool = True
    referrer: int | None = None
    by_code: str | None = None


@dataclass
class Model:
    """Users and codes by number and text; `sessions` are the live ones, each with its user's number."""

    now: int
    users: list[User] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    sessions: dict[int, int] = field(default_factory=dict)

    def holder(self, slot: int) -> int | None:
        """Whose the slot's e-mail address is."""
        return next((number for number, user in enumerate(self.users) if user.alive and user.slot == slot), None)

    def has(self, username: str) -> int | None:
        return next((number for number, user in enumerate(self.users) if user.alive and user.username == username), None)

    def unrevoked(self, user: int) -> str | None:
        return next((text for text, code in self.codes.items() if code.owner == user and not code.revoked), None)

    def current(self, user: int) -> str | None:
        text = self.unrevoked(user)
        return text if text and self.codes[text].expires_at > self.now else None

    def active(self, text: str | None) -> Outcome:
        """What a look-up of the code answers."""
        if text is None or text not in self.codes or self.codes[text].status(self.now) != "active":
            return NOT_FOUND
        code = self.codes[text]
        return 200, (text, rfc_3339(code.expires_at), self.users[code.owner].username)

    def above(self, user: int) -> Iterator[int]:
        """The user's referrer, that one's, and so on."""
        referrer = self.users[user].referrer
        while referrer is not None:
            yield referrer
            referrer = self.users[referrer].referrer

    def unusable(self, text: str) -> str | None:
        """Why nobody can come by the code; None if somebody can."""
        if text not in self.codes:
            return "unknown"
        status = self.codes[text].status(self.now)
        return None if status == "active" else status

    def use(self, user: int, text: str) -> Outcome | None:
        """Let the user come by the code; the refusal if that cannot be."""
        unusable, code = self.unusable(text), self.codes.get(text)
        if code is None or (unusable and code.owner != user):
            return 422, unusable
        if not unusable and not self.users[user].attributable:
            return 409, "known-address"
        if code.owner == user:
            return 422, "own-code"
        if user in self.above(code.owner):
            return 409, "referral-cycle"
        if self.users[user].referrer is not None:
            return 409, "referrer-already-set"
        code.uses += 1
        self.users[user].referrer, self.users[user].by_code = code.owner, text
        return None


# What people do: each does it to the service, and says of the model what may come of it.


class World:
    """The running service, and what its clients remember: everybody's latest session, and each session's tokens."""

    def __init__(self, client: TestClient[Any, Any], prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.numbers = itertools.count(1)
        self.latest: dict[int, int] = {}
        self.tokens: dict[int, dict[str, str]] = {}
        # Of the users, each with the number of the registration.
        self.ids: dict[str, int] = {}

    def email(self, slot: int) -> str:
        return f"{self.prefix}{slot}@example.com"

    def text(self, number: int) -> str:
        return f"{self.prefix}-{number}".upper()

    def username(self, number: int | None) -> str | None:
        return None if number is None else f"{self.prefix}.{number}"

    async def call(self, method: str, path: str, session: int = 0, body: Any = None) -> Answer:
        tokens = self.tokens.get(session)
        headers = {"Authorization": f"Bearer {tokens['access_token']}"} if tokens else {}
        async with self.client.request(method, f"{API}{path}", json=body, headers=headers) as response:
            return await Answer.of(response)

    async def outcome(self, method: str, path: str, session: int = 0, body: Any = None) -> Outcome:
        return said(await self.call(method, path, session, body))


def said(answer: Answer) -> Outcome:
    """The outcome of a refusal, and of a success of which only the status counts."""
    if answer.status < 400:
        return answer.status, None
    return answer.status, answer.body.get("reason") or answer.problem


class Deed(Protocol):
    # What may also come of it when whoever does it is erased at the same time, having been let in before.
    too_late: ClassVar[tuple[Outcome, ...]]

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        """Do it to the model and return the outcomes that may be."""
        ...

    async def do(self, world: World) -> Outcome:
        """Do it to the service."""
        ...


@dataclass
class Register:
    too_late: ClassVar[tuple[Outcome, ...]] = ()
    slot: int
    session: int
    email: str
    username: str | None
    code: str | None

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        if self.code and (unusable := model.unusable(self.code)):
            return ((422, unusable),)
        refusals: list[Outcome] = []
        if model.holder(self.slot) is not None:
            refusals.append((409, "email-taken"))
        if self.username is not None and model.has(self.username) is not None:
            refusals.append((409, "username-taken"))
        if not refusals:
            # Whoever comes again by an address that had an account comes by nobody.
            comes_again = any(user.slot == self.slot for user in model.users)
            model.users.append(User(self.session, self.slot, self.username, attributable=not comes_again))
            if self.code and not comes_again:
                assert model.use(len(model.users) - 1, self.code) is None
            model.sessions[self.session] = len(model.users) - 1
            return ((201, None),)
        return tuple(refusals)

    async def do(self, world: World) -> Outcome:
        body = {"email": self.email, "password": PASSWORD, "username": self.username, "referral_code": self.code}
        answer = await world.call("POST", "/auth/register", body=body)
        if answer.status == 201:
            world.tokens[self.session] = answer.body
            world.ids[answer.body["user"]["id"]] = self.session
        return said(answer)


@dataclass
class SignIn:
    too_late: ClassVar[tuple[Outcome, ...]] = ()
    slot: int
    session: int
    email: str
    password: str

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        holder = model.holder(self.slot)
        if holder is None or self.password != PASSWORD:
            return ((400, "invalid_grant"),)
        model.sessions[self.session] = holder
        return ((200, None),)

    async def do(self, world: World) -> Outcome:
        body = {"grant_type": "password", "username": self.email, "password": self.password}
        return await token_outcome(world, self.session, body)


async def token_outcome(world: World, session: int, body: dict[str, Any]) -> Outcome:
    answer = await world.call("POST", "/auth/token", body=body)
    if answer.status == 200:
        world.tokens[session] = answer.body
        return 200, None
    return answer.status, answer.body["error"]


@dataclass
class Refresh:
    too_late: ClassVar[tuple[Outcome, ...]] = ()
    session: int

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        return ((200, None),) if self.session in model.sessions else ((400, "invalid_grant"),)

    async def do(self, world: World) -> Outcome:
        token = world.tokens[self.session]["refresh_token"]
        return await token_outcome(world, self.session, {"grant_type": "refresh_token", "refresh_token": token})


@dataclass
class SignOut:
    too_late: ClassVar[tuple[Outcome, ...]] = ()
    session: int

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        model.sessions.pop(self.session, None)
        return ((200, None),)

    async def do(self, world: World) -> Outcome:
        return await world.outcome("POST", "/auth/revoke", body={"token": world.tokens[self.session]["refresh_token"]})


@dataclass
class SignedIn(ABC):
    """Something for which one has to be signed in; the rest is up to `act`."""

    too_late: ClassVar[tuple[Outcome, ...]] = ()
    session: int

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        user = model.sessions.get(self.session)
        return (UNAUTHORIZED,) if user is None else self.act(model, user)

    @abstractmethod
    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        """As `expect`, of a user who is signed in."""


@dataclass
class Make(SignedIn):
    text: str
    expires_at: int
    max_uses: int | None
    replace: bool

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        before = model.unrevoked(user)
        in_the_way = before is not None and not self.replace and model.codes[before].status(model.now) == "active"
        refusals: list[Outcome] = []
        if self.text in model.codes:
            refusals.append((409, "code-taken"))
        if in_the_way:
            refusals.append((409, "active-code-exists"))
        if refusals:
            return tuple(refusals)
        if before is not None:
            model.codes[before].revoked = True
        model.codes[self.text] = Code(user, self.expires_at, self.max_uses)
        return ((201, None),)

    async def do(self, world: World) -> Outcome:
        body = {
            "code": self.text,
            "expires_at": rfc_3339(self.expires_at),
            "replace": self.replace,
            **({"max_uses": self.max_uses} if self.max_uses else {}),
        }
        return await world.outcome("POST", "/codes", self.session, body)


@dataclass
class Edit(SignedIn):
    """Of the current code, or of the one of the text."""

    too_late: ClassVar[tuple[Outcome, ...]] = (NOT_FOUND, (409, "code-ended"))
    text: str | None
    expires_at: int | None
    set_max_uses: bool
    max_uses: int | None

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        text = self.text or model.current(user)
        if text is None or text not in model.codes:
            return (NOT_FOUND,)
        code = model.codes[text]
        if code.owner != user:
            return ((403, "forbidden"),)
        if code.revoked:
            return ((409, "code-ended"),)
        if self.set_max_uses and self.max_uses is not None and self.max_uses < code.uses:
            return ((422, "validation-error"),)
        if self.set_max_uses:
            code.max_uses = self.max_uses
        code.expires_at = self.expires_at or code.expires_at
        return ((200, None),)

    async def do(self, world: World) -> Outcome:
        body = {
            **({"expires_at": rfc_3339(self.expires_at)} if self.expires_at else {}),
            **({"max_uses": self.max_uses} if self.set_max_uses else {}),
        }
        return await world.outcome("PATCH", f"/codes/{self.text or 'current'}", self.session, body)


@dataclass
class End(SignedIn):
    """The current code, or the one of the text."""

    too_late: ClassVar[tuple[Outcome, ...]] = (NOT_FOUND, (204, None))
    text: str | None

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        text = self.text or model.current(user)
        if text is None or text not in model.codes:
            return (NOT_FOUND,)
        if model.codes[text].owner != user:
            return ((403, "forbidden"),)
        model.codes[text].revoked = True
        return ((204, None),)

    async def do(self, world: World) -> Outcome:
        return await world.outcome("DELETE", f"/codes/{self.text or 'current'}", self.session)


@dataclass
class Use(SignedIn):
    too_late: ClassVar[tuple[Outcome, ...]] = ((409, "referral-cycle"),)
    text: str

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        return (model.use(user, self.text) or (201, None),)

    async def do(self, world: World) -> Outcome:
        return await world.outcome("POST", "/users/me/referrer", self.session, {"code": self.text.lower()})


@dataclass
class Rename(SignedIn):
    username: str | None

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        if self.username is not None and model.has(self.username) not in (None, user):
            return ((409, "username-taken"),)
        model.users[user].username = self.username
        return ((200, None),)

    async def do(self, world: World) -> Outcome:
        return await world.outcome("PATCH", "/users/me", self.session, {"username": self.username})


@dataclass
class Erase(SignedIn):
    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        text = model.unrevoked(user)
        if text is not None:
            model.codes[text].revoked = True
        model.users[user].alive, model.users[user].username = False, None
        model.sessions = {session: owner for session, owner in model.sessions.items() if owner != user}
        return ((204, None),)

    async def do(self, world: World) -> Outcome:
        return await world.outcome("DELETE", "/users/me", self.session, {"password": PASSWORD})


@dataclass
class LookUp:
    too_late: ClassVar[tuple[Outcome, ...]] = ()
    text: str

    def expect(self, model: Model) -> tuple[Outcome, ...]:
        return (model.active(self.text),)

    async def do(self, world: World) -> Outcome:
        return found(await world.call("GET", f"/codes/{self.text.lower()}"))


def found(answer: Answer) -> Outcome:
    if answer.status != 200:
        return said(answer)
    return 200, (answer.body["code"], answer.body["expires_at"], answer.body["referrer"]["username"])


@dataclass
class LookUpByEmail(SignedIn):
    too_late: ClassVar[tuple[Outcome, ...]] = (NOT_FOUND,)
    slot: int
    email: str

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        holder = model.holder(self.slot)
        return (model.active(model.unrevoked(holder) if holder is not None else None),)

    async def do(self, world: World) -> Outcome:
        return found(await world.call("GET", f"/codes/by-email?email={self.email}", self.session))


@dataclass
class Look(SignedIn):
    """At one's own account."""

    def act(self, model: Model, user: int) -> tuple[Outcome, ...]:
        me, text = model.users[user], model.current(user)
        came = sum(other.referrer == user for other in model.users)
        referrer = None if me.referrer is None else (model.users[me.referrer].username,)
        code = None if text is None else (text, model.codes[text].status(model.now), model.codes[text].uses)
        return ((200, (me.username, came, referrer, code)),)

    async def do(self, world: World) -> Outcome:
        answer = await world.call("GET", "/users/me", self.session)
        if answer.status != 200:
            return said(answer)
        me = answer.body
        referrer = me["referrer"] and (me["referrer"]["username"],)
        code = me["code"] and (me["code"]["code"], me["code"]["status"], me["code"]["uses"])
        return 200, (me["username"], me["referral_count"], referrer, code)


# The machine


class Machine(RuleBasedStateMachine):
    """Steps of one example: its people and codes are its own, in a service and a database that all examples share."""

    harness: Harness

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(self.harness.restart_clock())
        self.world = World(self.harness.client, f"p{next(self.harness.examples)}x")
        self.ticks = 0

    def session(self, slot: int) -> int:
        """The latest session of the slot, live or not; 0 when nobody ever had one."""
        return self.world.latest.get(slot, 0)

    def expiry(self, life: int) -> int:
        return (self.model.now // SECOND + life) * SECOND

    def deed(self, dice: Dice) -> Deed:
        """Anything that anybody may do."""
        world, slot, name = self.world, dice.slot, self.world.username(dice.name)
        email, expires_at = world.email(slot), self.expiry(dice.life)
        # Somebody who is signed in, mostly, and a code that there is.
        session = dice.pick(dice.somebody, [self.session(slot), *self.model.sessions])
        text = dice.pick(dice.code, [world.text(dice.text), *self.model.codes])
        new_text, new_session = world.text(dice.text), next(world.numbers)
        password = "a wrong one" if dice.yes and dice.otherwise else PASSWORD
        deeds: list[Deed] = [
            Register(slot, new_session, email, name, text if dice.yes else None),
            SignIn(slot, new_session, email, password),
            LookUp(text),
        ]
        if session:
            deeds += [
                Make(session, new_text, expires_at, dice.max_uses, dice.yes),
                Make(session, new_text, expires_at, dice.max_uses, True),
                Edit(session, None, expires_at, dice.yes, dice.max_uses),
                Edit(session, text, expires_at if dice.otherwise else None, dice.yes, dice.max_uses),
                End(session, text if dice.yes else None),
                *[Use(session, text)] * 3,
                Rename(session, name),
                LookUpByEmail(session, slot, email),
                Look(session),
                Refresh(session),
                SignOut(session) if dice.yes else Erase(session),
            ]
        return dice.pick(dice.deed, deeds)

    def do(self, *deeds: Deed) -> None:
        """All of them at once; their outcomes must be those of one order of them."""

        async def at_once() -> list[Outcome]:
            return list(await asyncio.gather(*(deed.do(self.world) for deed in deeds)))

        outcomes = self.harness.run(at_once())
        possible, expectations = [], []
        for order in itertools.permutations(range(len(deeds))):
            model = copy.deepcopy(self.model)
            expected = {index: deeds[index].expect(model) for index in order}
            for index in order[1:]:
                if expected[index] == (UNAUTHORIZED,):
                    expected[index] = (UNAUTHORIZED, *deeds[index].too_late)
            expectations.append(expected)
            if all(outcomes[index] in expected[index] for index in order):
                possible.append(model)
        assert possible, f"{deeds} came out as {outcomes}, and not as one of {expectations}"
        # Two orders may have the same outcomes: the rows tell which one it was.
        self.model = possible[0]
        if len(possible) > 1:
            found = self.rows_found()
            self.model = next((model for model in possible if self.rows_of(model) == found), possible[0])
        for deed, (status, _) in zip(deeds, outcomes, strict=True):
            if isinstance(deed, Register | SignIn) and status in (200, 201):
                self.world.latest[deed.slot] = deed.session

    @initialize()
    def somebody_has_a_code(self) -> None:
        for slot in range(4):
            number = next(self.world.numbers)
            self.do(Register(slot, number, self.world.email(slot), self.world.username(slot) if slot < 2 else None, None))
        self.do(Make(self.session(0), self.world.text(0), self.expiry(86_400), None, False))
        self.do(Make(self.session(1), self.world.text(1), self.expiry(LIVES[0]), 1, False))

    @rule(dice=dices)
    def one_does_something(self, dice: Dice) -> None:
        self.do(self.deed(dice))

    @rule(dice=dices, others=dices)
    def two_do_something_at_once(self, dice: Dice, others: Dice) -> None:
        self.do(self.deed(dice), self.deed(others))

    @rule(dice=dices, other=ANY)
    def two_use_a_code_at_once(self, dice: Dice, other: int) -> None:
        text, sessions = dice.pick(dice.code, list(self.model.codes)), [0, *self.model.sessions]
        self.do(*(Use(dice.pick(number, sessions), text) for number in (dice.somebody, other)))

    @rule(dice=dices, change=ANY)
    def an_owner_changes_what_somebody_else_looks_at_or_uses(self, dice: Dice, change: int) -> None:
        model, world = self.model, self.world
        owners = {code.owner: text for text, code in model.codes.items() if not code.revoked}
        owned = [(session, owners[user]) for session, user in model.sessions.items() if user in owners]
        if not owned:
            return
        session, text = dice.pick(dice.code, owned)
        expires_at, new_session = self.expiry(dice.life), next(world.numbers)
        changes: list[Deed] = [
            Rename(session, world.username(dice.name)),
            Edit(session, None, expires_at, True, dice.max_uses),
            End(session, text),
            Make(session, world.text(dice.text), expires_at, dice.max_uses, dice.yes),
            Erase(session),
        ]
        others: list[Deed] = [
            LookUp(text),
            Use(dice.pick(dice.somebody, list(model.sessions)), text),
            Register(dice.slot, new_session, world.email(dice.slot), None, text),
            Erase(session),
        ]
        self.do(dice.pick(change, changes), dice.pick(dice.deed, others))

    @precondition(lambda self: self.ticks < MOST_TICKS)
    @rule()
    def time_goes_by(self) -> None:
        self.ticks += 1
        self.model.now = self.harness.move_clock(TICK)

    def rows_found(self) -> Rows:
        """Of users, codes and referrals, with the numbers of users for their ids."""
        users, codes, referrals = self.harness.rows(self.world)
        number_of = self.world.ids
        return (
            {number_of[user]: (username, bool(alive), count) for user, username, alive, count in users},
            {text: (number_of[owner], *rest) for text, owner, *rest in codes},
            {number_of[user]: (number_of[referrer], code) for user, referrer, code in referrals},
        )

    def rows_of(self, model: Model) -> Rows:
        """What they should be."""
        referrers = [user.referrer for user in model.users]
        return (
            {user.number: (user.username, user.alive, referrers.count(index)) for index, user in enumerate(model.users)},
            {
                text: (model.users[code.owner].number, code.expires_at, code.max_uses, code.uses, code.revoked)
                for text, code in model.codes.items()
            },
            {
                user.number: (model.users[user.referrer].number, user.by_code)
                for user in model.users
                if user.referrer is not None
            },
        )

    @invariant()
    def the_rows_are_what_the_model_says(self) -> None:
        assert self.rows_found() == self.rows_of(self.model)

    @invariant()
    def the_rules_of_the_whole_hold(self) -> None:
        users, codes, referrals = self.harness.rows(self.world)
        referrer_of = {user: referrer for user, referrer, _ in referrals}
        for user, _, _, referral_count in users:
            assert referral_count == list(referrer_of.values()).count(user)
            assert sum(owner == user and not revoked for _, owner, _, _, _, revoked in codes) <= 1
            above = referrer_of.get(user)
            while above is not None:
                assert above != user, "a circle of referrers"
                above = referrer_of.get(above)
        for text, _, _, max_uses, uses, _ in codes:
            assert uses == [code for _, _, code in referrals].count(text)
            assert max_uses is None or uses <= max_uses

    @invariant()
    def look_ups_agree(self) -> None:
        # Out of the cache, where the step before has left them.
        for text in list(self.model.codes)[-3:]:
            self.do(LookUp(text))


class Harness:
    """The service in an event loop of its own, on a clock that the machine moves, and its database's rows."""

    def __init__(self, config: Config, database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.Runner()
        self._clock = 0
        self._database = database
        self.examples = itertools.count(1)
        monkeypatch.setattr(referral.clock, "time", SimpleNamespace(time_ns=lambda: self._clock * 1_000_000))
        self.restart_clock()
        self.client = self.run(self._open(config))

    async def _open(self, config: Config) -> TestClient[Any, Any]:
        client = client_of(create_app(config))
        await client.start_server()
        return client

    def run(self, work: Any) -> Any:
        return self._loop.run(work)

    def close(self) -> None:
        self.run(self.client.close())
        self._loop.close()

    def restart_clock(self) -> int:
        self._clock = time.time_ns() // 1_000_000
        return self._clock

    def move_clock(self, seconds: int) -> int:
        self._clock += seconds * SECOND
        return self._clock

    def rows(self, world: World) -> tuple[list[Any], list[Any], list[Any]]:
        """Of the example: (id, username, alive, count) of users, (text, owner, expiry, limit, uses, revoked) of codes, and
        (user, referrer, code) of referrals."""
        ids = ", ".join(f"'{identifier}'" for identifier in world.ids)
        return (
            self._fetch(f"SELECT id, username, erased_at IS NULL, referral_count FROM users WHERE id IN ({ids})"),
            self._fetch(
                "SELECT code, referrer_id, expires_at, max_uses, uses, revoked_at IS NOT NULL FROM codes "
                f"WHERE referrer_id IN ({ids})"
            ),
            self._fetch(f"SELECT user_id, referrer_id, code FROM referrals WHERE user_id IN ({ids})"),
        )

    def _fetch(self, statement: str) -> list[Any]:
        cursor = self._database.execute(statement)
        return list(cursor.fetchall())


@pytest.fixture
def harness(make_config: MakeConfig, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    database: Any
    if is_postgres(database_url):
        database = psycopg.connect(database_url, autocommit=True)
    else:
        database = sqlite3.connect(sqlite_path(database_url), isolation_level=None)
    with closing(database):
        harness = Harness(make_config(), database, monkeypatch)
        yield harness
        harness.close()


def test_the_service_keeps_to_its_rules_whatever_people_do(harness: Harness) -> None:
    service = harness

    class Here(Machine):
        harness = service

    play(Here, EXAMPLES, STEPS)
