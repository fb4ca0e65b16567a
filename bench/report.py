"""Turns samples into a table, the verdict on the bars, JSON, and a picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).with_name("results")
SIDES = ("direct", "nginx", "limit", "quorate")
MEANINGS = {
    "direct": "direct to one app",
    "nginx": "nginx to one app",
    "limit": "each of three bare copies",
    "quorate": "three replicas by Quorate",
}
COLOURS = {"direct": "#9aa5b1", "nginx": "#5f7387", "limit": "#d9a441", "quorate": "#1f7a5c"}


class Sample(NamedTuple):
    """One short run of one side."""

    kind: str
    connections: int
    side: str
    round: int
    rate: float
    """Requests per second; for the limit the mean per copy."""
    p50: float
    """Milliseconds, as are p90 and p99."""
    p90: float
    p99: float
    errors: int
    cpu: dict[str, float]
    """Microseconds of CPU per request, by kind of process."""
    calibration_ms: float
    backlog: int
    """Requests by which the slowest replica trailed right after the load."""


class Row(NamedTuple):
    """Medians over the rounds. Ratios are taken within each round, since the machine's speed drifts between them."""

    kind: str
    connections: int
    side: str
    rate: float
    p50: float
    p90: float
    p99: float
    of_direct: float
    of_limit: float
    errors: int
    cpu: dict[str, float]


class Bar(NamedTuple):
    """A figure to reach, and the figure reached."""

    what: str
    wanted: str
    reached: float
    is_met: bool


class Found(NamedTuple):
    """What came of one subject of `bench.recovery`."""

    rows: Sequence[NamedTuple]
    bars: Sequence[Bar]
    beside: dict[str, Any]
    calibrations: Sequence[float]


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Reduce samples to one row per kind, number of connections and side."""
    places = dict.fromkeys((sample.kind, sample.connections, sample.side) for sample in samples)
    return [row(samples, *place) for place in places]


def row(samples: Sequence[Sample], kind: str, connections: int, side: str) -> Row:
    def of(other: str) -> list[Sample]:
        return [s for s in samples if (s.kind, s.connections, s.side) == (kind, connections, other)]

    def ratio(other: str) -> float:
        return median(mine.rate / theirs.rate for mine, theirs in zip(of(side), of(other), strict=True))

    own = of(side)
    return Row(
        kind=kind,
        connections=connections,
        side=side,
        rate=median(sample.rate for sample in own),
        p50=median(sample.p50 for sample in own),
        p90=median(sample.p90 for sample in own),
        p99=median(sample.p99 for sample in own),
        of_direct=ratio("direct"),
        of_limit=ratio("limit"),
        errors=sum(sample.errors for sample in own),
        cpu={name: median(sample.cpu[name] for sample in own) for name in own[0].cpu},
    )


def bars(found: Iterable[Row], busiest: int) -> list[Bar]:
    """Compare with the first bars of the project: throughput at the `busiest` load, latency added at one connection."""
    at = {(row.kind, row.connections, row.side): row for row in found}
    write, direct_write = at["write", 1, "quorate"], at["write", 1, "direct"]
    read, direct_read = at["read", 1, "quorate"], at["read", 1, "direct"]
    return [
        at_least(f"writes at {busiest} connections, of the limit", 0.40, at["write", busiest, "quorate"].of_limit),
        at_least(f"reads at {busiest} connections, of direct", 0.45, at["read", busiest, "quorate"].of_direct),
        at_most("write latency added at 1 connection, p50, ms", 1.5, write.p50 - direct_write.p50),
        at_most("write latency added at 1 connection, p99, ms", 5.0, write.p99 - direct_write.p99),
        at_most("read latency added at 1 connection, p50, ms", 0.4, read.p50 - direct_read.p50),
        at_most("errors", 0, sum(row.errors for row in at.values())),
    ]


def at_least(what: str, bound: float, reached: float) -> Bar:
    return Bar(what, f">= {bound:g}", round(reached, 3), reached >= bound)


def at_most(what: str, bound: float, reached: float) -> Bar:
    return Bar(what, f"<= {bound:g}", round(reached, 3), reached <= bound)


def table(found: Iterable[Row]) -> str:
    """Return the one table, for people."""
    head = f"{'':5} {'conn':>4}  {'side':25} {'req/s':>8} {'p50 ms':>7} {'p90 ms':>7} {'p99 ms':>7}"
    lines = [f"{head} {'of direct':>9} {'of limit':>8}  CPU us per request"]
    for row in found:
        if row.side == SIDES[0]:
            lines.append("")
        cpu = ", ".join(f"{kind} {spent:.0f}" for kind, spent in row.cpu.items())
        figures = (
            f"{row.rate:8.0f} {row.p50:7.2f} {row.p90:7.2f} {row.p99:7.2f} {row.of_direct:9.2f} {row.of_limit:8.2f}"
        )
        lines.append(f"{row.kind:5} {row.connections:4}  {MEANINGS[row.side]:25} {figures}  {cpu}")
    return "\n".join(lines)


def columns(found: Sequence[NamedTuple]) -> str:
    """Return rows of any one kind as a table whose columns are named by their fields."""
    cells = [[name.replace("_", " ") for name in found[0]._fields]]
    cells += [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in found]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in cells)


def verdicts(found: Iterable[Bar]) -> str:
    """Return one line per bar."""
    return "\n".join(f"{'met' if b.is_met else 'MISSED':6}  {b.what}: {b.reached:g}, wanted {b.wanted}" for b in found)


def say(progress: str) -> None:
    """Tell who waits how it goes."""
    print(progress, file=sys.stderr, flush=True)


def write_json(file: Path, about: dict[str, Any], found: Sequence[NamedTuple], met: Sequence[Bar]) -> None:
    """Write everything that was printed, for programs."""
    content = {**about, "rows": [row._asdict() for row in found], "bars": [bar._asdict() for bar in met]}
    file.write_text(json.dumps(content, indent=1, default=str) + "\n")


def draw(files: Iterable[Path], title: str, found: Sequence[Row]) -> None:
    """Draw throughput and latency, writes and reads."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    figure.suptitle(title)
    for column, kind in enumerate(("write", "read")):
        chosen = [row for row in found if row.kind == kind]
        draw_rates(panels[0][column], f"{kind}s: requests/s", chosen)
        draw_latencies(panels[1][column], f"{kind}s: p50 (bar) to p99 (line), ms", chosen)
    panels[0][0].legend(fontsize="small")
    save(figure, files)


