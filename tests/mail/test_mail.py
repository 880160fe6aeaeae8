"""Mail: the outbox's promises, the messages in both languages, and the folder of `.eml` files.

SMTP has a file of its own; here a transport of the test's own takes the messages, or fails as it is told.
"""

from __future__ import annotations

import email.utils
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import web

from referral import clock
from referral.background.mailer import MAILER, Mailer
from referral.background.queue import LONGEST_SLEEP
from referral.database import Database
from referral.ids import new_id
from referral.mail.compose import LANGUAGES, TEMPLATES, language_of
from referral.mail.transport import FileTransport, PermanentFailure, Send, TemporaryFailure
from referral.metrics import Metrics
from referral.queries import outbox, users
from referral.texts import email_key, key_of
from tests.conftest import Client, Eventually, MakeClient, MakeConfig
from tests.mail.conftest import waiting
from tests.support.people import PASSWORD, Person, read_mails, text_of, token_in

MakePerson = Callable[..., Awaitable[Person]]


class Postbox:
    """Takes messages; raises the next of `failures` instead while there are some."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tried: list[EmailMessage] = []
        self.taken: list[EmailMessage] = []

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Send]:
        yield self._send

    async def forget(self, user_id: str) -> None:
        self.taken = []

    async def _send(self, message: EmailMessage, user_id: str) -> None:
        self.tried.append(message)
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(message)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`moment(ms)` moves the clock on."""
    now = clock.now()

    def move(ms: int) -> None:
        nonlocal now
        now += ms

    monkeypatch.setattr(clock, "now", lambda: now)
    return move


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def make_mailer(make_config: MakeConfig, database: Database, postbox: Postbox) -> Callable[..., Mailer]:
    """`make_mailer(mail_sender="…")`: a mailer whose worker does not run, with the postbox for its transport."""

    def make(**settings: str) -> Mailer:
        mailer = Mailer(make_config(**settings), database, Metrics())
        mailer._transport = postbox
        return mailer

    return make


@pytest.fixture
def mailer(make_mailer: Callable[..., Mailer]) -> Mailer:
    return make_mailer()


async def make_user(database: Database, name: str = "alice") -> str:
    address = f"{name}@example.com"
    user = users.NewUser(new_id(), address, email_key(address), name, key_of(name), "hash", "user", clock.now())
    async with database.transaction() as conn:
        await users.insert_user(conn, user)
    return user.id


async def verify(database: Database, user_id: str) -> None:
    async with database.transaction() as conn:
        await users.verify_email(conn, user_id, None, clock.now())


async def queue(
    database: Database,
    kind: outbox.MailKind = outbox.VERIFY_EMAIL,
    user_id: str | None = None,
    recipient: str = "alice@example.com",
    language: str = "en",
    **params: Any,
) -> str:
    mail_id = new_id()
    if user_id is None and kind != outbox.RESET_PASSWORD:
        user_id = await make_user(database)
    async with database.transaction() as conn:
        await outbox.insert_mail(conn, mail_id, kind, user_id, recipient, language, clock.now(), **params)
    return mail_id


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


# The outbox


async def test_a_mail_leaves_the_queue_once_it_is_taken(database: Database, mailer: Mailer, postbox: Postbox) -> None:
    await queue(database)
    assert await mailer.work_off() == 1
    assert await waiting(database) == []
    assert await mailer.work_off() == 0
    assert len(postbox.taken) == 1


async def test_a_transaction_that_is_rolled_back_sends_no_mail(database: Database, mailer: Mailer, postbox: Postbox) -> None:
    user_id = await make_user(database)

    async def queue_and_fail() -> None:
        async with database.transaction() as conn:
            await outbox.insert_mail(conn, new_id(), outbox.VERIFY_EMAIL, user_id, "a@example.com", "en", clock.now())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await queue_and_fail()
    assert await mailer.work_off() == 0
    assert postbox.tried == []


