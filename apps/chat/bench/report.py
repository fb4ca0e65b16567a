"""The figures of `bench.load` as a table and as a plot, and those of `bench.outages` as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "chat"
import matplotlib.pyplot as plt  # noqa: E402 - once it is told how to draw

COLOURS = {"classic": "#d9a441", "replicated": "#1f7a5c"}
HEADS = {"classic": "classic: stopped", "replicated": "replicated: killed"}
COLUMNS = ("p50", "p90", "p99", "p99.9", "max", "cores", "memory_mib", "processes")


def show(found: Mapping[str, Mapping[str, Any]], bars_ms: Mapping[str, float]) -> str:
    """Return a table: milliseconds, cores, MiB; and whether the bars are met."""
    lines = ["deployment".ljust(12) + "".join(column.rjust(12) for column in COLUMNS)]
    for name, figures in found.items():
        lines.append(name.ljust(12) + "".join(f"{figures[column]:12.1f}" for column in COLUMNS))
    for name, figures in found.items():
        met = "met   " if figures["p99"] < bars_ms[name] else "MISSED"
        lines.append(f"{met} {name}: p99 {figures['p99']:.1f} ms, wanted under {bars_ms[name]:g}")
    return "\n".join(lines)


def draw(found: Mapping[str, Mapping[str, Any]], bars_ms: Mapping[str, float], target: Path) -> None:
    """Draw which share of the messages took how long at most."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, figures in found.items():
        cuts = figures["cuts"]
        shares = [100 * (number + 1) / (len(cuts) + 1) for number in range(len(cuts))]
        axes.plot(cuts, shares, label=name, color=COLOURS[name], linewidth=2)
        axes.axvline(bars_ms[name], color=COLOURS[name], linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds from send to receive (dotted: the bar for 99 %)")
    axes.set_ylabel("% of the messages")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def standstills(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table in Markdown for each deployment: for how many seconds what stood still, by what was down."""
    tables = []
    for name, outages in found.items():
        columns = next(iter(outages.values()))["probes"]
        rows = [[HEADS[name], "down", *columns], ["---"] * (2 + len(columns))]
        for part, outage in outages.items():
            longest = [figures["longest"] for figures in outage["probes"].values()]
            rows.append([part, f"{outage['down']:.1f}", *("-" if one is None else f"{one:.1f}" for one in longest)])
        tables.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(tables)
