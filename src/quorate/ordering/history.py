"""The chosen log as the replica room reads it: batches by slot, and the index of the first command of each.

Recent batches are kept in memory, where the apply loop and peers just behind find them; older ones are read from the
store. Of every slot behind the base, the index it ends with is kept: 8 bytes each.
"""

from __future__ import annotations

from array import array

from quorate import limits
from quorate.errors import LogTrimmed
from quorate.ordering import Delivered
from quorate.storage import LogStore
from quorate.types import Base, Batch, Index, Slot


class History:
    """What was chosen behind `base`, up to slot `last`."""

    def __init__(self, store: LogStore, base: Base, chosen: Slot) -> None:
        self._store = store
        self.base = base
        self._ends = array("Q", [base.index])
        """`_ends[slot - base.slot]` is the index of the last command up to and in `slot`."""
        for size in store.counts(base.slot + 1, chosen):
            self._ends.append(self._ends[-1] + size)
        self._cache: dict[Slot, Batch] = {}
        """The newest batches, without a gap, from `_cache_first` on."""
        self._cache_first = chosen + 1
        self._cache_bytes = 0

    @property
    def last(self) -> Slot:
        """The end of the chosen prefix."""
        return self.base.slot + len(self._ends) - 1

    @property
    def last_index(self) -> Index:
        """The index of the last command up to `last`."""
        return self._ends[-1]

    def index_at(self, slot: Slot) -> Index:
        """Return the index of the last command up to and in `slot`, which lies between base and last."""
        return self._ends[slot - self.base.slot]

    def append(self, slot: Slot, batch: Batch, stored: Slot) -> None:
        """Take the value of the next slot; the store has everything up to `stored`."""
        assert slot == self.last + 1, (slot, self.last)
        self._ends.append(self._ends[-1] + batch.size)
        self._cache[slot] = batch
        self._cache_bytes += len(batch.payload)
        # What the store does not hold yet must stay: it can be read nowhere else.
        while self._cache_bytes > limits.DELIVERY_CACHE_BYTES and self._cache_first <= stored:
            self._cache_bytes -= len(self._cache.pop(self._cache_first).payload)
            self._cache_first += 1

    def entries(self, after: Slot) -> list[Delivered]:
        """Return what follows slot `after`: from memory if it is recent, else a stretch of it from the store.

        Raises LogTrimmed if the log no longer reaches back so far.
        """
        if after < self.base.slot:
            raise LogTrimmed(f"slot {after + 1} is no longer in the log, which begins after slot {self.base.slot}")
        first = after + 1
        if first >= self._cache_first:
            last = min(self.last, after + limits.DELIVERY_SLOTS_MAX)
            batches = [self._cache[slot] for slot in range(first, last + 1)]
        else:
            last = min(self._cache_first - 1, after + limits.DELIVERY_SLOTS_MAX)
            batches = [vote.batch for vote in self._store.read(first, last, limits.LEARN_BYTES)]
        return [Delivered(slot, self.index_at(slot - 1) + 1, batch) for slot, batch in enumerate(batches, first)]

    def trim(self, base: Base) -> None:
        """Begin after `base`: a later slot than before, and at most `last`."""
        assert self.base.slot <= base.slot <= self.last, (base, self.base)
        assert base.index == self.index_at(base.slot), (base, self.base)
        del self._ends[: base.slot - self.base.slot]
        self.base = base

    def restart(self, base: Base) -> None:
        """Begin after `base`, which lies beyond everything known so far."""
        assert base.slot > self.last, (base, self.last)
        self.base = base
        self._ends = array("Q", [base.index])
        self._cache.clear()
        self._cache_bytes = 0
        self._cache_first = base.slot + 1
