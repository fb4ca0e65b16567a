"""Reduces a refused history to a smallest set of operations that contradict each other.

What may be left out. An operation that had not returned by the refused return can't be to blame for it: the others are
refused whether or not it took effect. A read changes nothing, so without it the others are as right or wrong as before.
A write that returned can't just be dropped, though: what saw its effect would then be wrong on its own. It is *set
aside* instead: it may or may not have happened, and if it did, then before its return and with its answer. That allows
every order that was allowed before, and more; if there still is none, the history is wrong without this write's help.

So the contradiction is a smallest set of operations such that no order explains them, whatever became of all others:
set aside any one of them too, and an order exists. QuickXplain (Junker 2004) finds it in about k log(n/k) searches for
k out of n. The context, found likewise, is a smallest set of the other writes that makes the contradiction a matter of
all its operations: with no more than these, any one of them can be dropped, and an order exists. It is sought among the
last writes only: a chain of dozens of additions that led to a value makes nothing clearer.

Only a window of the last returns is looked at; those before it count as they are, by the states they can lead to. A
search that takes too long decides nothing, and a shorter window is tried, with fewer operations to set aside. The
shortest is the refused return alone, where nothing is left to decide.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from quorate.sim.checker.history import Operation
from quorate.sim.checker.search import OutOfTime, Search

WINDOWS = (200, 40, 8, 1)
"""Returns: the first reach back to what is to blame in most histories, and searches are mostly quick in them."""

WINDOW_SHARE = 2
"""One window may take this part of the time that is left."""

CONTEXT_SOUGHT_MAX = 8
"""Writes, the last ones, among which the context is sought."""

TRIAL_SHARE = 8
"""One search may take this part of the time that is left, so that one hard case does not stand for all."""


class CounterExample(NamedTuple):
    """Why a history is refused."""

    refused: Operation
    """The operation whose return no order explains; the last of the contradiction to return."""
    states: tuple[Hashable, ...]
    """Those possible before that return, writes aside that were still pending."""
    contradiction: tuple[Operation, ...]
    """No order explains them, whatever became of the others. In the order of the history."""
    context: tuple[Operation, ...]
    """Writes that may have happened, and make the contradiction what it is; none where the last few don't suffice."""
    start: tuple[Hashable, ...]
    """States possible before the window; the initial one where it reaches back to the beginning."""
    before: int
    """Returns before the window."""


def counterexample(history: Sequence[Operation], search: Search, deadline: float) -> CounterExample:
    """Reduce what `search` has refused; `history` is what its moments were made of."""
    at = search.furthest()
    for returns in WINDOWS:
        reduction = Reduction(search, at, max(0, at + 1 - returns), share(deadline, WINDOW_SHARE))
        contradiction = reduction.contradiction()
        if reduction.is_decided:
            break
    context = reduction.context(contradiction)
    return CounterExample(
        search.moments[at].returning.operation,
        search.states_at(at),
        tuple(history[number] for number in sorted(contradiction)),
        tuple(history[number] for number in sorted(context)),
        search.states_at(reduction.first),
        reduction.first,
    )


def share(deadline: float, parts: int) -> float:
    """Return the end of the first of so many parts of the time from now to `deadline`."""
    now = time.monotonic()
    return now + (deadline - now) / parts


class Reduction:
    """Trials over the returns from `first` to the refused one, `at`."""

    def __init__(self, search: Search, at: int, first: int, deadline: float) -> None:
        self.model = search.model
        self.first = first
        self.moments = search.moments[first : at + 1]
        self.starts = [met._replace(at=0) for met in search.met if met.at == first]
        self.deadline = deadline
        self.is_decided = True
        self.refused = self.moments[-1].returning.number
        self.returned = [moment.returning.number for moment in reversed(self.moments)]
        self.writes = self._writes()

    def _writes(self) -> list[int]:
        """Return the numbers of all writes that were pending at some return, the latest called first."""
        writes = {write for moment in self.moments for group in (moment.writes, *moment.unknown) for write in group}
        latest_first = sorted(writes, key=lambda write: (write.operation.called, write.number), reverse=True)
        return [write.number for write in latest_first]

    def contradiction(self) -> frozenset[int]:
        """Return a smallest set of operations that no order explains; the later ones are preferred."""
        refused = frozenset([self.refused])
        return refused | fewest(self.returned[1:], functools.cache(self._is_refused), refused)

    def context(self, contradiction: frozenset[int]) -> frozenset[int]:
        """Return a smallest set of other writes that explains all of the contradiction but any one operation."""

        @functools.cache
        def explains(context: frozenset[int]) -> bool:
            return all(self._is_explained(contradiction - {spared}, context) for spared in contradiction)

        others = [number for number in self.writes if number not in contradiction][:CONTEXT_SOUGHT_MAX]
        found = fewest(others, explains) if explains(frozenset(others)) else frozenset()
        return found if self.is_decided else frozenset()

    def _is_refused(self, required: frozenset[int]) -> bool:
        """Say whether no order has all of `required`, and any of the others."""
        return self._order_exists(required, frozenset(self.writes)) is False

    def _is_explained(self, required: frozenset[int], possible: frozenset[int]) -> bool:
        """Say whether an order has all of `required`, and some of `possible`."""
        return self._order_exists(required, possible) is True

    def _order_exists(self, required: frozenset[int], possible: frozenset[int]) -> bool | None:
        """Return None where a search took too long."""
        set_aside = {*self.returned, *self.writes} - required
        late = share(self.deadline, TRIAL_SHARE)
        barred = set_aside - possible
        trial = Search(self.model, self.moments, self.starts, lambda: time.monotonic() > late, set_aside, barred)
        try:
            return trial.order_exists()
        except OutOfTime:
            self.is_decided = False
            return None


def fewest(
    candidates: Sequence[int], suffices: Callable[[frozenset[int]], bool], kept: Iterable[int] = ()
) -> frozenset[int]:
    """Return a smallest part of `candidates` that suffices with `kept`: without any one of it they would not.

    QuickXplain. All together suffice, and more never suffice less; where there is a choice, earlier candidates win.
    """
    kept = frozenset(kept)
    if not candidates or suffices(kept):
        return frozenset()
    if len(candidates) == 1:
        return frozenset(candidates)
    middle = len(candidates) // 2
    earlier, later = candidates[:middle], candidates[middle:]
    of_later = fewest(later, suffices, kept.union(earlier))
    return of_later | fewest(earlier, suffices, kept | of_later)
