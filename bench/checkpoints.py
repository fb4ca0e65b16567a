"""What checkpoints cost: ordered writes on clusters with frequent, usual and no checkpoints, in turns.

All clusters run side by side, and only one of them has work at a time. Ratios and added latencies are taken within a
round. The latency that counts is that of the slowest request: a checkpoint stops a copy's service for a moment.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.load import put_load
from bench.machine import calibration_ms
from bench.report import Bar, Found, at_least, at_most, say
from bench.sides import Quorate, cluster, run_options, wait_until

from quorate import limits
from quorate.errors import Broken

FREQUENT_ENTRIES = 5_000
DISTANCES = {"none": 0, "usual": limits.CHECKPOINT_ENTRIES, "frequent": FREQUENT_ENTRIES}
"""Commands between two checkpoints; 0 for a log without any."""
CONNECTIONS = 64
WARM_UP_SECONDS = 2
COST_MAX = 0.10
"""Of throughput, at the usual distance: what more frequent ones cost is shown, and for the operator to weigh."""
ADDED_MS_MAX = 250.0
"""To the slowest request."""


class Sample(NamedTuple):
    """One run on one cluster; latencies in milliseconds."""

    side: str
    rate: float
    p50: float
    p999: float
    slowest: float
    errors: int
    checkpoints: int
    """Taken by all replicas together."""
    held: float
    """How long deliveries stood still for the last checkpoint, at the replica where that took longest."""
    calibration_ms: float


class Row(NamedTuple):
    """One side: medians over the rounds, but for what says otherwise. Milliseconds."""

    checkpoints: str
    rate: float
    of_none: float
    p50: float
    p999: float
    slowest: float
    slowest_added_at_worst: float
    """In the worst of the rounds, beside the slowest request without checkpoints in that round."""
    taken: int
    """Checkpoints in a run."""
    held: float
    errors: int
    """In all rounds."""


def measure(options: argparse.Namespace, directory: Path) -> Found:
    """Put the same load on each side, round after round."""
    with clusters(options, directory) as sides:
        for one in sides.values():
            put_load(one.side().targets(CONNECTIONS), "write", WARM_UP_SECONDS)
        rounds = [one_round(sides, options.seconds, number) for number in range(options.rounds)]
    rows = [row(side, rounds) for side in DISTANCES]
    return Found(
        rows,
        [bar for one in rows[1:] for bar in bars(one)] + [cost(rows[1])],
        {"load": f"{options.rounds} rounds of {options.seconds} s by wrk at {CONNECTIONS} connections"},
        [sample.calibration_ms for samples in rounds for sample in samples.values()],
    )


@contextmanager
def clusters(options: argparse.Namespace, directory: Path) -> Iterator[Mapping[str, Quorate]]:
    with ExitStack() as stack:
        running = {}
        for side, distance in DISTANCES.items():
            place = directory / side
            place.mkdir()
            more = ("--snapshot", "http", "--snapshot-entries", str(distance)) if distance else ()
            running[side] = stack.enter_context(cluster(options.app, (*run_options(options), *more), place))
        yield running


def one_round(sides: Mapping[str, Quorate], seconds: int, number: int) -> dict[str, Sample]:
    """Measure every side once; another one begins in each round."""
    names = list(sides)
    names = names[number % len(names) :] + names[: number % len(names)]
    samples = {name: one_run(name, sides[name], seconds) for name in names}
    rates = "  ".join(f"{name} {samples[name].rate:.0f}/s, slowest {samples[name].slowest:.0f} ms" for name in sides)
    say(f"round {number + 1}: {rates}")
    return samples


def one_run(side: str, one: Quorate, seconds: int) -> Sample:
    calibration, before = calibration_ms(), taken(one)
    load = put_load(one.side().targets(CONNECTIONS), "write", seconds)
    wait_until(lambda: one.is_ready() and one.backlog() == 0, "the slowest replica has caught up")
    checkpoints = taken(one) - before
    if DISTANCES[side] and not checkpoints:
        raise Broken(f"no checkpoint was taken in {seconds} s", "give more --seconds")
    return Sample(
        side=side,
        rate=load.requests / load.seconds,
        p50=load.percentile(0.5),
        p999=load.percentile(0.999),
        slowest=load.percentile(1),
        errors=load.refused + load.failed,
        checkpoints=checkpoints,
        held=max(replica["snapshots"]["held_seconds"] for replica in one.replicas()) * 1000 if checkpoints else 0.0,
        calibration_ms=calibration,
    )


def taken(one: Quorate) -> int:
    """Return how many checkpoints all replicas took so far; raises Broken if any failed."""
    told = [replica["snapshots"] for replica in one.replicas() if replica["snapshots"]]
    if any(snapshots["failed"] for snapshots in told):
        raise Broken("a checkpoint failed", "the figures count for nothing")
    return sum(snapshots["taken"] for snapshots in told)


def row(side: str, rounds: Sequence[Mapping[str, Sample]]) -> Row:
    own, none = [samples[side] for samples in rounds], [samples["none"] for samples in rounds]
    return Row(
        checkpoints=f"every {DISTANCES[side]}" if DISTANCES[side] else "none",
        rate=median(sample.rate for sample in own),
        of_none=median(mine.rate / theirs.rate for mine, theirs in zip(own, none, strict=True)),
        p50=median(sample.p50 for sample in own),
        p999=median(sample.p999 for sample in own),
        slowest=median(sample.slowest for sample in own),
        slowest_added_at_worst=max(mine.slowest - theirs.slowest for mine, theirs in zip(own, none, strict=True)),
        taken=round(median(sample.checkpoints for sample in own)),
        held=max(sample.held for sample in own),
        errors=sum(sample.errors for sample in own),
    )


def cost(usual: Row) -> Bar:
    return at_least(f"writes with checkpoints {usual.checkpoints}, of those without", 1 - COST_MAX, usual.of_none)


def bars(one: Row) -> list[Bar]:
    return [
        at_most(
            f"slowest write with checkpoints {one.checkpoints}, ms added", ADDED_MS_MAX, one.slowest_added_at_worst
        ),
        at_most(f"errors with checkpoints {one.checkpoints}", 0, one.errors),
    ]
