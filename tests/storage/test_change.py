"""Persists merged to one change do what they would do one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.consensus.core import Persist
from quorate.limits import COUNTER_MAX
from quorate.storage.change import Change, merged
from quorate.types import NO_BALLOT, NO_BASE, Ballot, Base, Batch, ReplicaId, Slot, Vote, founding


def vote(name: str) -> Vote:
    return Vote(NO_BALLOT, Batch(1, name.encode()))


votes = st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc").map(vote)), max_size=4)
persists = st.builds(Persist, st.just(1), st.just(NO_BALLOT), votes, st.just(0), last=st.none() | st.integers(0, 9))


@given(st.dictionaries(st.integers(1, 9), st.just(vote("old"))), st.lists(persists, min_size=1, max_size=5))
def test_votes_end_up_as_one_after_the_other(before: dict[Slot, Vote], group: list[Persist]) -> None:
    one_by_one = before
    for persist in group:
        if persist.last is not None:
            one_by_one = {slot: vote for slot, vote in one_by_one.items() if slot <= persist.last}
        one_by_one = one_by_one | dict(persist.votes)
    change = merged(group, NO_BASE)
    assert {slot: vote for slot, vote in before.items() if slot <= change.last} | change.votes == one_by_one


def test_of_all_else_the_last_word_counts() -> None:
    one, two = Ballot(1, ReplicaId(1)), Ballot(2, ReplicaId(2))
    alone = founding({ReplicaId(1): "a:1"})
    group = [
        Persist(1, one, [], 1, membership=alone, base=Base(1, 1, one)),
        Persist(2, two, [], 2),
    ]
    assert merged(group, NO_BASE) == Change(two, 2, {}, COUNTER_MAX, Base(1, 1, one), alone)
    assert merged(group[1:], Base(1, 2, one)) == Change(two, 2, {}, COUNTER_MAX, Base(1, 2, one), None)
