"""Runs seeds and reports: `quorate sim --seeds N` a batch on all processors, `quorate sim --seed K` one, to replay it.

A failing seed is minimised; what is told of it is the seed, the invariant, the last that happened in the smallest run
that fails the same way, and the command that brings it back. A batch also fails if a class of faults struck too seldom:
such a run would prove less than it seems to.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from quorate.limits import TICK_SECONDS
from quorate.sim.minimise import minimise
from quorate.sim.scenario import Scenario, run
from quorate.sim.swarm import HITS_PER_SEED_MIN, Fault
from quorate.sim.world import Report

SEEDS_AT_ONCE = 8
"""Seeds handed to a processor at a time: enough to make the hand-over cheap, few enough to keep all busy."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def batch(core: str, seeds: int) -> int:
    """Run seeds 1 to `seeds`, and print what was seen. Returns 0 if all is well, else 1."""
    scenarios = [Scenario(core, seed) for seed in range(1, seeds + 1)]
    reports = spread(run, scenarios)
    failures = [*failed(scenarios, reports), *rare(reports)]
    print("\n".join([*totals(reports), *failures]))  # noqa: T201 - the output of the command
    return 1 if failures else 0


def replay(scenario: Scenario) -> int:
    """Run one scenario, and print what was seen. Returns 0 if all is well, else 1."""
    report = run(scenario)
    told = [str(scenario.swarm()), *totals([report]), f"transcript {report.digest}", *report.last]
    if report.failure:
        told.append(f"FAILED: {report.failure}")
    print("\n".join(told))  # noqa: T201 - the output of the command
    return 1 if report.failure else 0


def spread(work: Callable[[Task], Result], tasks: Iterable[Task], at_once: int = SEEDS_AT_ONCE) -> list[Result]:
    """Work on tasks on all processors, `at_once` handed over at a time; the results come in their order."""
    # Fresh interpreters: a fork would copy whatever threads and locks the caller holds.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(work, tasks, chunksize=at_once)


def totals(reports: Sequence[Report]) -> list[str]:
    """Return what a batch saw, summed up in lines."""
    ticks = sum(report.ticks for report in reports)
    sums = (f"{name} {sum(getattr(report, name) for report in reports)}" for name in _SUMMED)
    hits = _hits(reports)
    return [
        f"seeds {len(reports)}, simulated {ticks * TICK_SECONDS / 3600:.2f} cluster-hours ({ticks} ticks)",
        ", ".join(sums),
        f"faults hit {sum(hits.values())}: " + ", ".join(f"{fault} {hits[fault]}" for fault in Fault if fault in hits),
        f"slowest healing {max(report.healing_ticks for report in reports)} ticks",
    ]


_SUMMED = (
    *("commands", "slots", "reads", "retries", "histories", "elections"),
    *("changes", "snapshots", "installs", "messages"),
)


def failed(scenarios: Sequence[Scenario], reports: Sequence[Report]) -> list[str]:
    """Return the first failure in full, made as small as possible, and the seeds of all; nothing if there is none."""
    failures = [(scenario, report) for scenario, report in zip(scenarios, reports, strict=True) if report.failure]
    if not failures:
        return []
    scenario, first = failures[0]
    smallest, report = minimise(scenario, first, run)
    return [
        *report.last,
        f"FAILED: seed {first.seed}, {first.replicas} replicas: {first.failure}",
        f"replay it with: {scenario.command()}",
        f"minimised, on {smallest.swarm()}: {report.failure}",
        f"replay that with: {smallest.command()}",
        f"failing seeds ({len(failures)}): {' '.join(str(scenario.seed) for scenario, _ in failures)}",
    ]


def rare(reports: Sequence[Report]) -> list[str]:
    """Return a line for each class of faults that struck too seldom for so many seeds."""
    hits = _hits(reports)
    least = max(1, int(len(reports) * HITS_PER_SEED_MIN))
    return [
        f"FAILED: {fault} struck {hits[fault]} times, {least} are needed: more seeds, or a simulator that is broken"
        for fault in Fault
        if hits[fault] < least
    ]


def _hits(reports: Sequence[Report]) -> Counter[Fault]:
    hits: Counter[Fault] = Counter()
    for report in reports:
        hits.update(report.hits)
    return hits