async def test_a_registration_that_fails_sends_no_mail_and_one_that_succeeds_sends_one(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    await person("alice")
    stranger = Person(client, "bob@example.com")
    answer = await stranger.post(
        "/auth/register", {"email": "bob@example.com", "password": PASSWORD, "referral_code": "NOBODYS"}
    )
    assert answer.problem == "referral-code-invalid"
    await person("carol")
    await eventually(lambda: len(read_mails(mail_folder)) >= 2)
    assert sorted(message["To"] for message in read_mails(mail_folder)) == ["alice@example.com", "carol@example.com"]


async def test_the_worker_is_woken_by_a_request_and_not_by_its_clock(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    assert LONGEST_SLEEP > 10
    await eventually(lambda: not app_of(client)[MAILER]._woken.is_set())
    await person("alice")
    await eventually(lambda: read_mails(mail_folder), seconds=5)


def app_of(client: Client) -> web.Application:
    assert client.app is not None
    return client.app


async def test_a_mail_whose_worker_died_is_sent_again_after_its_lease_under_the_same_id(
    database: Database, mailer: Mailer, postbox: Postbox, moment: Callable[[int], None]
) -> None:
    mail_id = await queue(database)
    async with database.transaction() as conn:
        assert len(await outbox.claim_mail(conn, clock.now(), clock.now() + Mailer.lease, Mailer.batch_size)) == 1
    assert await mailer.work_off() == 0
    moment(Mailer.lease - 1)
    assert await mailer.work_off() == 0
    moment(1)
    assert await mailer.work_off() == 1
    assert postbox.taken[0]["Message-ID"] == f"<{mail_id}@localhost>"


async def test_a_temporary_failure_is_tried_again_after_growing_pauses_under_the_same_message_id(
    database: Database, mailer: Mailer, postbox: Postbox, moment: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    postbox.failures = [TemporaryFailure(f"try {number}") for number in range(1, 5)]
    await queue(database)
    pauses = []
    for number in range(1, 5):
        assert await mailer.work_off() == 1
        [waits] = await waiting(database)
        assert (waits.last_error, waits.attempts, waits.failed_at) == (f"try {number}", number, None)
        pauses.append(waits.next_attempt_at - clock.now())
        moment(pauses[-1] - 1)
        assert await mailer.work_off() == 0
        moment(1)
    assert pauses == [10_000, 20_000, 40_000, 80_000]
    assert await mailer.work_off() == 1
    assert await waiting(database) == []
    assert len({message["Message-ID"] for message in postbox.tried}) == 1
    assert len({message["Date"] for message in postbox.tried}) == 1


async def test_a_mail_that_is_too_old_is_given_up_and_kept_with_its_error(
    database: Database, mailer: Mailer, postbox: Postbox, moment: Callable[[int], None]
) -> None:
    postbox.failures = [TemporaryFailure("still full")] * 2
    await queue(database)
    moment(Mailer.backoff.give_up_after)
    assert await mailer.work_off() == 1
    [failed] = await waiting(database)
    assert failed.failed_at == clock.now()
    assert failed.last_error == "still full"
    moment(Mailer.backoff.give_up_after)
    assert await mailer.work_off() == 0
    assert len(postbox.tried) == 1


async def test_a_permanent_failure_is_not_tried_again_and_holds_nobody_up(
    database: Database, mailer: Mailer, postbox: Postbox, moment: Callable[[int], None]
) -> None:
    postbox.failures = [PermanentFailure("no such mailbox")]
    user_id = await make_user(database)
    refused = await queue(database, user_id=user_id)
    await queue(database, user_id=user_id)
    assert await mailer.work_off() == 2
    assert len(postbox.taken) == 1
    [failed] = await waiting(database)
    assert (failed.id, failed.last_error) == (refused, "no such mailbox")
    moment(Mailer.backoff.give_up_after)
    assert await mailer.work_off() == 0


async def test_batches_follow_one_another_until_nothing_is_due(database: Database, mailer: Mailer, postbox: Postbox) -> None:
    user_id = await make_user(database)
    for _ in range(Mailer.batch_size + 1):
        await queue(database, user_id=user_id)
    assert [await mailer.work_off() for _ in range(3)] == [Mailer.batch_size, 1, 0]
    assert len({message["Message-ID"] for message in postbox.taken}) == Mailer.batch_size + 1


async def test_a_reset_for_an_address_nobody_has_vanishes_without_a_trace(
    database: Database, mailer: Mailer, postbox: Postbox
) -> None:
    await queue(database, outbox.RESET_PASSWORD, recipient="nobody@example.com")
    assert await mailer.work_off() == 1
    assert postbox.tried == []
    assert await waiting(database) == []


async def test_an_erased_account_takes_its_waiting_mail_along(
    make_client: MakeClient, database: Database, tmp_path: Path, eventually: Eventually
) -> None:
    # Nothing can be written below a file: the mail waits.
    (tmp_path / "blocked").touch()
    client = await make_client(mail_url="file:blocked/mail")
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    for someone in (alice, bob):
        assert (await someone.post("/auth/password/reset", {"email": someone.email.upper()})).status == 202
    assert sorted(waits.recipient for waits in await waiting(database)) == [
        *["alice@example.com"] * 2,
        *["bob@example.com"] * 2,
    ]
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    await eventually(lambda: _recipients_are(database, {"bob@example.com"}))


async def _recipients_are(database: Database, expected: set[str]) -> bool:
    return {waits.recipient for waits in await waiting(database)} == expected


async def test_mail_to_an_account_that_was_erased_after_it_was_taken_is_dropped(
    database: Database, mailer: Mailer, postbox: Postbox
) -> None:
    user_id = await make_user(database)
    await queue(database, user_id=user_id)
    async with database.transaction() as conn:
        assert await users.erase_user(conn, user_id, "hash", clock.now())
    assert await mailer.work_off() == 1
    assert postbox.tried == []


async def test_no_token_that_works_lies_in_the_queue(database: Database, mailer: Mailer, postbox: Postbox) -> None:
    await queue(database)
    before = repr(await waiting(database))
    await mailer.work_off()
    assert token_in(postbox.taken[0]) not in before


# The messages

PARAMS: dict[str, dict[str, str]] = {
    outbox.VERIFY_EMAIL: {},
    outbox.CHANGE_EMAIL: {},
    outbox.EMAIL_CHANGED: {"new": "a***@example.org"},
    outbox.RESET_PASSWORD: {},
    outbox.CODE: {"code": "8ZK4M2QA", "expires_at": "2027-01-31T12:00:00Z"},
    outbox.WEBHOOK_DISABLED: {"url": "https://shop.example.com/hooks", "reason": "Every delivery has failed for five days."},
    outbox.REVIEWS_OVERDUE: {"count": "1234", "days": "7"},
}
SUBJECTS = {
    (outbox.VERIFY_EMAIL, "en"): "Confirm your e-mail address",
    (outbox.VERIFY_EMAIL, "ru"): "Подтвердите адрес электронной почты",
    (outbox.CHANGE_EMAIL, "en"): "Confirm your new e-mail address",
    (outbox.CHANGE_EMAIL, "ru"): "Подтвердите новый адрес электронной почты",
    (outbox.EMAIL_CHANGED, "en"): "Your e-mail address was changed",
    (outbox.EMAIL_CHANGED, "ru"): "Ваш адрес электронной почты изменён",
    (outbox.RESET_PASSWORD, "en"): "Choose a new password",
    (outbox.RESET_PASSWORD, "ru"): "Выберите новый пароль",
    (outbox.CODE, "en"): "Your referral code 8ZK4M2QA",
    (outbox.CODE, "ru"): "Ваш реферальный код 8ZK4M2QA",
    (outbox.WEBHOOK_DISABLED, "en"): "A webhook is disabled",
    (outbox.WEBHOOK_DISABLED, "ru"): "Вебхук отключён",
    (outbox.REVIEWS_OVERDUE, "en"): "Reviews wait for a decision",
    (outbox.REVIEWS_OVERDUE, "ru"): "Проверки ждут решения",
}


async def test_each_kind_of_mail_is_whole_in_each_language(
    database: Database, make_mailer: Callable[..., Mailer], postbox: Postbox
) -> None:
    mailer = make_mailer(mail_sender="Рефералы <hello@example.com>", mail_link_base="https://product.example/account/")
    user_id = await make_user(database)
    for (kind, language), subject in SUBJECTS.items():
        if kind != outbox.VERIFY_EMAIL:
            await verify(database, user_id)
        owner = None if kind == outbox.RESET_PASSWORD else user_id
        mail_id = await queue(database, kind, owner, language=language, **PARAMS[kind])
        await mailer.work_off()
        message = postbox.taken.pop()
        assert str(message["From"]) == "Рефералы <hello@example.com>"
        assert message["To"] == "alice@example.com"
        assert message["Subject"] == subject
        assert message["Message-ID"] == f"<{mail_id}@example.com>"
        assert message["Content-Language"] == language
        assert message["Auto-Submitted"] == "auto-generated"
        assert email.utils.parsedate_to_datetime(message["Date"]).tzinfo is not None
        assert message.get_content_type() == "multipart/alternative"
        assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
        text, html = text_of(message), html_of(message)
        assert f'lang="{language}"' in html
        for part in (text, html):
            # What a stranger registers somebody's address with is not to be read in the mail to them.
            assert ("alice" in part) == (kind not in (outbox.VERIFY_EMAIL, outbox.CHANGE_EMAIL))
            assert bool(re.search("[а-я]", part)) == (language == "ru")
            if kind == outbox.CODE:
                assert "8ZK4M2QA" in part
                assert "2027-01-31T12:00:00Z" in part
            elif kind == outbox.EMAIL_CHANGED:
                assert "a***@example.org" in part
            elif kind == outbox.WEBHOOK_DISABLED:
                assert "https://shop.example.com/hooks" in part
            elif kind == outbox.REVIEWS_OVERDUE:
                assert "1234" in part
                assert " 7 " in part
            else:
                page = "reset" if kind == outbox.RESET_PASSWORD else "verify"
                assert f"https://product.example/account/{page}?token=" in part
            assert ("https://product.example/account/disown?token=" in part) == (kind == outbox.VERIFY_EMAIL)
        if kind not in (outbox.CODE, outbox.EMAIL_CHANGED, outbox.WEBHOOK_DISABLED, outbox.REVIEWS_OVERDUE):
            assert token_in(message) in html


def test_there_is_a_text_and_an_html_of_each_mail_in_each_language() -> None:
    expected = {f"{kind}.{language}.{part}" for kind, language in SUBJECTS for part in ("txt", "html")}
    assert {file.name for file in TEMPLATES.iterdir()} == expected | {"layout.html"}
    assert {language for _, language in SUBJECTS} == set(LANGUAGES)
    assert {kind for kind, _ in SUBJECTS} == set(get_args(outbox.MailKind))


@pytest.mark.parametrize("public_url", ["https://example.com/referrals", "https://example.com/referrals/"])
async def test_without_link_base_links_lead_to_the_services_own_pages(
    database: Database, make_mailer: Callable[..., Mailer], postbox: Postbox, public_url: str
) -> None:
    mailer = make_mailer(server_public_url=public_url)
    await queue(database)
    await mailer.work_off()
    assert "\nhttps://example.com/referrals/account/verify?token=" in text_of(postbox.taken[0])


async def test_a_username_adds_nothing_to_the_html_or_the_headers(
    database: Database, mailer: Mailer, postbox: Postbox
) -> None:
    name = "<img src=x onerror=alert(1)>\"'&"
    user_id = await make_user(database)
    async with database.transaction() as conn:
        await users.update_username(conn, user_id, name, name)
    for kind in (outbox.VERIFY_EMAIL, outbox.RESET_PASSWORD, outbox.CODE):
        if kind == outbox.CODE:
            await verify(database, user_id)
        await queue(database, kind, user_id, **PARAMS[kind])
        await mailer.work_off()
        message = postbox.taken.pop()
        assert "<img" not in html_of(message)
        if kind == outbox.CODE:
            assert "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;" in html_of(message)
            assert name in text_of(message)
        else:
            # What a stranger calls themselves is not to be read where nobody has proved the address.
            assert "img" not in text_of(message) + html_of(message)
        assert not any("img" in str(value) for value in message.values())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "en"),
        ("ru", "ru"),
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("RU-ru", "ru"),
        ("en;q=0.4, ru;q=0.5", "ru"),
        ("ru;q=0.4, en;q=0.5", "en"),
        ("ru, en", "ru"),
        ("de, fr;q=0.9, ru;q=0.1", "ru"),
        ("de", "en"),
        ("*", "en"),
        ("ru;q=0", "en"),
        ("ru;q=nonsense", "en"),
        ("ru;q=nan", "en"),
        (";;;,,,q=", "en"),
        ("x" * 100_000 + ", ru", "en"),
    ],
)
def test_the_language_is_the_first_known_one_by_its_weight(header: str, expected: str) -> None:
    assert language_of(header) == expected


