"""The first page of the back office: how the programme goes, and what waits for somebody."""

from datetime import date, timedelta
from typing import Any, NamedTuple

from aiohttp import web

from referral.clock import now
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, Errors, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.programme_stats import ProgrammeRowSchema
from referral.database import DATABASE, Connection
from referral.queries import outbox, people, product_users, referrals, reviews, rewards, webhooks
from referral.rules.charts import Chart, chart, funnel
from referral.rules.leaderboard import LEADERBOARD, asked_question
from referral.rules.programme_stats import programme_stats
from referral.rules.stats import Interval, day_of
from referral.rules.units import exponent_of
from referral.web.admin_pages import ADMIN, admin_page, see_other
from referral.web.admin_people import link_to_id
from referral.web.admin_texts import Texts, texts_of
from referral.web.csv_answers import answer_rows, one_page

routes = web.RouteTableDef()

PAGE = "a page of the back office"
# Referrers who are named.
BEST = 5


class Period(NamedTuple):
    """So many days up to today, in rows of an interval."""

    days: int
    interval: Interval


PERIODS = {"month": Period(30, "day"), "quarter": Period(91, "week"), "year": Period(365, "month")}


@routes.get(f"{ADMIN}/")
@allow(Access.ANYBODY, errors=Errors.HTML)
@undocumented(PAGE)
async def get_folder(request: web.Request) -> web.Response:
    """As people write the address."""
    return see_other(request, ADMIN)


@routes.get(ADMIN)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_overview(request: web.Request) -> web.StreamResponse:
    """What waits for somebody, the series of a period, and who refers the most; `format=csv` gives the series."""
    period = request.query.get("period", "month")
    if period not in PERIODS:
        raise invalid("/period", f"Must be one of {', '.join(PERIODS)}.")
    end = day_of(now()) + timedelta(days=1)
    first = end - timedelta(days=PERIODS[period].days)
    async with request.app[DATABASE].replica(snapshot=True) as conn:
        stats = await _stats(conn, first, end, PERIODS[period].interval)
        waiting = await _waiting(conn)
    units = _units(stats)
    if request.query.get("format") == "csv":
        return await answer_rows(request, "stats", ProgrammeRowSchema, one_page(stats["items"] if stats else []), units)
    facts: dict[str, Any] = {
        "waiting": waiting,
        "stats": stats,
        "best": await _best(request),
        "period": period,
        "periods": list(PERIODS),
        "most": MOST_COUNTED,
    }
    return admin_page(request, "overview.html", **facts, **_drawn(stats, units, request))


async def _stats(conn: Connection, first: date, end: date, interval: Interval) -> dict[str, Any] | None:
    """None while what was there before an upgrade is being counted."""
    try:
        return await programme_stats(conn, first, end, interval)
    except Problem:
        return None


async def _waiting(conn: Connection) -> dict[str, int]:
    return {
        "users": await product_users.count_users(conn, MOST_COUNTED, only_active=False),
        "referrals": await referrals.count_all_referrals(conn, MOST_COUNTED),
        "reviews": await reviews.count_reviews_in_state(conn, reviews.OPEN, MOST_COUNTED),
        "rewards": await rewards.count_rewards_in_state(conn, rewards.PENDING, MOST_COUNTED),
        "mail_waiting": await outbox.count_waiting_mail(conn, MOST_COUNTED),
        "mail_failed": await outbox.count_failed_mail(conn, MOST_COUNTED),
        "webhooks_ailing": await webhooks.count_ailing_webhooks(conn),
    }


async def _best(request: web.Request) -> list[dict[str, Any]]:
    """Who brought the most of those who converted this month: each with `rank`, `count` and a `link` to them."""
    path, _ = request.app[PUBLIC_URL].path, texts_of(request)
    question = asked_question("converted", "month", None, request.app[CONFIG].rewards.units)
    places = await request.app[LEADERBOARD].places(question, BEST)
    async with request.app[DATABASE].replica() as conn:
        known = {one.id: one for one in await people.list_names(conn, [place["user_id"] for place in places])}
    return [{**place, "link": link_to_id(place["user_id"], known, path, _)} for place in places]


def _units(stats: dict[str, Any] | None) -> list[str]:
    """The units in which something was bought or given."""
    totals = stats["totals"] if stats else {"revenue": [], "refunded": [], "cost": []}
    return sorted({one["unit"] for name in ("revenue", "refunded", "cost") for one in totals[name]})


def _drawn(stats: dict[str, Any] | None, units: list[str], request: web.Request) -> dict[str, Any]:
    """The charts of a period; without statistics there are none."""
    if stats is None:
        return {"people_chart": None, "steps": [], "money_charts": []}
    _, config = texts_of(request), request.app[CONFIG]
    labels = [_label(row["at"], stats["interval"], _) for row in stats["items"]]
    names = (("visitors", _("Visitors")), ("referrals", _("Referrals")), ("converted", _("Converted")))
    return {
        "people_chart": chart(labels, [(text, [row[name] for row in stats["items"]]) for name, text in names]),
        "steps": funnel([(text, stats["funnel"][name]) for name, text in names]),
        "money_charts": [(unit, exponent_of(unit, config), _money(stats, labels, unit, _)) for unit in units],
    }


def _label(day: str, interval: Interval, texts: Texts) -> str:
    """2027-01-31 in short: without the day for months, and else without the year."""
    parts = day.split("-")[:2] if interval == "month" else day.split("-")[1:]
    return ".".join(reversed(parts)) if texts.language == "ru" else "-".join(parts)


def _money(stats: dict[str, Any], labels: list[str], unit: str, texts: Texts) -> Chart:
    """What was bought, and what rewards cost, in a unit."""
    _ = texts
    series = (("revenue", _("Bought by all users")), ("cost", _("Given in rewards")))
    return chart(labels, [(text, [_amount(row[name], unit) for row in stats["items"]]) for name, text in series])


def _amount(amounts: list[dict[str, Any]], unit: str) -> int:
    return sum(one["amount"] for one in amounts if one["unit"] == unit)
