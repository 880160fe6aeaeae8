"""Reminds the admins of reviews that nobody has decided, each once. Nothing is decided by that: their rewards go on waiting.

A batch is one transaction: it marks the reviews, announces each, and queues one mail for every admin.
"""

from referral import clock
from referral.background.loop import work_for_ever
from referral.background.mailer import Mailer
from referral.background.relay import Relay
from referral.changes import announce, referral_change
from referral.config.sections import Fraud
from referral.database import Connection, Database, committed
from referral.ids import new_id
from referral.queries import outbox, reviews, users

# How long a review may be overdue unnoticed, in seconds.
LONGEST_SLEEP = 60.0
# Reviews of one transaction, and of one mail.
BATCH = 200


class ReminderWorker:
    """Looks once a minute which reviews have waited for too long."""

    def __init__(self, settings: Fraud, database: Database, relay: Relay, mailer: Mailer) -> None:
        self._days = settings.reminder_days
        self._database = database
        self._relay = relay
        self._mailer = mailer

    async def run(self) -> None:
        """Remind of reviews, for ever."""
        await work_for_ever("reminders", self._turn, LONGEST_SLEEP)

    async def _turn(self) -> float:
        while await self.work_off():
            pass
        async with self._database.reader() as conn:
            first = await reviews.find_first_unreminded(conn)
        if first is None:
            return LONGEST_SLEEP
        return min(max((first + self._days * clock.DAY - clock.now()) / 1000, 0.0), LONGEST_SLEEP)

    async def work_off(self) -> int:
        """Remind of up to BATCH reviews, and return how many those were."""
        now = clock.now()
        before = now - self._days * clock.DAY
        async with self._database.reader() as conn:
            first = await reviews.find_first_unreminded(conn)
        if first is None or first > before:
            return 0
        count = await committed(self._database, lambda conn: self._remind(conn, before, now))
        if count:
            self._relay.wake()
            self._mailer.wake()
        return count

    async def _remind(self, conn: Connection, before: int, now: int) -> int:
        overdue = await reviews.mark_reminded(conn, before, now, BATCH)
        if not overdue:
            return 0
        told = []
        for user_id in sorted(overdue):
            review = await reviews.find_review(conn, user_id)
            assert review is not None
            told.append(await referral_change(conn, "review.overdue", user_id, review.referrer_id))
        await announce(conn, told, now)
        for admin in await users.list_admins(conn):
            if admin.email is not None and admin.suspended_at is None:
                facts = {"count": len(overdue), "days": self._days}
                await outbox.insert_mail(conn, new_id(), outbox.REVIEWS_OVERDUE, admin.id, admin.email, "en", now, **facts)
        return len(overdue)
