"""The outbox, as admins have its mail sent after all."""

from aiohttp import web

from referral.background.mailer import MAILER
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.queries import outbox
from referral.queries.outbox import QueuedMail
from referral.rules.work import Work


def no_such_mail() -> Problem:
    return Problem("not-found", "There is no such mail: it may have been sent.")


def mail_id_of(request: web.Request) -> str:
    """The id that the path names. Raises `not-found` for what is none."""
    return id_in_path(request, "mail_id", no_such_mail())


async def retry_mail(work: Work, mail_id: str) -> QueuedMail:
    """Have a mail sent now, with all its attempts anew, whether it waits or was given up, and return it as it is then.
    Raises `not-found`."""
    await work.hold_caller()
    if not await outbox.retry_mail(work.conn, mail_id, work.moment):
        raise no_such_mail()
    await work.record("mail-retried", mail_id=mail_id)
    mail = await outbox.find_queued_mail(work.conn, mail_id)
    assert mail is not None
    work.wakes(work.request.app[MAILER])
    return mail
