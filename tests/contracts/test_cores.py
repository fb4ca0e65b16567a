"""What every consensus core must do, whatever its protocol, as conversations between members."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given, settings
from tests.consensus.conversation import ONE, THREE, TWO, CoreType, Network, value
from tests.consensus.trouble import STEPS, Step, Trouble, random_steps

from quorate import limits, registry
from quorate.consensus.core import Proposed
from quorate.types import ReplicaId


@pytest.fixture(params=sorted(registry.CORES))
def core(request: pytest.FixtureRequest) -> CoreType:
    return cast(CoreType, registry.resolve(registry.CORES, request.param))


# --- elections -------------------------------------------------------------------------------------------------------


def test_a_lone_member_leads_and_decides_by_itself(core: CoreType) -> None:
    net = Network(1, core)
    net.elect(ONE)
    net.propose(ONE, "a", "b")
    assert net.commands(ONE) == ["a", "b"]
    assert net.sent == []


def test_left_to_themselves_members_elect_one_leader_and_all_know_it(core: CoreType) -> None:
    net = Network(5, core)
    net.tick(3 * limits.ELECTION_TICKS_MAX)
    assert {net[me].core.status().leader for me in net.ids} == {net.leader}


def test_a_leader_in_peace_stays(core: CoreType) -> None:
    net = Network(3, core)
    first = net.elect(ONE)
    net.tick(10 * limits.ELECTION_TICKS_MAX)
    assert net.leader == ONE
    assert net[ONE].core.status().ballot == first


def test_a_dead_leader_is_replaced_and_nothing_is_lost(core: CoreType) -> None:
    net = Network(3, core)
    net.elect(ONE)
    net.propose(ONE, "a")
    net.crash(ONE)
    net.tick(3 * limits.ELECTION_TICKS_MAX)
    net.propose(net.leader, "b")
    assert net.commands(net.leader) == ["a", "b"]


def test_a_member_that_was_cut_off_does_not_depose_the_leader(core: CoreType) -> None:
    net = Network(3, core)
    first = net.elect(ONE)
    net.cut(THREE)
    net.tick(10 * limits.ELECTION_TICKS_MAX)
    net.heal()
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert net.leader == ONE
    assert net[ONE].core.status().ballot == first
    assert net[THREE].core.status().leader == ONE


def test_a_leader_that_hears_no_quorum_steps_down(core: CoreType) -> None:
    net = Network(3, core)
    net.elect(ONE)
    net.cut(ONE)
    net.tick(limits.ELECTION_TICKS_MAX + 1, ONE)
    assert net[ONE].core.status().role == "follower"
    assert not net[ONE].core.accepts_proposals()


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proposer", [ONE, TWO])
def test_a_command_reaches_all_whoever_proposes_it(core: CoreType, proposer: ReplicaId) -> None:
    net = Network(3, core)
    net.elect(ONE)
    net.tick(limits.HEARTBEAT_TICKS)
    net.propose(proposer, "a")
    net.tick(limits.HEARTBEAT_TICKS)
    assert [net.commands(me) for me in net.ids] == [["a"]] * 3


def test_what_waits_while_a_value_is_in_flight_is_one_value(core: CoreType) -> None:
    net = Network(3, core)
    net.elect(ONE)
    names = [str(n) for n in range(limits.AHEAD_SLOTS + 5)]
    for name in names:
        net.step(ONE, Proposed(value(name)))
    net.talk()
    assert net.commands(ONE) == [*names[: limits.AHEAD_SLOTS], "".join(names[limits.AHEAD_SLOTS :])]


def test_duplicates_change_nothing(core: CoreType) -> None:
    net = Network(3, core)
    net.elect(ONE)
    net.propose(ONE, "a", "b")
    for letter in tuple(net.sent):
        net.tell(letter.to, letter.sender, letter.message)
        net.talk()
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert [net.commands(me) for me in net.ids] == [["a", "b"]] * 3


def test_without_a_quorum_of_disks_nothing_is_chosen(core: CoreType) -> None:
    net = Network(3, core)
    net.elect(ONE)
    for me in (TWO, THREE):
        net[me].slow_disk = True
    net.propose(ONE, "a")
    assert net.commands(ONE) == []
    net.sync(THREE)
    net.talk()
    assert net.commands(ONE) == ["a"]


def test_the_same_events_have_the_same_effects(core: CoreType) -> None:
    def life() -> list[str]:
        net = Network(3, core)
        net.tick(2 * limits.ELECTION_TICKS_MAX)
        net.propose(TWO, "a", "b")
        net.ask_barrier(THREE)
        net.talk()
        return [repr(letter) for letter in net.sent]

    assert life() == life()


# --- whatever happens ------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(steps=STEPS)
@pytest.mark.parametrize("name", sorted(registry.CORES))
def test_whatever_is_lost_delayed_restarted_or_changed_all_agree_and_go_on(name: str, steps: list[Step]) -> None:
    trouble = Trouble(registry.resolve(registry.CORES, name))
    trouble.walk(steps)
    trouble.end_well()


@pytest.mark.parametrize("seed", range(40))
def test_so_they_do_after_a_long_walk(core: CoreType, seed: int) -> None:
    trouble = Trouble(core)
    trouble.walk(random_steps(seed, 500))
    trouble.end_well()


def test_walks_are_not_idle(core: CoreType) -> None:
    """Nothing could go wrong in walks in which nothing happens."""
    chosen = changes = elected = 0
    for seed in range(20):
        trouble = Trouble(core)
        trouble.walk(random_steps(seed, 300))
        chosen += len(trouble.net.chosen)
        changes += sum(1 for batch in trouble.net.chosen.values() if batch.payload and not batch.size)
        elected += sum(trace.what == "elected" for each in trouble.net.members.values() for trace in each.traces)
    assert min(chosen, changes, elected) >= 10