def save(figure: Any, files: Iterable[Path]) -> None:
    """Write a picture. The same figures give the same bytes: no dates, no random ids."""
    matplotlib.rcParams["svg.hashsalt"] = "quorate"
    for file in files:
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {}, dpi=110)
    plt.close(figure)


def draw_rates(panel: Any, title: str, chosen: Sequence[Row]) -> None:
    for side, positions, own in grouped(panel, title, chosen):
        panel.bar(positions, [row.rate for row in own], 0.2, label=MEANINGS[side], color=COLOURS[side])


def draw_latencies(panel: Any, title: str, chosen: Sequence[Row]) -> None:
    panel.set_yscale("log")
    for side, positions, own in grouped(panel, title, chosen):
        panel.bar(positions, [row.p50 for row in own], 0.2, color=COLOURS[side])
        panel.vlines(positions, [row.p50 for row in own], [row.p99 for row in own], color=COLOURS[side])
        panel.plot(positions, [row.p99 for row in own], "_", color=COLOURS[side])


def grouped(panel: Any, title: str, chosen: Sequence[Row]) -> list[tuple[str, list[float], list[Row]]]:
    """Label the panel and return each side with its places on the axis, one group per number of connections."""
    connections = sorted({row.connections for row in chosen})
    head(panel, title)
    panel.set_xticks(range(len(connections)), [f"{number} conn." for number in connections])
    return [
        (
            side,
            [group + (number - 1.5) * 0.2 for group in range(len(connections))],
            sorted((row for row in chosen if row.side == side), key=lambda row: row.connections),
        )
        for number, side in enumerate(SIDES)
    ]


def head(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize="medium")
    panel.spines[["top", "right"]].set_visible(False)
