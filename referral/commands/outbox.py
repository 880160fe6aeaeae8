"""Mail that waits and mail that failed."""

import argparse
import asyncio
from collections.abc import Collection

from referral.clock import now, rfc_3339
from referral.commands import opened
from referral.config import Config, ConfigError
from referral.queries import outbox
from referral.texts import mask


def list_outbox(config: Config, arguments: argparse.Namespace) -> None:
    """List the mail that waits and the mail that failed, and why."""
    mails = asyncio.run(list_mail(config))
    if not mails:
        print("Nothing waits, nothing failed.")
        return
    line = "{:36}  {:14}  {:26}  {:>8}  {:20}  {}"
    print(line.format("ID", "KIND", "RECIPIENT", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR"))
    for mail in mails:
        due = "failed" if mail.failed_at else rfc_3339(mail.next_attempt_at)
        print(line.format(mail.id, mail.kind, mask(mail.recipient), mail.attempts, due, mail.last_error or "").rstrip())


def retry_outbox(config: Config, arguments: argparse.Namespace) -> None:
    """Make all failed mail due again, or the mails that are named. Raises ConfigError."""
    count = asyncio.run(retry_mail(config, arguments.ids))
    print(f"{count} {'mail is' if count == 1 else 'mails are'} due now.")


async def list_mail(config: Config) -> list[outbox.QueuedMail]:
    """All mail that waits or failed, oldest first."""
    async with opened(config) as database, database.reader() as conn:
        return await outbox.find_mail(conn)


async def retry_mail(config: Config, mail_ids: Collection[str]) -> int:
    """Make these mails due again or, without any, all that failed. Returns how many they are. Raises ConfigError for an
    unknown id, and then no mail is due again."""
    async with opened(config) as database, database.transaction() as conn:
        if not mail_ids:
            return await outbox.retry_failed_mail(conn, now())
        for mail_id in mail_ids:
            if not await outbox.retry_mail(conn, mail_id, now()):
                raise ConfigError("outbox retry", f"there is no mail {mail_id}", "the command line")
        return len(mail_ids)
