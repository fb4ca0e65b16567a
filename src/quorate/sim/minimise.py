"""Makes a failing scenario smaller, as long as it still fails by the same invariant.

Strategy: end the faults right after the failure; leave out one fault after the other, then clients and replicas; and
again from the start until nothing more can be left out. What remains tells the reader what the failure needs. Any
change leads to another run, so a smaller one may pass by luck: the result is small, not the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from quorate.sim.scenario import Scenario
from quorate.sim.world import Report

RUNS_MAX = 150
"""A run takes a fraction of a second, and nobody waits for minutes."""


def invariant(report: Report) -> str:
    """Return the name of the invariant that broke; empty if none did."""
    return report.failure.split(":")[0]


def minimise(scenario: Scenario, failed: Report, run: Callable[[Scenario], Report]) -> tuple[Scenario, Report]:
    """Return the smallest scenario found that fails as `failed` did, and its report."""
    runs, smaller = 0, True
    while smaller and runs < RUNS_MAX:
        smaller = False
        for candidate in _reductions(scenario, failed):
            runs += 1
            report = run(candidate)
            if invariant(report) == invariant(failed):
                scenario, failed, smaller = candidate, report, True
                break
            if runs == RUNS_MAX:
                break
    return scenario, failed


def _reductions(scenario: Scenario, failed: Report) -> Iterator[Scenario]:
    """Yield scenarios that are one step smaller, the most promising first."""
    swarm = scenario.swarm()
    if failed.ticks + 1 < swarm.safety_ticks:
        yield scenario._replace(ticks=failed.ticks + 1)
    for fault in swarm.rates:
        yield scenario._replace(without=(*scenario.without, fault))
    for clients in {1, swarm.clients // 2} - {0, swarm.clients}:
        yield scenario._replace(clients=clients)
    for replicas in range(1, swarm.replicas):
        yield scenario._replace(replicas=replicas)
    if swarm.safety_ticks > 1:
        yield scenario._replace(ticks=swarm.safety_ticks * 3 // 4)