async def test_mail_is_written_in_the_language_of_the_request(
    client: Client, mail_folder: Path, eventually: Eventually
) -> None:
    stranger = Person(client, "")
    for name, language in (("alice", "ru"), ("bob", "en-GB")):
        answer = await stranger.post(
            "/auth/register",
            {"email": f"{name}@example.com", "password": PASSWORD},
            headers={"Accept-Language": language, "Authorization": ""},
        )
        assert answer.status == 201
    await eventually(lambda: len(read_mails(mail_folder)) == 2)
    languages = {message["To"]: message["Content-Language"] for message in read_mails(mail_folder)}
    assert languages == {"alice@example.com": "ru", "bob@example.com": "en"}


# The folder


async def test_files_are_for_nobody_else_and_appear_whole(
    database: Database, mailer: Mailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "mail"
    mailer._transport = FileTransport(folder)
    mail_id = await queue(database)
    before_the_rename: list[set[str]] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        before_the_rename.append({file.name for file in folder.glob("[!.]*.eml")})
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", look)
    old = os.umask(0)
    try:
        await mailer.work_off()
    finally:
        os.umask(old)
    [file] = folder.iterdir()
    # By its own id, and that of the account.
    assert re.fullmatch(rf"{mail_id}\.[0-9a-f-]{{36}}\.eml", file.name)
    assert before_the_rename == [{f".{file.name}"}] or before_the_rename == [set()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_mail_sent_again_replaces_its_file(database: Database, mailer: Mailer, tmp_path: Path) -> None:
    mailer._transport = FileTransport(tmp_path / "mail")
    user_id = await make_user(database)
    mail_id = new_id()
    for _ in range(2):
        async with database.transaction() as conn:
            await outbox.insert_mail(conn, mail_id, outbox.VERIFY_EMAIL, user_id, "alice@example.com", "en", clock.now())
        await mailer.work_off()
    assert [file.name for file in (tmp_path / "mail").iterdir()] == [f"{mail_id}.{user_id}.eml"]


async def test_a_folder_that_cannot_be_written_to_is_tried_again(
    database: Database, mailer: Mailer, tmp_path: Path, moment: Callable[[int], None]
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    mailer._transport = FileTransport(blocked)
    await queue(database)
    await mailer.work_off()
    [waits] = await waiting(database)
    assert "blocked" in (waits.last_error or "")
    blocked.unlink()
    moment(Mailer.backoff.longest)
    await mailer.work_off()
    assert len(read_mails(blocked, "alice@example.com")) == 1
