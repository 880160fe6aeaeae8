"""Mail: how it is composed, where it goes, and how it is handed over."""

from pathlib import Path

from referral.config.addresses import parse_smtp_url
from referral.mail.smtp import SMTPTransport
from referral.mail.transport import FileTransport, Transport


def open_transport(url: str) -> Transport:
    """The transport of a `mail.url` that the settings' check has passed."""
    if url.startswith("smtp"):
        return SMTPTransport(parse_smtp_url(url))
    return FileTransport(Path(url.removeprefix("file:").removeprefix("//")))
