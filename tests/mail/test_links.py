"""Links of mails stay whole: in an .eml file as its bytes are, over SMTP once they are decoded; no line is too long."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from pathlib import Path

import pytest

from referral.config.addresses import mailbox_of, parse_smtp_url
from referral.ids import new_id
from referral.mail.compose import LONGEST_LINE, compose
from referral.mail.smtp import SMTPTransport
from referral.mail.transport import FileTransport
from referral.queries import outbox
from tests.support.smtp_server import MailServer

SHORT = "https://example.com/account/reset?token=AbC_d-0123456789012345678901234567890123456"
LONG = f"https://example.com/{'a-folder/' * 40}account/reset?token=AbC_d-=012"
CYRILLIC = "https://пример.рф/счёт/reset?token=AbC_d-=012"
# A link, with the rest of its line, that no line of a message can hold.
ENDLESS = f"https://example.com/{'a-folder/' * 400}account/reset?token=AbC_d-=012"

EVERY_LINK = pytest.mark.parametrize("link", [SHORT, LONG, CYRILLIC, ENDLESS], ids=["short", "long", "cyrillic", "endless"])
EVERY_LANGUAGE = pytest.mark.parametrize("language", ["en", "ru"])


def reset_mail(language: str, link: str, recipient: str = "alice@example.com") -> EmailMessage:
    mail = outbox.Mail(new_id(), outbox.RESET_PASSWORD, None, recipient, language, "{}", 1_800_000_000_000, 1)
    facts = {"username": "Алиса", "service": "https://example.com", "link": link}
    return compose(mail, mailbox_of("Рефералы <referrals@example.com>"), recipient, facts)


async def eml(folder: Path, message: EmailMessage) -> bytes:
    async with FileTransport(folder).batch() as send:
        await send(message, "an-account")
    [file] = folder.glob("[!.]*.eml")
    return file.read_bytes()


def longest_line(content: bytes) -> int:
    return max(map(len, re.split(rb"\r?\n", content)))


def decoded(content: bytes) -> list[str]:
    """The text part and the HTML part, as a mail program shows them."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    assert [part.defects for part in (message, *parts)] == [[], [], []]
    return [part.get_content() for part in parts]


@EVERY_LANGUAGE
@pytest.mark.parametrize("link", [SHORT, LONG, CYRILLIC], ids=["short", "long", "cyrillic"])
@pytest.mark.parametrize("recipient", ["alice@example.com", "алиса@example.com"])
async def test_a_link_can_be_copied_out_of_an_eml_file_as_it_is(
    tmp_path: Path, language: str, link: str, recipient: str
) -> None:
    content = await eml(tmp_path, reset_mail(language, link, recipient))
    lines = content.decode().splitlines()
    assert link in lines, "a line of its own in the text"
    assert any(f'<a href="{link}">' in line for line in lines), "whole in the HTML"
    assert b"=3D" not in content
    assert b"quoted-printable" not in content


@EVERY_LANGUAGE
@EVERY_LINK
async def test_no_line_of_an_eml_file_is_too_long_and_every_link_is_whole(tmp_path: Path, language: str, link: str) -> None:
    content = await eml(tmp_path, reset_mail(language, link))
    assert longest_line(content) <= LONGEST_LINE
    text, html = decoded(content)
    assert link in text.splitlines()
    assert f'<a href="{link}">' in html


@EVERY_LANGUAGE
@EVERY_LINK
@pytest.mark.parametrize("recipient", ["alice@example.com", "алиса@example.com"])
async def test_over_smtp_a_link_arrives_whole_and_needs_no_8bitmime(language: str, link: str, recipient: str) -> None:
    async with MailServer(smtputf8=True) as server:
        transport = SMTPTransport(parse_smtp_url(f"smtp://127.0.0.1:{server.port}"), "localhost")
        async with transport.batch() as send:
            await send(reset_mail(language, link, recipient), "an-account")
    [received] = server.messages
    if recipient.isascii():
        assert received.content.isascii()
        assert received.options == []
    assert longest_line(received.content) <= LONGEST_LINE
    text, html = decoded(received.content)
    assert link in text.splitlines()
    assert f'<a href="{link}">' in html
