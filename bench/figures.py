"""Figures, and the file that keeps them."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Setting:
    """How long and how often to measure, and on how much data."""

    seconds: int = 4
    rounds: int = 5
    referrers: int = 2_000
    referrals: int = 8_000


@dataclass
class Figure:
    """One line of the table: the medians, and every round's value."""

    name: str
    value: float
    unit: str
    target: str
    rounds: list[float]
    notes: dict[str, float]


def write(name: str, setting: Setting, figures: list[Figure]) -> None:
    """Put the figures into the file, each in the place of its former one: parts may be measured by themselves."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / name
    kept = json.loads(file.read_text())["figures"] if file.exists() else []
    found = {figure["name"]: figure for figure in kept} | {figure.name: asdict(figure) for figure in figures}
    document: dict[str, Any] = {
        "python": platform.python_version(),
        "setting": asdict(setting),
        "figures": list(found.values()),
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
