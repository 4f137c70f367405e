"""Results for people: tables in reStructuredText and a chart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Scenario -> server -> the fields of a sample, as medians; ``errors`` is the load generator's text."""


def table(results: Results, reference: str) -> str:
    """Processor time for each request in microseconds, and its ratio to one server's, which is last in each cell."""
    servers = list(dict.fromkeys(name for found in results.values() for name in found))
    lines = [
        f".. list-table:: Microseconds of processor time for each request (in brackets: relative to {reference})",
        "   :header-rows: 1",
        "",
        "   * - scenario",
        *(f"     - {name}" for name in servers),
    ]
    for scenario, found in results.items():
        lines.append(f"   * - {scenario}")
        base = found.get(reference, {}).get("processor_us")
        for name in servers:
            lines.append(f"     - {_cell(found.get(name), base)}")
    return "\n".join(lines) + "\n"


def lean_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each figure, a column for each server; the ratio of the first to the second is last."""
    servers = list(next(iter(figures.values())))
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * -",
        *(f"     - {name}" for name in servers),
        "     - ratio",
    ]
    for what, found in figures.items():
        first, second = found.values()
        lines += [f"   * - {what}", f"     - {first:.1f}", f"     - {second:.1f}", f"     - {first / second:.2f}"]
    return "\n".join(lines) + "\n"


def _cell(sample: Mapping[str, Any] | None, base: float | None) -> str:
    if sample is None:
        return "—"
    if "Non-2xx" in sample["errors"]:
        return "failed"  # errors are cheap: what they cost compares with nothing
    cost = sample["processor_us"]
    text = f"{cost:,.1f}" if cost < 1000 else f"{cost:,.0f}"
    mark = "*" if sample["errors"] else ""
    return f"{text}{mark} ({cost / base:.2f})" if base else text + mark


def chart(results: Results, scenario: str, path: Path) -> None:
    """A bar for each server of one scenario; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = sorted(results[scenario].items(), key=lambda item: item[1]["processor_us"])
    names = [name for name, _ in found]
    costs = [sample["processor_us"] for _, sample in found]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1))
    colours = ["#2a6f97" if name.startswith(("sync", "gthread", "gevent")) else "#a9b4bd" for name in names]
    bars = axes.barh(names[::-1], costs[::-1], color=colours[::-1])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("microseconds of processor time for each request")
    axes.set_title(scenario)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
