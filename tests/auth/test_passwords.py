"""Which passwords may be chosen: none that everybody tries first, none that holds the account's own names, at every place
where one is chosen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import bcrypt
import pytest

import run
from referral.auth.common_passwords import is_common
from referral.auth.passwords import _prepared
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import PASSWORD, Answer, Person, read_mails, text_of, token_in
from tests.support.rows import count, sql
from tests.support.service import run_py

MakePerson = Callable[..., Awaitable[Person]]

COMMON = "Must not be one of the passwords that everybody tries first."
PERSONAL = "Must not hold the username or the e-mail address."


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the dialect."""
    return "sqlite"


def refused(answer: Answer, pointer: str) -> str:
    """What is wrong with the password, having checked that it is all that is wrong."""
    assert answer.status == 422, answer.body
    assert answer.pointers == [pointer]
    return str(answer.body["errors"][0]["detail"])


async def register(client: Client, password: str, email: str = "bob@example.com", username: str | None = None) -> Answer:
    return await Person(client, "").post("/auth/register", {"email": email, "password": password, "username": username})


async def reset_token(client: Client, email: str, folder: Path, eventually: Eventually) -> str:
    """The token of the link that is mailed to somebody who asks for a new password."""
    assert (await Person(client, "").post("/auth/password/reset", {"email": email})).status == 202

    def links() -> list[str]:
        return [token_in(mail) for mail in read_mails(folder, email) if "/account/reset?token=" in text_of(mail)]

    (token,) = await eventually(links)
    return str(token)


# The list


@pytest.mark.parametrize(
    "password", ["password", "PASSWORD", "Password1", "12345678", "qwertyuiop", "iloveyou", "trustno1", "ｐａｓｓｗｏｒｄ"]
)
def test_what_everybody_tries_first_is_common_in_any_case_and_width(password: str) -> None:
    assert is_common(password)


@pytest.mark.parametrize("password", [PASSWORD, "correct-horse-battery-staple", "пароль, которого нет", "", "x" * 5_000])
def test_other_passwords_are_not(password: str) -> None:
    assert not is_common(password)


def test_the_list_is_read_at_the_first_use_and_without_the_rest_of_its_library() -> None:
    script = (
        "import sys, referral.app, referral.auth.common_passwords as common\n"
        "assert common._list.cache_info().currsize == 0\n"
        "assert common.is_common('password')\n"
        "assert common._list.cache_info().currsize == 1\n"
        "assert len(common._list()) == 30000\n"
        "assert not [name for name in sys.modules if name.startswith('zxcvbn')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(run.__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Where a password is chosen


async def test_a_registration_refuses_common_and_personal_passwords(client: Client, database_url: str) -> None:
    assert refused(await register(client, "Password1"), "/password") == COMMON
    for password, email, username in (
        ("my name is ALICE", "alice@example.com", None),
        ("my name is alice", "somebody@example.com", "Alice"),
        ("алисамояалиса", "somebody@example.com", "Алиса"),
        ("STRASSE 12 und 14", "somebody@example.com", "Straße"),
        ("bob@example.com", "bob@example.com", None),
        ("alice@example.com", "alice@example.com", None),
    ):
        assert refused(await register(client, password, email, username), "/password") == PERSONAL, password
    assert await count(database_url, "users") == 0


async def test_short_names_may_be_part_of_a_word(client: Client) -> None:
    assert (await register(client, "kaboboose forever", "bob@example.com", "boo")).status == 201


async def test_a_change_refuses_common_and_personal_passwords(person: MakePerson) -> None:
    alice = await person("alice", email="somebody@example.com")

    async def change(new_password: str, current: str = PASSWORD) -> Answer:
        return await alice.post("/auth/password/change", {"current_password": current, "new_password": new_password})

    assert refused(await change("password123"), "/new_password") == COMMON
    for password in ("alice in wonderland", "I am SOMEBODY at last"):
        assert refused(await change(password), "/new_password") == PERSONAL
    assert (await change("quite another password")).status == 204


async def test_a_reset_refuses_common_and_personal_passwords_and_the_link_stays_good(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice = await person("alice", email="somebody@example.com")
    token = await reset_token(client, alice.email, mail_folder, eventually)

    async def reset(new_password: str, token: str = token) -> Answer:
        return await Person(client, "").post("/auth/password/reset/confirm", {"token": token, "new_password": new_password})

    assert refused(await reset("password123"), "/new_password") == COMMON
    for password in ("alice in wonderland", "I am SOMEBODY at last"):
        assert refused(await reset(password), "/new_password") == PERSONAL
        # Whoever has no link does not learn by this whose it might be.
        assert (await reset(password, "no link of this service")).problem == "token-invalid"
    assert (await alice.sign_in()).status == 200
    assert (await reset("quite another password")).status == 204
    assert (await alice.sign_in("quite another password")).status == 200


async def test_the_reset_page_refuses_them_and_keeps_the_link(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice = await person("alice")
    token = await reset_token(client, alice.email, mail_folder, eventually)
    for password, said in (
        ("password123", COMMON),
        ("alice in wonderland", PERSONAL),
        ("quite another password", "Your password is set"),
    ):
        form = {"token": token, "new_password": password}
        async with client.post("/account/reset", data=form) as response:
            page = await response.text()
        assert said in page
        assert response.status == (200 if said.startswith("Your") else 422)
        assert (token in page) == (response.status == 422), "the form can be sent again"
    assert (await alice.sign_in("quite another password")).status == 200


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (b"password123\n", COMMON),
        (b"the root of all evil\n", PERSONAL),
        (b"I am the operator!\n", PERSONAL),
    ],
)
def test_createsuperuser_refuses_them_in_one_line(password: bytes, expected: str) -> None:
    done = subprocess.run(
        [*run_py(), "createsuperuser", "operator@example.com", "--username", "root"],
        env={"REFERRAL_AUTH_BCRYPT_ROUNDS": "4", "REFERRAL_LOG_LEVEL": "error"},
        input=password,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.decode() == f"run.py: password: {expected} (read from standard input)\n"


async def test_a_password_that_was_chosen_before_the_list_was_still_signs_in(
    make_client: MakeClient, database_url: str
) -> None:
    client = await make_client()
    alice = await Person.register(client, "alice")
    kept = bcrypt.hashpw(_prepared("password"), bcrypt.gensalt(4)).decode()
    await sql(database_url, f"UPDATE users SET password_hash = '{kept}' WHERE id = '{alice.id}'")
    assert (await alice.sign_in("password")).status == 200
