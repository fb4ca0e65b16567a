"""A failing scenario becomes smaller and fails the same way."""

from __future__ import annotations

from quorate.sim.minimise import RUNS_MAX, invariant, minimise
from quorate.sim.scenario import Scenario
from quorate.sim.swarm import Fault, draw
from quorate.sim.world import Report

SOUND = Report(7, 3, 400, 12, 5, 6, 2, 0, 1, 0, 0, 0, 0, 100, {}, "abc")
SICK = SOUND._replace(ticks=300, failure="one value per slot: r1")


def seed_with(*faults: Fault) -> int:
    return next(seed for seed in range(1000) if set(faults) <= draw(seed).rates.keys() and draw(seed).clients == 8)


def test_an_invariant_is_what_stands_before_the_detail() -> None:
    assert invariant(SICK) == "one value per slot"
    assert invariant(SOUND) == ""


def test_only_what_the_failure_needs_is_left() -> None:
    seed = seed_with(Fault.LOSS, Fault.CRASH)

    def fails_by_crashes(scenario: Scenario) -> Report:
        swarm = scenario.swarm()
        needed = Fault.CRASH in swarm.rates and swarm.safety_ticks > 100 and swarm.clients >= 2
        return SICK._replace(ticks=90) if needed else SOUND

    scenario, report = minimise(Scenario("paxos", seed), SICK, fails_by_crashes)
    swarm = scenario.swarm()
    assert set(swarm.rates) == {Fault.CRASH}
    assert swarm.clients == 2
    assert swarm.replicas == 1
    assert 100 < swarm.safety_ticks < 150
    assert invariant(report) == invariant(SICK)


def test_another_failure_is_not_taken_for_the_same() -> None:
    start = Scenario("paxos", 3)
    scenario, report = minimise(start, SICK, lambda _: SICK._replace(failure="no exceptions: r1"))
    assert (scenario, report) == (start, SICK)


def test_the_search_ends() -> None:
    runs: list[Scenario] = []

    def fails_always(scenario: Scenario) -> Report:
        runs.append(scenario)
        return SICK

    minimise(Scenario("paxos", 3), SICK, fails_always)
    assert len(runs) <= RUNS_MAX
