"""Whatever happens to a group: nothing that was chosen is lost or changed, and afterwards it goes on."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given, settings
from tests.consensus.conversation import THREE, TWO, CoreType, Network
from tests.consensus.trouble import STEPS, Step, Trouble, random_steps

from quorate import limits, registry

CORES = [cast(CoreType, registry.resolve(registry.CORES, name)) for name in sorted(registry.CORES)]


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_whatever_is_lost_delayed_reordered_or_restarted_all_agree_and_go_on(core: CoreType, steps: list[Step]) -> None:
    trouble = Trouble(core)
    trouble.walk(steps)
    trouble.end_well()


@pytest.mark.parametrize("seed", range(40))
def test_long_walks_end_well_too(core: CoreType, seed: int) -> None:
    trouble = Trouble(core)
    trouble.walk(random_steps(seed, 300))
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


def test_the_same_events_have_the_same_effects(core: CoreType) -> None:
    def life() -> list[str]:
        net = Network(3, core)
        net.tick(2 * limits.ELECTION_TICKS_MAX)
        net.propose(TWO, "a", "b")
        net.ask_barrier(THREE)
        net.talk()
        return [repr(letter) for letter in net.sent]

    assert life() == life()
