"""Records of what was ever durable."""

from __future__ import annotations

from tests.sim.court import B1, X, Y

from quorate.consensus.core import Persist
from quorate.sim.rules import Record
from quorate.types import Base, Vote


def test_a_record_forgets_nothing_but_what_a_core_cuts_off() -> None:
    record = Record()
    record.apply(Persist(1, B1, [(1, Vote(B1, X)), (2, Vote(B1, Y))], 1))
    record.apply(Persist(2, B1, [], 1, base=Base(1, 1, B1)))
    assert record.holds(1, X)
    assert not record.holds(1, Y)
    record.apply(Persist(3, B1, [], 1, last=1))
    assert not record.holds(2, Y)
    assert (record.promised, record.chosen) == (B1, 1)


def test_a_snapshot_from_elsewhere_stands_for_all_before_it() -> None:
    assert Record(installed=2).holds(2, X)
    assert not Record(installed=2).holds(3, X)
