"""Virtual time: order, ties, and the transcript's hash."""

from __future__ import annotations

import pytest

from quorate.sim.clock import NOTES_KEPT, TICK, Clock, Transcript


def test_things_happen_when_due_and_ties_in_the_order_of_scheduling() -> None:
    clock, seen = Clock(), []
    for name, delay in (("late", 7), ("first", 5), ("second", 5)):
        clock.after(delay, lambda name=name: seen.append((clock.now, name)))  # type: ignore[misc]
    clock.run_until(6)
    assert seen == [(5, "first"), (5, "second")]
    assert clock.now == 6
    clock.run_until(7)
    assert seen[-1] == (7, "late")


def test_what_happens_may_schedule_more_within_the_same_run() -> None:
    clock, seen = Clock(), []
    clock.after(1, lambda: clock.after(0, lambda: seen.append(clock.now)))
    clock.run_until(1)
    assert seen == [1]


def test_the_past_is_refused() -> None:
    with pytest.raises(AssertionError, match="past"):
        Clock().after(-1, lambda: None)


def test_the_hash_covers_time_place_kind_and_data() -> None:
    def digest(replica: int = 1, what: str = "boots", data: bytes = b"x", time: int = 0) -> str:
        clock = Clock()
        clock.run_until(time)
        transcript = Transcript(clock)
        transcript.note(replica, what, "only for the eye", data)
        return transcript.digest()

    variants = [digest(), digest(replica=2), digest(what="dies"), digest(data=b"y"), digest(time=1)]
    assert len(set(variants)) == len(variants)
    assert digest() == digest()


def test_only_the_last_notes_are_kept_and_marks_never() -> None:
    clock = Clock()
    transcript = Transcript(clock)
    for number in range(NOTES_KEPT + 1):
        transcript.note(1, "sends", number)
    transcript.mark(2, "tick")
    clock.run_until(3 * TICK // 2)
    transcript.note(0, "heals")
    last = transcript.last()
    assert len(last) == NOTES_KEPT
    assert last[0].split() == ["0.000", "r1", "sends", "2"]
    assert last[-1].split() == ["1.500", "world", "heals"]
