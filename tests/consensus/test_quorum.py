"""Quorum arithmetic against the definition it must satisfy."""

from __future__ import annotations

from itertools import combinations

import pytest

from quorate.consensus.quorum import is_quorum, majority


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (9, 5)])
def test_a_majority_is_more_than_half(members: int, needed: int) -> None:
    assert majority(members) == needed


@pytest.mark.parametrize("members", range(1, 8))
def test_any_two_quorums_share_a_member(members: int) -> None:
    quorums = [set(chosen) for chosen in combinations(range(members), majority(members))]
    assert all(one & other for one in quorums for other in quorums)


@pytest.mark.parametrize("members", range(1, 8))
def test_one_fewer_is_no_quorum(members: int) -> None:
    assert is_quorum(range(majority(members)), members)
    assert not is_quorum(range(majority(members) - 1), members)
