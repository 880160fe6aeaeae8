"""The geometry of charts: grids of round numbers, bars and points inside of the drawing, whatever the values are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.rules.charts import HEIGHT, MOST_LABELS, MOST_LINES, MOST_NARROW_LABELS, TOP, WIDTH, chart, funnel, step_of


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ([], [0, 1]),
        ([0, 0, 0], [0, 1]),
        ([1], [0, 1]),
        ([3], [0, 1, 2, 3]),
        ([4], [0, 1, 2, 3, 4]),
        ([5], [0, 2, 4, 6]),
        ([10, 2], [0, 5, 10]),
        ([99], [0, 50, 100]),
        ([1_001], [0, 500, 1_000, 1_500]),
        ([-5, -1], [0, 1]),
        ([10**18], [0, 5 * 10**17, 10**18]),
    ],
)
def test_the_grid_has_round_numbers(values: list[int], grid: list[int]) -> None:
    drawn = chart([str(index) for index in range(len(values))], [("a", values)])
    assert [line.value for line in drawn.lines] == grid
    assert drawn.lines[0].y == drawn.base


def test_bars_stand_beside_each_other_and_as_high_as_their_values() -> None:
    drawn = chart(["May", "June"], [("a", [1, 4]), ("b", [0, 2])])
    (first, second), (empty, half) = (one.bars for one in drawn.series)
    assert first.height * 4 == second.height == half.height * 2
    assert empty.height == 0
    assert 0 < first.x < empty.x < second.x < half.x < WIDTH
    assert [label.text for label in drawn.shown_labels] == ["May", "June"]
    assert drawn.series[1].points[0][1] == drawn.base


def test_of_many_labels_some_are_shown() -> None:
    drawn = chart([str(index) for index in range(365)], [("a", [1] * 365)])
    assert 2 <= len(drawn.shown_labels) <= MOST_LABELS
    assert 2 <= len([label for label in drawn.shown_labels if not label.is_spare]) <= MOST_NARROW_LABELS
    assert len(drawn.series[0].bars) == 365


def test_a_series_has_a_value_for_each_label() -> None:
    with pytest.raises(ValueError, match="a has 1 values for 2 labels"):
        chart(["x", "y"], [("a", [1])])


@given(st.lists(st.lists(st.integers(-(10**6), 10**20), min_size=3, max_size=3), max_size=4))
def test_everything_is_inside(values: list[list[int]]) -> None:
    drawn = chart(["x", "y", "z"], [(str(index), found) for index, found in enumerate(values)])
    assert 2 <= len(drawn.lines) <= MOST_LINES + 1
    for one in drawn.series:
        for bar in one.bars:
            assert bar.x >= 0
            assert bar.x + bar.width <= WIDTH
            assert bar.y + 0.01 >= TOP
            assert bar.y + bar.height <= drawn.base + 0.01 <= HEIGHT
        assert all(0 <= x <= WIDTH and TOP - 0.01 <= y <= drawn.base for x, y in one.points)


@given(st.integers(0, 10**20))
def test_a_step_is_one_two_or_five_and_zeros(most: int) -> None:
    step = step_of(most)
    assert step * MOST_LINES >= most
    assert str(step).rstrip("0") in ("1", "2", "5")


@pytest.mark.parametrize(
    ("values", "widths", "parts"),
    [
        ([], [], []),
        ([0, 0], [0, 0], [None, None]),
        ([10], [WIDTH], [None]),
        ([200, 50, 0, 3], [WIDTH, WIDTH / 4, 0, WIDTH * 3 / 200], [None, 250, 0, None]),
        ([1, 4], [WIDTH / 4, WIDTH], [None, 4_000]),
    ],
)
def test_a_funnel_narrows_by_the_parts_that_go_on(values: list[int], widths: list[float], parts: list[int | None]) -> None:
    steps = funnel([(str(index), value) for index, value in enumerate(values)])
    assert [step.width for step in steps] == pytest.approx(widths, abs=0.01)
    assert [step.per_mille for step in steps] == parts
