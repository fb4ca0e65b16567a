"""Election: silence counted in ticks."""

from __future__ import annotations

import random

from tests.consensus.conversation import ONE, TWO

from quorate import limits
from quorate.consensus.election import Election


def election(seed: int = 1) -> Election:
    return Election(random.Random(seed))


def ticks_to_canvass(one: Election) -> int:
    ticks = 1
    while not one.tick():
        ticks += 1
    return ticks


def test_a_fresh_cluster_canvasses_early() -> None:
    waits = {ticks_to_canvass(election(seed)) for seed in range(200)}
    assert min(waits) == 1
    assert max(waits) == limits.ELECTION_TICKS_MIN


def test_later_waits_are_drawn_between_the_bounds() -> None:
    waits = set()
    for seed in range(300):
        one = election(seed)
        one.wait()
        waits.add(ticks_to_canvass(one))
    assert waits == set(range(limits.ELECTION_TICKS_MIN, limits.ELECTION_TICKS_MAX + 1))


def test_a_sign_of_life_starts_the_silence_anew() -> None:
    one = election()
    one.wait()
    for _ in range(5 * limits.ELECTION_TICKS_MAX):
        one.heard(TWO)
        assert not one.tick()
    assert one.leader == TWO


def test_a_leader_is_heard_for_the_shortest_timeout() -> None:
    one = election()
    assert not one.hears_leader()
    one.heard(TWO)
    for _ in range(limits.ELECTION_TICKS_MIN):
        assert one.hears_leader()
        one.tick()
    assert not one.hears_leader()
    assert one.leader == TWO


def test_who_canvasses_believes_in_nobody_and_supports_itself() -> None:
    one = election()
    one.heard(TWO)
    one.canvass(ONE)
    assert (one.leader, one.supporters) == (None, {ONE})


def test_a_leader_ends_a_canvass() -> None:
    one = election()
    one.canvass(ONE)
    one.heard(TWO)
    assert one.supporters is None
