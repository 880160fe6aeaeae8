"""Mails composed from `templates/mail/`, each in the language of the request that caused it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from referral.config.addresses import mailbox_of
from referral.queries.outbox import Mail

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "mail"
LANGUAGES = ("en", "ru")
# Octets of a line at most, without its end (RFC 5322 section 2.1.1).
LONGEST_LINE = 998

MAILS = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    autoescape=select_autoescape(("html",)),
    trim_blocks=True,
    lstrip_blocks=True,
)


def compose(mail: Mail, sender: Address, recipient: str, facts: Mapping[str, Any]) -> EmailMessage:
    """The message of a queued mail, in its language, as text and HTML. The same mail gets the same Message-ID each time."""
    name = f"{mail.kind}.{mail.language}"
    subject, _, text = MAILS.get_template(f"{name}.txt").render(facts).partition("\n")
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mailbox_of(recipient)
    message["Subject"] = subject.strip()
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.created_at / 1000, UTC))
    message["Message-ID"] = f"<{mail.id}@{sender.domain}>"
    # RFC 3834: no out-of-office answers to a machine.
    message["Auto-Submitted"] = "auto-generated"
    html = MAILS.get_template(f"{name}.html").render(facts, subject=subject)
    message.set_content(text.lstrip("\n"), cte=_encoding(text))
    message.add_alternative(html, subtype="html", cte=_encoding(html))
    message["Content-Language"] = mail.language
    return message


def _encoding(text: str) -> str:
    # Texts stay as they are, so that a link can be copied out of an .eml file: quoted-printable would break it over two
    # lines and write its "=" as "=3D". Where a line is too long for that, base64 keeps a link whole for whoever decodes it.
    if max(map(len, text.encode().splitlines()), default=0) > LONGEST_LINE:
        return "base64"
    return "7bit" if text.isascii() else "8bit"


def language_of(accept_language: str) -> str:
    """The first of LANGUAGES in an Accept-Language header by its weights (RFC 9110 section 12.5.4); English without one."""
    best, best_weight = LANGUAGES[0], 0.0
    for item in accept_language[:1000].split(","):
        tag, _, weight = item.partition(";")
        language = tag.strip().lower().partition("-")[0]
        try:
            value = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if language in LANGUAGES and value > best_weight:
            best, best_weight = language, value
    return best
