"""Runs seeds and reports: `quorate sim --seeds N` a batch on all processors, `quorate sim --seed K` one, to replay it.

A failure names the seed, the invariant, the last that happened and the command that brings it back. A batch also fails
if a class of faults that its seeds brought never struck: such a run would prove less than it seems to.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence

from quorate.consensus.paxos.messages import PaxosMessage
from quorate.consensus.paxos.node import PaxosCore
from quorate.limits import TICK_SECONDS
from quorate.sim.machine import CoreFactory
from quorate.sim.swarm import Fault, draw
from quorate.sim.world import Report, World
from quorate.wire import MessageCodec

SEEDS_AT_ONCE = 8
"""Seeds handed to a processor at a time: enough to make the hand-over cheap, few enough to keep both busy."""


def main(seeds: int, seed: int | None) -> int:
    """Run seeds 1 to `seeds`, or `seed` alone, and print what was seen. Returns 0 if all is well, else 1."""
    if seed is None:
        reports = run_batch(range(1, seeds + 1))
        lines, failures = totals(reports), [*failed(reports), *idle(reports)]
    else:
        reports = [run_seed(seed)]
        lines = [str(draw(seed)), *totals(reports), f"transcript {reports[0].digest}"]
        failures = failed(reports)
    print("\n".join(lines + failures))  # noqa: T201 - the output of the command
    return 1 if failures else 0


def run_seed(seed: int, factory: CoreFactory = PaxosCore) -> Report:
    """Run the world of one seed."""
    return World(draw(seed), factory, MessageCodec(PaxosMessage)).run()


def run_batch(seeds: Sequence[int]) -> list[Report]:
    """Run the worlds of all `seeds` on all processors; the reports come in the order of the seeds."""
    # Fresh interpreters: a fork would copy whatever threads and locks the caller holds.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(run_seed, seeds, chunksize=SEEDS_AT_ONCE)


def totals(reports: Sequence[Report]) -> list[str]:
    """Return what a batch saw, summed up in lines."""
    ticks = sum(report.ticks for report in reports)
    sums = (f"{name} {sum(getattr(report, name) for report in reports)}" for name in _SUMMED)
    hits = _hits(reports)
    return [
        f"seeds {len(reports)}, simulated {ticks * TICK_SECONDS / 3600:.2f} cluster-hours ({ticks} ticks)",
        ", ".join(sums),
        "faults hit: " + ", ".join(f"{fault} {hits[fault]}" for fault in Fault if fault in hits),
        f"slowest healing {max(report.healing_ticks for report in reports)} ticks",
    ]


_SUMMED = ("commands", "slots", "reads", "elections", "messages")


def failed(reports: Sequence[Report]) -> list[str]:
    """Return the first failure in full and the seeds of all; nothing if there is none."""
    failures = [report for report in reports if report.failure]
    if not failures:
        return []
    first = failures[0]
    return [
        *first.last,
        f"FAILED: seed {first.seed}, {first.replicas} replicas: {first.failure}",
        f"replay it with: quorate sim --seed {first.seed}",
        f"failing seeds ({len(failures)}): {' '.join(str(report.seed) for report in failures)}",
    ]


def idle(reports: Sequence[Report]) -> list[str]:
    """Return a line for each fault that some seed brought and that never struck."""
    return [
        f"FAILED: no {fault} ever struck: more seeds are needed" for fault, hits in _hits(reports).items() if not hits
    ]


def _hits(reports: Sequence[Report]) -> Counter[Fault]:
    hits: Counter[Fault] = Counter()
    for report in reports:
        hits.update(report.hits)
    return hits
