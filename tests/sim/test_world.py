"""Whole worlds: the same seed gives the same bytes, and both cores keep every invariant."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.sim.worlds import PEACE, Cluster

from quorate.sim.kits import KITS
from quorate.sim.planted.table import run_planted
from quorate.sim.scenario import Scenario, run
from quorate.sim.swarm import Fault
from quorate.sim.world import World

# --- determinism -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", KITS)
def test_the_same_seed_gives_the_same_run(core: str) -> None:
    assert run(Scenario(core, 3)) == run(Scenario(core, 3))
    assert run(Scenario(core, 3)).digest != run(Scenario(core, 4)).digest


@pytest.mark.parametrize("core", KITS)
@pytest.mark.parametrize("hash_seed", ["0", "random"])
def test_the_hash_seed_of_the_interpreter_changes_nothing(core: str, hash_seed: str) -> None:
    program = f"from quorate.sim.scenario import *; print(run(Scenario({core!r}, 3)).digest)"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == run(Scenario(core, 3)).digest


def test_a_failing_seed_fails_the_same_way_again() -> None:
    first = run_planted("ack before fsync", 1)
    assert first.failure
    assert first == run_planted("ack before fsync", 1)


# --- the two phases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", KITS)
def test_in_peace_one_leader_serves_for_ever(core: str) -> None:
    report = World(PEACE, KITS[core]).run()
    assert not report.failure
    assert report.elections == 1
    assert report.hits == {}
    assert min(report.commands, report.slots, report.reads, report.snapshots, report.histories) > 0


def test_who_comes_as_an_empty_replica_is_let_in_and_catches_up() -> None:
    cluster = Cluster()
    cluster.admin.begin()
    cluster.write(cluster.leader, 3)
    cluster.admin.add()
    cluster.ticks(100)
    assert cluster.admin.idle()
    assert cluster.invariants.membership.voters == (1, 2, 3, 4)
    process = cluster[4].process
    assert process is not None
    assert process.delivered == len(cluster.invariants.chosen)


def test_a_cluster_that_can_make_no_progress_is_a_failure() -> None:
    world = World(PEACE._replace(rates={Fault.LOSS: 1.0}), KITS["paxos"])
    world.nemesis.end = lambda: None  # type: ignore[method-assign]
    assert world.run().failure.startswith("the healed make progress")


# --- the real cores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", KITS)
@pytest.mark.parametrize("seed", range(1, 26))
def test_the_real_cores_keep_every_invariant(core: str, seed: int) -> None:
    report = run(Scenario(core, seed))
    assert report.failure == ""
    assert min(report.commands, report.slots, report.elections) > 0
