"""Timelines, as a reader sees them."""

from __future__ import annotations

from tests.sim.checker.histories import did

from quorate.sim.checker import UNSEEN, Append, Read, Write
from quorate.sim.checker.timeline import ROWS_MAX, short, timeline


def test_what_overlaps_in_the_drawing_was_concurrent() -> None:
    solid = [did(2, Read(), 1, 1, 2), did(3, Read(), 0, 3, 3.5)]
    dotted = [did(1, Write(1), UNSEEN, 0, None)]
    assert timeline(solid, dotted) == [
        "client 1: Write(value=1) -> ?  :...........>  0.000000 to never",
        "client 2: Read() -> 1             |--|        1.000000 to 2.000000",
        "client 3: Read() -> 0                   |--|  3.000000 to 3.500000",
    ]


def test_a_call_at_the_instant_of_a_return_is_drawn_before_it() -> None:
    first, second = timeline([did(1, Write(1), None, 0, 1), did(2, Read(), 0, 1, 2)], [])
    assert first.index("|", first.index("|") + 1) > second.index("|")


def test_what_is_too_long_is_cut() -> None:
    rows = timeline([did(1, Append("x" * 1000), n, n, n + 0.5) for n in range(ROWS_MAX + 5)], [])
    assert rows[0] == "(and 5 called earlier)"
    assert len(rows) == ROWS_MAX + 1
    assert len(rows[-1]) < 300
    assert len(short(tuple(range(10_000)))) < 80
