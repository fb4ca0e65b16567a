"""The chosen log as it is read: from memory or from the store, from any point behind its base."""

from __future__ import annotations

import pytest
from tests.ordering.cluster import batch

from quorate import limits
from quorate.consensus.core import Persist
from quorate.errors import LogTrimmed
from quorate.ordering.history import History
from quorate.storage.memory import MemoryStore
from quorate.types import NO_BASE, NOOP, Ballot, Base, Batch, ReplicaId, Slot, Vote

BALLOT = Ballot(1, ReplicaId(1))
BATCHES = {1: batch("a", "b"), 2: NOOP, 3: batch("c"), 4: batch("d", "e", "f"), 5: batch("g"), 6: batch("h")}
FIRSTS = {1: 1, 2: 3, 3: 3, 4: 4, 5: 7, 6: 8}
"""The index of the first command of each."""


def stored(chosen: Slot, base: Base = NO_BASE) -> MemoryStore:
    store = MemoryStore()
    votes = [(slot, Vote(BALLOT, batch)) for slot, batch in BATCHES.items()]
    store.commit([Persist(1, BALLOT, votes, chosen, base=base if base.slot else None)])
    return store


def everything(history: History, after: Slot) -> list[tuple[Slot, int, Batch]]:
    read: list[tuple[Slot, int, Batch]] = []
    while entries := history.entries(after):
        read += entries
        after = entries[-1].point
    return read


def behind(after: Slot, last: Slot = 6) -> list[tuple[Slot, int, Batch]]:
    return [(slot, FIRSTS[slot], BATCHES[slot]) for slot in range(after + 1, last + 1)]


@pytest.mark.parametrize("chosen", [0, 1, 4, 6])
@pytest.mark.parametrize("cache_bytes", [0, 60, 1 << 20])
def test_every_cursor_reads_the_same_from_memory_and_store(
    chosen: Slot, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELIVERY_CACHE_BYTES", cache_bytes)
    monkeypatch.setattr(limits, "DELIVERY_SLOTS_MAX", 2)
    history = History(stored(6), NO_BASE, chosen)
    for slot in range(chosen + 1, 7):
        history.append(slot, BATCHES[slot], stored=6)
    assert (history.last, history.last_index) == (6, 8)
    for after in range(7):
        assert everything(history, after) == behind(after)


def test_what_the_store_does_not_hold_yet_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DELIVERY_CACHE_BYTES", 0)
    history = History(MemoryStore(), NO_BASE, 0)
    for slot in range(1, 7):
        history.append(slot, BATCHES[slot], stored=0)
    assert everything(history, 0) == behind(0)


def test_a_log_begins_behind_its_base() -> None:
    base = Base(3, 3, BALLOT)
    history = History(stored(6, base), base, 6)
    assert (history.last, history.last_index, history.index_at(3)) == (6, 8, 3)
    for after in (3, 4, 6):
        assert everything(history, after) == behind(after)
    with pytest.raises(LogTrimmed, match="slot 3 is no longer in the log, which begins after slot 3"):
        history.entries(2)


@pytest.mark.parametrize("point", [1, 4, 6])
def test_trimmed_while_it_is_read(point: Slot) -> None:
    history = History(stored(4), NO_BASE, 4)
    for slot in (5, 6):
        history.append(slot, BATCHES[slot], stored=4)
    base = Base(point, history.index_at(point), BALLOT)
    history.trim(base)
    history.trim(base)
    assert history.base == base
    with pytest.raises(LogTrimmed):
        history.entries(point - 1)
    assert everything(history, point) == behind(point)
    assert (history.last, history.last_index) == (6, 8)


def test_it_goes_on_behind_an_installed_snapshot() -> None:
    history = History(stored(4), NO_BASE, 4)
    history.append(5, BATCHES[5], stored=4)
    history.restart(Base(100, 500, BALLOT))
    assert (history.last, history.last_index) == (100, 500)
    assert history.entries(100) == []
    for after in (0, 5, 99):
        with pytest.raises(LogTrimmed):
            history.entries(after)
    history.append(101, BATCHES[4], stored=4)
    assert everything(history, 100) == [(101, 501, BATCHES[4])]
