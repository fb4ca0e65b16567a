"""What a scenario leaves out, and how it is asked for again."""

from __future__ import annotations

import pytest

from quorate.errors import Misuse
from quorate.sim.scenario import Scenario, faults_named, run
from quorate.sim.swarm import Fault, draw


def test_a_bare_scenario_is_what_the_seed_brings() -> None:
    assert Scenario("paxos", 3).swarm() == draw(3)
    assert Scenario("paxos", 3).command() == "quorate sim --core paxos --seed 3"


def test_what_is_left_out_is_left_out_and_said() -> None:
    fault = next(iter(draw(3).rates))
    scenario = Scenario("raft", 3, (fault,), ticks=40, clients=1, replicas=2)
    swarm = scenario.swarm()
    assert fault not in swarm.rates
    assert (swarm.safety_ticks, swarm.clients, swarm.replicas) == (40, 1, 2)
    expected = f"quorate sim --core raft --seed 3 --without {fault} --ticks 40 --clients 1 --replicas 2"
    assert scenario.command() == expected
    assert run(scenario) == run(scenario)


def test_faults_are_named_as_they_are_printed() -> None:
    assert faults_named("") == ()
    assert faults_named("loss,crash-at-commit") == (Fault.LOSS, Fault.CRASH_AT_COMMIT)
    with pytest.raises(Misuse, match="no fault is called 'rain'"):
        faults_named("loss,rain")
