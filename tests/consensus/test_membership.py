"""Changes of membership: what is refused, with the reason, and what the others lead to."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.consensus.conversation import address, members

from quorate import limits
from quorate.consensus.core import Change
from quorate.consensus.membership import changed, promoted, refusal
from quorate.consensus.quorum import is_quorum, majority
from quorate.types import Membership, ReplicaId


def add(replica: int) -> Change:
    return Change(ReplicaId(replica), address(ReplicaId(replica)))


def remove(replica: int) -> Change:
    return Change(ReplicaId(replica), None)


def alive(*ids: int) -> set[ReplicaId]:
    return {ReplicaId(each) for each in ids}


REFUSED = {
    "a reused id": (members(1, 2, last_id=4), add(4), alive(1, 2), "id 4 was given before"),
    "a present id": (members(1, 2, 3), add(2), alive(1, 2, 3), "the next is 4"),
    "a second learner": (members(1, 2, 3, learners=(4,)), add(5), alive(1, 2, 3), "replica 4 is still catching up"),
    "removal beside a learner": (members(1, 2, 3, learners=(4,)), remove(3), alive(1, 2, 3, 4), "replica 4 is still"),
    "too many": (members(*range(1, limits.REPLICAS_MAX + 1)), add(99), alive(1), f"{limits.REPLICAS_MAX} replicas"),
    "a stranger": (members(1, 2, 3), remove(9), alive(1, 2, 3), "replica 9 is no member"),
    "the last voter": (members(1), remove(1), alive(1), "replica 1 is the last voter"),
    "the quorum": (members(1, 2, 3), remove(2), alive(1, 2), "nothing is heard of 3"),
    "the quorum of an even number": (members(1, 2, 3, 4), remove(2), alive(1, 2), "nothing is heard of 3, 4"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_not_be_is_refused_with_the_reason(what: str) -> None:
    membership, change, heard, reason = REFUSED[what]
    assert reason in refusal(membership, change, heard)


ALLOWED = {
    "the next id": (members(1, 2, 3), add(4), alive(1)),
    "a later id": (members(1, 2, 3), add(40), alive(1)),
    "a learner's removal": (members(1, 2, 3, learners=(4,)), remove(4), alive(1)),
    "a dead voter's removal": (members(1, 2, 3), remove(3), alive(1, 2)),
    "a living voter's removal": (members(1, 2), remove(2), alive(1, 2)),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_may_be_is_not_refused(what: str) -> None:
    assert refusal(*ALLOWED[what]) == ""


def test_who_comes_is_a_learner_first() -> None:
    after = changed(members(1, 2, 3), add(4))
    assert after == members(1, 2, 3, version=1, learners=(4,))
    assert dict(after.addresses)[ReplicaId(4)] == "host4:7000"


def test_a_learner_that_is_promoted_votes() -> None:
    assert promoted(members(1, 3, version=4, learners=(5,))) == members(1, 3, 5, version=5)


def test_who_goes_leaves_no_address_but_its_id_stays_given() -> None:
    after = changed(members(1, 2, 3), remove(3))
    assert after == members(1, 2, version=1, last_id=3)
    assert refusal(after, add(3), alive(1, 2))


def test_a_learner_may_go_again() -> None:
    assert changed(members(1, 2, learners=(3,)), remove(3)) == members(1, 2, version=1, last_id=3)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=30))
def test_whatever_is_asked_quorums_before_and_after_meet_and_no_id_comes_twice(asked: list[tuple[bool, int]]) -> None:
    membership, given_ids = members(1, 2, 3), {1, 2, 3}
    for comes, replica in asked:
        change = add(replica) if comes else remove(replica)
        if refusal(membership, change, membership.members):
            continue
        if comes:
            assert replica not in given_ids
            given_ids.add(replica)
        for after in (changed(membership, change), *([promoted(changed(membership, change))] if comes else [])):
            assert quorums_meet(membership, after)
            assert set(dict(after.addresses)) == set(after.members)
        membership = changed(membership, change)
        if membership.learners and replica % 2:
            membership = promoted(membership)


def quorums_meet(before: Membership, after: Membership) -> bool:
    return all(
        is_quorum(one, before.voters) and set(one) & set(other)
        for one in combinations(before.voters, majority(len(before.voters)))
        for other in combinations(after.voters, majority(len(after.voters)))
    )
