"""The second factor of an account by the API: on and off, at a sign-in, many at once, and where admins need one."""

from __future__ import annotations

import asyncio

import pytest

from referral.auth.sealing import Seal
from referral.auth.signing_keys import open_keys
from referral.background.sealing import seal_all_anew
from referral.database import Database
from referral.queries import second_factors
from tests.conftest import Client, Command, MakeClient, MakeConfig
from tests.support.people import PASSWORD, Person, Product, refused
from tests.support.rows import count, make_admin, sql
from tests.support.second_factors import App, grant, switch_on

PATH = "/users/me/second-factor"
NEEDED = "The account has a second factor: send otp, too, a code of the authenticator app or a recovery code."


async def test_a_second_factor_is_switched_on_used_and_switched_off(client: Client, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    assert (await alice.get(PATH)).body == {"status": "off", "confirmed_at": None, "recovery_codes": 0}
    begun = await alice.post(PATH, {"password": PASSWORD})
    assert begun.status == 201
    assert begun.headers["Cache-Control"] == "no-store"
    assert begun.body["uri"].startswith("otpauth://totp/")
    assert begun.body["secret"] in begun.body["uri"]
    assert (await alice.get(PATH)).body["status"] == "begun"
    # It counts once it is confirmed.
    assert (await grant(alice)).status == 200
    ((kept,),) = await sql(database_url, "SELECT secret FROM second_factors")
    assert begun.body["secret"] not in kept
    app = await switch_on(alice)
    assert len(set(app.recovery_codes)) == 10
    found = (await alice.get(PATH)).body
    assert (found["status"], found["recovery_codes"]) == ("on", 10)
    assert refused(await grant(alice)) == "invalid_grant"
    assert (await grant(alice)).body["error_description"] == NEEDED
    assert (await grant(alice, app.code())).status == 200
    assert (await alice.get("/users/me")).status == 200
    assert (await alice.delete(PATH, {"password": PASSWORD, "code": app.recovery_codes[0]})).status == 204
    assert (await grant(alice)).status == 200
    assert await count(database_url, "recovery_codes") == 0
    events = [
        row[0] for row in await sql(database_url, "SELECT event FROM audit_events WHERE event <> 'signed-in' ORDER BY id")
    ]
    assert events[-3:] == ["second-factor-on", "recovery-code-used", "second-factor-off"]


async def test_a_code_is_good_once_and_so_is_a_recovery_code(client: Client) -> None:
    alice = await Person.register(client, "alice")
    app = await switch_on(alice)
    for code in (app.code(), app.recovery_codes[3]):
        answers = await asyncio.gather(*(grant(alice, code) for _ in range(16)))
        assert sorted(answer.status for answer in answers) == [200] + 15 * [400]
    wrong = next(answer for answer in answers if answer.status == 400)
    assert wrong.body["error_description"] == "The otp is wrong, or was used already."
    assert (await alice.get(PATH)).body["recovery_codes"] == 9


@pytest.mark.parametrize("otp", ["000000", "x", "é" * 60, "0" * 4096, "\x00", "<b>", "0101-0101-0101-0101"])
async def test_what_is_no_code_is_refused(client: Client, otp: str) -> None:
    alice = await Person.register(client, "alice")
    await switch_on(alice)
    assert refused(await grant(alice, otp)) == "invalid_grant"


async def test_an_otp_means_nothing_to_an_account_without_a_factor(client: Client) -> None:
    alice = await Person.register(client, "alice")
    assert (await grant(alice, "123456")).status == 200


async def test_what_takes_the_password_takes_the_right_one(client: Client) -> None:
    alice = await Person.register(client, "alice")
    assert (await alice.post(PATH, {"password": "wrong"})).problem == "wrong-password"
    assert (await alice.post(f"{PATH}/confirm", {"code": "123456"})).problem == "second-factor-state"
    assert (await alice.delete(PATH, {"password": PASSWORD, "code": "123456"})).problem == "second-factor-state"
    app = await switch_on(alice)
    assert (await alice.post(PATH, {"password": PASSWORD})).problem == "second-factor-state"
    assert (await alice.post(f"{PATH}/confirm", {"code": app.code()})).problem == "second-factor-state"
    assert (await alice.delete(PATH, {"password": "wrong", "code": app.code()})).problem == "wrong-password"
    assert (await alice.delete(PATH, {"password": PASSWORD, "code": "000000"})).problem == "wrong-code"
    assert (await alice.get(PATH)).body["status"] == "on"


async def test_another_beginning_replaces_the_one_before(client: Client) -> None:
    alice = await Person.register(client, "alice")
    first = App((await alice.post(PATH, {"password": PASSWORD})).body["secret"], [])
    second = App((await alice.post(PATH, {"password": PASSWORD})).body["secret"], [])
    assert (await alice.post(f"{PATH}/confirm", {"code": first.code()})).problem == "wrong-code"
    code = second.code()
    answers = await asyncio.gather(*(alice.post(f"{PATH}/confirm", {"code": code}) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + 7 * [409]
    # The code that confirmed it signs nobody in.
    assert refused(await grant(alice, code)) == "invalid_grant"
    assert (await alice.delete(PATH, {"password": PASSWORD, "code": "x"})).problem == "wrong-code"


async def test_one_that_was_only_begun_goes_with_any_code(client: Client, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    await alice.post(PATH, {"password": PASSWORD})
    assert (await alice.delete(PATH, {"password": PASSWORD, "code": "x"})).status == 204
    assert await count(database_url, "second_factors") == 0


async def test_what_was_begun_can_be_confirmed_for_ten_minutes(client: Client, database_url: str) -> None:
    """Whoever finds the session open later must not make it theirs."""
    alice = await Person.register(client, "alice")
    app = App((await alice.post(PATH, {"password": PASSWORD})).body["secret"], [])
    await sql(database_url, "UPDATE second_factors SET created_at = created_at - 590000")
    assert (await alice.get(PATH)).body["status"] == "begun"
    await sql(database_url, "UPDATE second_factors SET created_at = created_at - 11000")
    assert (await alice.get(PATH)).body["status"] == "off"
    answer = await alice.post(f"{PATH}/confirm", {"code": app.code()})
    assert (answer.status, answer.problem) == (409, "second-factor-state")
    assert (await grant(alice)).status == 200
    await switch_on(alice)


async def test_one_that_is_confirmed_meanwhile_does_not_go_with_any_code(client: Client) -> None:
    alice = await Person.register(client, "alice")
    app = App((await alice.post(PATH, {"password": PASSWORD})).body["secret"], [])

    async def confirm() -> int:
        # While the passwords of the others are being checked, and at most one of them is through.
        await asyncio.sleep(0.01)
        return (await alice.post(f"{PATH}/confirm", {"code": app.code()})).status

    async def switch_off() -> int:
        return (await alice.delete(PATH, {"password": PASSWORD, "code": "000000"})).status

    confirmed, *ended = await asyncio.gather(confirm(), *(switch_off() for _ in range(31)))
    status = (await alice.get(PATH)).body["status"]
    assert (confirmed, 204 in ended, status) in ((200, False, "on"), (409, True, "off"))


async def test_a_reset_of_the_password_does_not_switch_it_off(client: Client, mailed: object) -> None:
    alice = await Person.register(client, "alice")
    app = await switch_on(alice)
    await alice.post("/auth/password/reset", {"email": alice.email})
    token = await mailed(alice.email, "reset")  # type: ignore[operator]
    alice.password = "another long password"
    body = {"token": token, "new_password": alice.password}
    assert (await alice.post("/auth/password/reset/confirm", body)).status == 204
    assert refused(await grant(alice)) == "invalid_grant"
    assert (await grant(alice, app.code())).status == 200


async def test_wrong_codes_are_counted(make_client: MakeClient) -> None:
    client = await make_client(limits_enabled="true", limits_login_by_account="3/hour")
    alice = await Person.register(client, "alice")
    app = await switch_on(alice)
    for _ in range(3):
        assert refused(await grant(alice, "000000")) == "invalid_grant"
    limited = await grant(alice, app.code())
    assert limited.status == 429
    # Whoever does not know the password counts for nobody here.
    bob = await Person.register(client, "bob")
    other = await switch_on(bob)
    stranger = Person(client, bob.email, password="wrong password")
    assert refused(await grant(stranger, "000000")) == "invalid_grant"
    assert (await grant(bob, other.code())).status == 200


async def test_erasure_takes_it_and_an_export_tells_of_it(client: Client, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    app = await switch_on(alice)
    product = await Product.with_key(client, "admin")
    export = await product.get(f"/users/{alice.id}/export")
    assert export.body["second_factor"]["status"] == "on"
    assert app.secret not in str(export.body)
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    assert await count(database_url, "second_factors") == await count(database_url, "recovery_codes") == 0


async def test_a_lost_one_is_reset_by_the_operator(client: Client, database_url: str, command: Command) -> None:
    alice = await Person.register(client, "alice")
    assert "has no second factor." in await command("admins", "reset-totp", alice.email)
    await switch_on(alice)
    assert "no second factor any more" in await command("admins", "reset-totp", alice.email)
    assert (await alice.get("/users/me")).status == 401
    assert (await grant(alice)).status == 200
    assert await count(database_url, "audit_events", "event = 'second-factor-reset'") == 1


async def test_a_rotation_of_keys_seals_it_anew(
    client: Client, database: Database, make_config: MakeConfig, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    app = await switch_on(alice)
    config = make_config()
    former = config.auth.secret
    rotated = make_config(auth_secret="another secret of the tests, of 32 characters", auth_previous_secret=former)
    await seal_all_anew(database, Seal(open_keys(rotated.auth)))
    current = make_config(auth_secret="another secret of the tests, of 32 characters")
    async with database.reader() as conn:
        found = await second_factors.find_second_factor(conn, alice.id)
    assert found is not None
    assert Seal(open_keys(current.auth)).open(found.secret) == app.secret
    # What nobody can open is told, and is no fault of the service.
    await sql(database_url, "UPDATE second_factors SET secret = 'x'")
    unreadable = await grant(alice, app.code())
    assert unreadable.status == 409
    assert "Its operator can reset the second factor." in unreadable.body["error_description"]


async def test_where_admins_need_one_an_admin_without_calls_for_themself_alone(
    make_client: MakeClient, database_url: str
) -> None:
    client = await make_client(admin_require_totp="true")
    boss, alice = await Person.register(client, "boss"), await Person.register(client, "alice")
    await make_admin(database_url, boss.id)
    for path in ("/rewards", "/users", f"/users/{alice.id}", "/keys"):
        assert (await boss.get(path)).problem == "second-factor-required", path
        assert (await alice.get(path)).status == (200 if alice.id in path else 403)
    for path in ("/users/me", "/users/me/rewards", f"/users/{boss.id}", PATH):
        assert (await boss.get(path)).status == 200, path
    spending = {"id": "order-1", "unit": "USD", "amount": 1}
    for path in ("/users/me/redemptions", f"/users/{boss.id}/redemptions"):
        assert (await boss.post(path, spending)).problem == "second-factor-required", path
    product = await Product.with_key(client, "admin")
    assert (await product.get("/users")).status == 200
    await switch_on(boss)
    assert (await boss.post("/users/me/redemptions", spending)).problem == "insufficient-balance"
    for path in ("/rewards", "/users", f"/users/{alice.id}", "/keys"):
        assert (await boss.get(path)).status == 200, path
