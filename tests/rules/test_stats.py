"""Series by day, week or month."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.rules.stats import Interval, begin, date_of, intervals, milliseconds, series

DAYS = st.dates(date(2000, 1, 1), date(2100, 12, 31))
INTERVALS: st.SearchStrategy[Interval] = st.sampled_from(["day", "week", "month"])


@pytest.mark.parametrize(
    ("interval", "first", "end", "expected"),
    [
        ("day", "2027-01-30", "2027-02-02", ["2027-01-30", "2027-01-31", "2027-02-01"]),
        ("day", "2028-02-28", "2028-03-01", ["2028-02-28", "2028-02-29"]),
        # A row begins where the range does, if that is later than its week or month.
        ("week", "2027-01-27", "2027-02-09", ["2027-01-27", "2027-02-01", "2027-02-08"]),
        ("week", "2026-12-28", "2027-01-05", ["2026-12-28", "2027-01-04"]),
        ("month", "2026-11-15", "2027-02-01", ["2026-11-15", "2026-12-01", "2027-01-01"]),
        ("month", "2027-01-31", "2027-03-02", ["2027-01-31", "2027-02-01", "2027-03-01"]),
    ],
)
def test_a_row_for_each_interval(interval: Interval, first: str, end: str, expected: list[str]) -> None:
    found = intervals(date.fromisoformat(first), date.fromisoformat(end), interval)
    assert [day.isoformat() for day in found] == expected


@given(DAYS, st.integers(1, 800), INTERVALS, st.lists(st.tuples(st.integers(0, 799), st.integers(0, 9))))
def test_every_day_of_the_range_is_in_one_row_and_every_count_is_summed_once(
    first: date, length: int, interval: Interval, counts: list[tuple[int, int]]
) -> None:
    end = first + timedelta(days=length)
    counted = [(first + timedelta(days=offset), number) for offset, number in counts if offset < length]
    rows = series(first, end, interval, ("n",), [(milliseconds(day), {"n": number}) for day, number in counted])
    starts = [date.fromisoformat(row["at"]) for row in rows]
    assert starts == sorted(set(starts))
    assert starts[0] == first
    assert sum(row["n"] for row in rows) == sum(number for _, number in counted)
    for row, start, following in zip(rows, starts, [*starts[1:], end], strict=True):
        assert row["n"] == sum(number for day, number in counted if start <= day < following)
        assert {begin(start + timedelta(days=offset), interval) for offset in range((following - start).days)} == {
            begin(start, interval)
        }


@given(DAYS)
def test_a_day_is_its_first_millisecond(day: date) -> None:
    assert milliseconds(day) % 86_400_000 == 0
    assert date_of(milliseconds(day)) == day
