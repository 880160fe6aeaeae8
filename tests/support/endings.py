"""The ways in which a code ends or changes, for the tests of every cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support.people import Answer, Person

# Each gets the code's owner, the code's text and somebody else who is signed in, and returns the answer.
Ending = Callable[[Person, str, Person], Awaitable[Answer]]

FAR = "2030-01-31T12:00:00Z"
RENAMED = "renamed"


async def delete_it(owner: Person, code: str, other: Person) -> Answer:
    return await owner.delete(f"/codes/{code}")


async def delete_current(owner: Person, code: str, other: Person) -> Answer:
    return await owner.delete("/codes/current")


async def replace(owner: Person, code: str, other: Person) -> Answer:
    return await owner.post("/codes", {"ttl_days": 1, "replace": True})


async def use_up_by_registration(owner: Person, code: str, other: Person) -> Answer:
    assert (await owner.patch("/codes/current", {"max_uses": 1})).status == 200
    # It is at hand again as what it is before its end.
    assert (await other.get(f"/codes/{code}")).status == 200
    body = {"email": "newcomer@example.com", "password": owner.password, "referral_code": code}
    return await owner.call("POST", "/auth/register", body, headers={"Authorization": ""})


async def use_up_afterwards(owner: Person, code: str, other: Person) -> Answer:
    assert (await owner.patch("/codes/current", {"max_uses": 1})).status == 200
    assert (await other.get(f"/codes/{code}")).status == 200
    return await other.post("/users/me/referrer", {"code": code})


async def use_up_by_edit(owner: Person, code: str, other: Person) -> Answer:
    assert (await other.post("/users/me/referrer", {"code": code})).status == 201
    return await owner.patch("/codes/current", {"max_uses": 1})


async def erase(owner: Person, code: str, other: Person) -> Answer:
    return await owner.delete("/users/me", {"password": owner.password})


async def edit_it(owner: Person, code: str, other: Person) -> Answer:
    return await owner.patch(f"/codes/{code}", {"expires_at": FAR})


async def edit_current(owner: Person, code: str, other: Person) -> Answer:
    return await owner.patch("/codes/current", {"expires_at": FAR})


async def rename(owner: Person, code: str, other: Person) -> Answer:
    return await owner.patch("/users/me", {"username": RENAMED})


ENDINGS: list[Ending] = [
    delete_it,
    delete_current,
    replace,
    use_up_by_registration,
    use_up_afterwards,
    use_up_by_edit,
    erase,
]
EDITS: list[Ending] = [edit_it, edit_current, rename]


async def look_up(person: Person, code: str, email: str) -> list[Answer]:
    """The answers by text and by e-mail."""
    return [await person.get(f"/codes/{code}"), await person.get("/codes/by-email", params={"email": email})]


async def ended(person: Person, code: str, email: str) -> bool:
    """Whether neither way leads to the code any more."""
    return all(answer.status == 404 or answer.body["code"] != code for answer in await look_up(person, code, email))


async def changed(person: Person, code: str, email: str) -> bool:
    """Whether both ways show what one of EDITS has made of the code."""
    return all(
        answer.status == 200 and (answer.body["expires_at"] == FAR or answer.body["referrer"]["username"] == RENAMED)
        for answer in await look_up(person, code, email)
    )
