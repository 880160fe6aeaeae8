"""An authenticator app, and the second factor that somebody switches on with it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyotp

from tests.support.people import SECRETS, Answer, Person


@dataclass
class App:
    """An authenticator app. A code is good once, so that each is of a time step of its own: now, and then the next one."""

    secret: str
    recovery_codes: list[str]
    _shown: int = 0

    def code(self) -> str:
        """A code that was not shown before; three of them within half a minute at most."""
        step = max(int(time.time()) // 30 - 1, self._shown + 1)
        self._shown = step
        return pyotp.TOTP(self.secret).at(step * 30)


async def switch_on(person: Person) -> App:
    """Switch a second factor of somebody's on, by the API."""
    begun = await person.post("/users/me/second-factor", {"password": person.password})
    assert begun.status == 201, begun.body
    app = App(begun.body["secret"], [])
    confirmed = await person.post("/users/me/second-factor/confirm", {"code": app.code()})
    assert confirmed.status == 200, confirmed.body
    app.recovery_codes = confirmed.body["recovery_codes"]
    SECRETS.update([app.secret, *app.recovery_codes])
    return app


async def grant(person: Person, otp: str | None = None) -> Answer:
    """Ask for tokens by the password and, if given, a code; the person's tokens stay as they are."""
    form = {"grant_type": "password", "username": person.email, "password": person.password}
    return await person.call(
        "POST", "/auth/token", data=form | ({"otp": otp} if otp is not None else {}), headers={"Authorization": ""}
    )
