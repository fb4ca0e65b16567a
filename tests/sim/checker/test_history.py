"""Histories as rows of returns."""

from __future__ import annotations

import pytest
from tests.sim.checker.histories import did

from quorate.sim.checker import UNSEEN, Add, Counter, Read
from quorate.sim.checker.history import moments


def test_each_return_knows_what_is_pending() -> None:
    history = [did(1, Add(1), 1, 0, 4), did(2, Read(), 1, 1, 2), did(3, Add(2), UNSEEN, 3, None)]
    first, second = moments(history, Counter())
    assert (first.returning.number, [one.number for one in first.reads]) == (1, [1])
    assert ([one.number for one in first.writes], first.unknown) == ([0], ())
    assert (second.returning.number, second.reads) == (0, ())
    assert [[one.number for one in equal] for equal in second.unknown] == [[2]]


def test_a_call_at_the_instant_of_a_return_is_pending_at_it() -> None:
    first, _ = moments([did(1, Add(1), 1, 0, 1), did(2, Read(), 0, 1, 2)], Counter())
    assert [one.number for one in first.reads] == [1]


def test_places_in_the_mask_are_used_again() -> None:
    history = [did(1, Add(1), n, n, n + 0.5) for n in range(50)]
    assert {moment.returning.bit for moment in moments(history, Counter())} == {1}


def test_an_unanswered_read_is_dropped() -> None:
    (only,) = moments([did(1, Read(), UNSEEN, 0, None), did(2, Read(), 0, 1, 2)], Counter())
    assert [one.number for one in only.reads] == [1]
    assert only.unknown == ()


def test_unknown_writes_are_alike_only_with_equal_answers() -> None:
    unknown = [did(1, Add(1), UNSEEN, 0, None), did(2, Add(1), UNSEEN, 0, None), did(3, Add(1), 7, 0, None)]
    (only,) = moments([*unknown, did(4, Read(), 0, 1, 2)], Counter())
    assert [[one.number for one in equal] for equal in only.unknown] == [[0, 1], [2]]


def test_a_return_before_its_call_is_refused() -> None:
    with pytest.raises(AssertionError):
        moments([did(1, Read(), 0, 2, 1)], Counter())
