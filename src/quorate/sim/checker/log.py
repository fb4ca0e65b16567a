"""A log as a sequential object: entries are appended at the end, and stay where they are.

Its states are the nodes of one tree, in which equal contents are the same node: to compare and to hash them takes no
time, and a state shares all its entries with those before it. Each node has a second, farther link towards the root
(Myers, "An Applicative Random-Access Stack", 1983), so any entry is found in a logarithmic number of steps.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from quorate.sim.checker.history import UNSEEN, Operation

ENTRIES_SHOWN_MAX = 3


@dataclass(frozen=True)
class Append:
    """Adds an entry at the end, and answers its position, counted from 1."""

    entry: Hashable


@dataclass(frozen=True)
class ReadEntry:
    """Answers the entry at a position counted from 1, or None where there is none; 0 stands for the last one."""

    position: int


@dataclass(frozen=True)
class ReadEntries:
    """Answers all entries, as a tuple."""


@dataclass(frozen=True)
class ReadLength:
    """Answers how many entries there are."""


class Content:
    """What a log holds: a node of the tree. Two are equal only if they are the same."""

    __slots__ = ("entry", "far", "following", "length", "parent")

    parent: Content
    far: Content

    def __init__(self, parent: Content | None = None, entry: Hashable = None) -> None:
        self.entry = entry
        self.following: dict[Hashable, Content] = {}
        self.length: int = 0 if parent is None else parent.length + 1
        self.parent = self.far = parent or self
        if self.parent.length - self.parent.far.length == self.parent.far.length - self.parent.far.far.length:
            self.far = self.parent.far.far

    def appended(self, entry: Hashable) -> Content:
        """Return the content after `entry` was appended: always the same node."""
        found = self.following.get(entry)
        if found is None:
            found = self.following[entry] = Content(self, entry)
        return found

    def at(self, position: int) -> Hashable:
        """Return the entry at `position`, counted from 1, or None where there is none; 0 stands for the last one."""
        if not 0 <= position <= self.length:
            return None
        node = self
        while node.length > (position or self.length):
            node = node.far if node.far.length >= position else node.parent
        return node.entry

    def is_equal(self, entries: Hashable) -> bool:
        """Say whether these are the entries, from the last to the first, where logs differ soonest."""
        if not isinstance(entries, tuple) or len(entries) != self.length:
            return False
        node = self
        for entry in reversed(entries):
            if node.entry != entry:
                return False
            node = node.parent
        return True

    def __repr__(self) -> str:
        last = [repr(self.at(at)) for at in range(max(1, self.length - ENTRIES_SHOWN_MAX + 1), self.length + 1)]
        return f"[{', '.join(['...'] * (self.length > len(last)) + last)}] of length {self.length}"


class Log:
    """A log: Append answers the position, ReadEntry, ReadEntries and ReadLength what is there."""

    def __init__(self, initial: Iterable[Hashable] = ()) -> None:
        self.entries = tuple(initial)
        content = Content()
        for entry in self.entries:
            content = content.appended(entry)
        self.initial: Hashable = content

    def step(self, state: Hashable, action: Hashable, answer: Hashable) -> tuple[bool, Hashable]:
        """See Model."""
        assert isinstance(state, Content)
        if isinstance(action, Append):
            fits = answer in (state.length + 1, UNSEEN)
            return fits, state.appended(action.entry) if fits else state
        if isinstance(action, ReadEntries):
            return answer is UNSEEN or state.is_equal(answer), state
        seen = state.at(action.position) if isinstance(action, ReadEntry) else state.length
        return answer in (seen, UNSEEN), state

    def is_read(self, action: Hashable, answer: Hashable) -> bool:
        """See Model."""
        return not isinstance(action, Append)

    def located(self, history: Sequence[Operation]) -> list[Operation]:
        """Answer appends without a position by what reads tell of it: an equal question that is quicker to decide.

        A service that does not tell positions leaves the order of concurrent appends open, and the search would have to
        try them all. But entries stay where they are, so whoever reads an entry that was appended only once has seen
        its position.
        """
        appended = Tally((one.key, one.action.entry) for one in history if isinstance(one.action, Append))
        appended.update({(key, entry): 1 for key, _ in list(appended) for entry in self.entries})
        positions = seen_positions(history)
        return [
            operation._replace(answer=positions.get((operation.key, operation.action.entry), UNSEEN))
            if isinstance(operation.action, Append)
            and operation.answer is UNSEEN
            and appended[operation.key, operation.action.entry] == 1
            else operation
            for operation in history
        ]


def seen_positions(history: Iterable[Operation]) -> dict[tuple[Hashable, Hashable], int]:
    """Return for each key and entry a position at which it was read."""
    seen: dict[tuple[Hashable, Hashable], int] = {}
    for _, key, action, answer, _, returned in history:
        if returned is None:
            continue
        if isinstance(action, ReadEntries) and isinstance(answer, tuple):
            seen.update({(key, entry): at for at, entry in enumerate(answer, start=1)})
        if isinstance(action, ReadEntry) and action.position > 0 and answer is not None:
            seen[key, answer] = action.position
    return seen
