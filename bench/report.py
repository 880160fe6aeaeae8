"""Makes the README's table and plot of bench/results/results.json: `python -m bench.report`."""

from __future__ import annotations

import json
from typing import Any

from bench.figures import RESULTS


def table(figures: list[dict[str, Any]]) -> str:
    """A Markdown table, a line a figure."""
    lines = ["| work | measured | to reach | a second | p99 |", "| --- | --- | --- | --- | --- |"]
    for figure in figures:
        notes = figure["notes"]
        rate = notes.get("requests_per_second") or notes.get("per_second")
        p99 = f"{notes['p99_ms']:.1f} ms" if "p99_ms" in notes else ""
        lines.append(
            f"| {figure['name']} | {figure['value']:,.2f} {figure['unit']} | {figure['target']} "
            f"| {f'{rate:,.0f}' if rate else ''} | {p99} |"
        )
    return "\n".join(lines)


def plot(figures: list[dict[str, Any]]) -> None:
    """Bars of the ratios with a mark at what was to be reached, as results.png and results.svg."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    ratios = [figure for figure in figures if "bare handler" in figure["unit"]][::-1]
    _, axes = pyplot.subplots(figsize=(9, 0.6 * len(ratios) + 1.2))
    axes.barh([figure["name"] for figure in ratios], [figure["value"] for figure in ratios], color="#1a56db")
    for index, figure in enumerate(ratios):
        target = float(figure["target"].partition(",")[0])
        axes.plot([target, target], [index - 0.4, index + 0.4], color="#c81e1e", linewidth=2)
        axes.scatter(figure["rounds"], [index] * len(figure["rounds"]), color="black", s=8, zorder=3)
    axes.set_xlabel("requests a second, of a bare aiohttp handler's (red: to reach; dots: single rounds)")
    axes.set_xlim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    for kind in ("png", "svg"):
        pyplot.savefig(RESULTS / f"results.{kind}", bbox_inches="tight", dpi=120)


def main() -> None:
    document = json.loads((RESULTS / "results.json").read_text())
    plot(document["figures"])
    text = table(document["figures"])
    (RESULTS / "results.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
