"""The log model: states, and positions that reads tell."""

from __future__ import annotations

import random

from tests.sim.checker.histories import by_brute_force, did, recorded, spoilt

from quorate.sim.checker import UNSEEN, Append, Log, Operation, ReadEntries, ReadEntry, ReadLength, check
from quorate.sim.checker.log import Content


def filled(entries: range) -> Content:
    content = Content()
    for entry in entries:
        content = content.appended(entry)
    return content


def test_equal_contents_are_one_state() -> None:
    root = Content()
    assert root.appended("a").appended("b") is root.appended("a").appended("b")
    assert root.appended("a").appended("b") != root.appended("b").appended("a")


def test_any_entry_is_found_by_its_position() -> None:
    content = filled(range(1, 1001))
    assert [content.at(position) for position in range(1, 1001)] == list(range(1, 1001))
    assert (content.at(0), content.at(1001), content.at(-1), Content().at(0)) == (1000, None, None, None)


def test_an_entry_is_found_in_few_steps() -> None:
    content = filled(range(100_000))
    for position in (1, 2, 50_000, 99_999):
        node, steps = content, 0
        while node.length > position:
            node = node.far if node.far.length >= position else node.parent
            steps += 1
        assert steps < 60


def test_contents_are_compared_as_a_whole() -> None:
    content = filled(range(3))
    assert content.is_equal((0, 1, 2))
    assert not any(content.is_equal(other) for other in ((0, 1), (0, 1, 3), (9, 1, 2), (0, 1, 2, 3), None))
    assert repr(filled(range(5))) == "[..., 2, 3, 4] of length 5"


def test_it_starts_with_what_the_service_starts_with() -> None:
    history = [did(1, Append("a"), 3, 0, 1), did(2, ReadEntry(2), "y", 2, 3), did(2, ReadEntry(0), "a", 4, 5)]
    assert check([*history, did(2, ReadLength(), 3, 6, 7)], Log(("x", "y"))).linearizable


def test_reads_tell_where_an_entry_is() -> None:
    history = [
        did(1, Append("a"), UNSEEN, 0, 1),
        did(2, Append("b"), UNSEEN, 0, None),
        did(3, Append("c"), UNSEEN, 0, 1),
        did(3, Append("c"), UNSEEN, 0, 1),
        did(4, ReadEntries(), ("c", "b", "c", "a"), 2, 3),
        did(5, ReadEntry(9), None, 2, 3),
    ]
    assert [one.answer for one in Log().located(history)[:4]] == [4, 2, UNSEEN, UNSEEN]


def test_a_read_behind_the_end_locates_nothing() -> None:
    history = [did(1, Append(None), UNSEEN, 0, 1), did(4, ReadEntry(9), None, 2, 3)]
    assert Log().located(history) == history


def test_what_was_there_from_the_start_is_not_located() -> None:
    history = [did(1, Append("a"), UNSEEN, 0, 1), did(4, ReadEntry(1), "a", 2, 3)]
    assert Log(("a",)).located(history) == history


def test_location_changes_no_verdict() -> None:
    for seed in range(1500):
        history = spoilt(recorded("log", seed, 1 + seed % 5, 3, 0.2), "log", seed)
        blind = [one._replace(answer=UNSEEN) if isinstance(one.action, Append) else one for one in history]
        assert by_brute_force(Log(("z",)).located(blind), Log(("z",))) == by_brute_force(blind, Log(("z",))), seed


def test_a_long_log_without_positions_is_decided_by_reads() -> None:
    """As of apps/log: appends answer `written`, and reads ask for lines here and there; one knows all at the end."""
    random_ = random.Random(1)
    entries = [f"line {number}" for number in range(2000)]
    order = sorted(range(2000), key=lambda number: number + random_.uniform(0, 8))
    history: list[Operation] = []
    for at, number in enumerate(order):
        called = at - random_.uniform(0, 8)
        history.append(did(number % 8, Append(entries[number]), UNSEEN, called, at + random_.uniform(0, 8)))
    history.append(did(9, ReadEntries(), tuple(entries[number] for number in order), 3000, 3001))
    verdict = check(Log().located(history), Log())
    assert verdict.linearizable, verdict.reason
