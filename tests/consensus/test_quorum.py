"""Quorum arithmetic against the definition it must satisfy."""

from __future__ import annotations

from itertools import combinations

import pytest

from quorate.consensus.quorum import is_quorum, majority
from quorate.types import ReplicaId


def some(*ids: int) -> list[ReplicaId]:
    return [ReplicaId(each) for each in ids]


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (9, 5)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    assert majority(voters) == needed


@pytest.mark.parametrize("voters", range(1, 8))
def test_any_two_quorums_share_a_voter(voters: int) -> None:
    quorums = [set(chosen) for chosen in combinations(range(voters), majority(voters))]
    assert all(one & other for one in quorums for other in quorums)


@pytest.mark.parametrize("voters", range(1, 8))
def test_quorums_before_and_after_one_voter_comes_share_a_voter(voters: int) -> None:
    before = [set(chosen) for chosen in combinations(range(voters), majority(voters))]
    after = [set(chosen) for chosen in combinations(range(voters + 1), majority(voters + 1))]
    assert all(one & other for one in before for other in after)


def test_quorums_before_and_after_two_changes_need_not_meet() -> None:
    """Why a change waits for the one before it."""
    assert is_quorum(some(1, 2), some(1, 2, 3))
    assert is_quorum(some(3, 4, 5), some(1, 2, 3, 4, 5))


@pytest.mark.parametrize("voters", range(1, 8))
def test_one_fewer_is_no_quorum(voters: int) -> None:
    everyone = some(*range(voters))
    assert is_quorum(everyone[: majority(voters)], everyone)
    assert not is_quorum(everyone[: majority(voters) - 1], everyone)


def test_only_voters_count() -> None:
    assert not is_quorum(some(1, 7, 8, 9), some(1, 2, 3))
    assert is_quorum(some(1, 2, 9), some(1, 2, 3))


def test_of_no_voters_there_is_no_quorum() -> None:
    assert not is_quorum(some(1, 2), [])
