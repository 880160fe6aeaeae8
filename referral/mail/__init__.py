"""Mail: how it is composed, where it goes, and how it is handed over."""

from pathlib import Path

from referral.config.addresses import greeting_name, parse_smtp_url
from referral.mail.smtp import SMTPTransport
from referral.mail.transport import FileTransport, Transport


def open_transport(url: str, host: str) -> Transport:
    """The transport of a `mail.url` that the settings' check has passed, for a service that is reached at `host`."""
    if url.startswith("smtp"):
        return SMTPTransport(parse_smtp_url(url), greeting_name(host))
    return FileTransport(Path(url.removeprefix("file:").removeprefix("//")))
