"""How values become charts: pure geometry, which templates draw as inline SVG. Values are whole numbers, such as counts or
amounts in a unit's smallest part. What is across is in percent of a drawing, which is as wide as its place is; what is down
is in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

# Parts of a drawing: the numbers of the grid stand left of it, and the labels below the axis.
WIDTH, HEIGHT = 100, 240
BOTTOM, TOP = 28, 12
# Lines of the grid above zero at most, and labels below the axis at most, of which a narrow window has room for so many.
MOST_LINES = 4
MOST_LABELS = 8
MOST_NARROW_LABELS = 4
# Of the room that a label has, what its bars take.
FILLED = 0.7


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the grid, and the value that it stands for."""

    y: float
    value: int


@dataclass(frozen=True, slots=True)
class Label:
    """A label below the axis; a spare one is left out where there is little room."""

    x: float
    text: str
    is_spare: bool


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    value: int
    label: str


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a chart: its name and values, a bar for each of them, and the points of its line."""

    name: str
    values: tuple[int, ...]
    bars: tuple[Bar, ...]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    labels: tuple[str, ...]
    shown_labels: tuple[Label, ...]
    lines: tuple[Line, ...]
    series: tuple[Series, ...]
    width: int = WIDTH
    height: int = HEIGHT
    base: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a funnel: its bar's width, and which part of the step before it is, in per mille; None where there was
    nobody or nothing."""

    name: str
    value: int
    width: float
    per_mille: int | None


def step_of(most: int) -> int:
    """The distance of the grid's lines for values up to `most`: 1, 2 or 5 and zeros, so that there are MOST_LINES at
    most."""
    if most <= MOST_LINES:
        return 1
    least = -(-most // MOST_LINES)
    power: int = 10 ** (len(str(least)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def chart(labels: Sequence[str], series: Sequence[tuple[str, Sequence[int]]]) -> Chart:
    """The chart of one value or more for each label; the series are pairs of a name and values. A value below zero is drawn
    as zero, and its table says what it is.

    Raises ValueError where a series has not a value for each label.
    """
    for name, values in series:
        if len(values) != len(labels):
            raise ValueError(f"{name} has {len(values)} values for {len(labels)} labels")
    step = step_of(max((value for _, values in series for value in values), default=0))
    highest = max(1, -(-max((value for _, values in series for value in values), default=0) // step)) * step
    room, base = HEIGHT - BOTTOM - TOP, HEIGHT - BOTTOM

    def height_of(value: int) -> float:
        return round(room * max(value, 0) / highest, 2)

    slot = WIDTH / max(1, len(labels))
    width = slot * FILLED / max(1, len(series))
    shown = range(0, len(labels), max(1, ceil(len(labels) / MOST_LABELS)))
    kept = max(1, ceil(len(shown) / MOST_NARROW_LABELS))
    middles = [round(slot * (index + 0.5), 2) for index in range(len(labels))]
    drawn = []
    for number, (name, values) in enumerate(series):
        first = slot * (1 - FILLED) / 2 + width * number
        bars = tuple(
            Bar(
                round(first + slot * index, 2),
                round(base - height_of(value), 2),
                round(width, 2),
                height_of(value),
                value,
                label,
            )
            for index, (label, value) in enumerate(zip(labels, values, strict=True))
        )
        points = tuple((x, round(base - height_of(value), 2)) for x, value in zip(middles, values, strict=True))
        drawn.append(Series(name, tuple(values), bars, points))
    return Chart(
        tuple(labels),
        tuple(Label(middles[index], labels[index], number % kept > 0) for number, index in enumerate(shown)),
        tuple(Line(round(base - height_of(value), 2), value) for value in range(0, highest + 1, step)),
        tuple(drawn),
    )


def funnel(steps: Sequence[tuple[str, int]]) -> list[Step]:
    """The steps of a funnel, whose first and widest one has all of the width. A later one may be larger than the one
    before."""
    most = max((value for _, value in steps), default=0)
    before: int | None = None
    found = []
    for name, value in steps:
        part = value * 1000 // before if before else None
        found.append(Step(name, value, round(WIDTH * value / most, 2) if most else 0.0, part))
        before = value
    return found
