"""What a core has to say, in the order in which it may be said.

Messages that vouch for state wait until the Persist that holds this state is durable; so does what a replica says to
itself, for a leader must count its own vote no sooner than anybody else's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from quorate.consensus.core import Effect, Persist, Send, Trace
from quorate.types import ReplicaId, Slot


class _Vouched(NamedTuple):
    to: tuple[ReplicaId, ...]
    message: Any
    after: int | None
    """The Persist that holds what the message speaks for; None for the next, or the last if nothing changed."""


class Outbox:
    """Collects the effects of one step, and remembers which Persists are under way."""

    def __init__(self, me: ReplicaId, stored_chosen: Slot) -> None:
        self._me = me
        self.effects: list[Effect] = []
        self.persist_seq = 0
        """The last Persist issued."""
        self.durable_seq = 0
        self.stored_chosen = stored_chosen
        """The chosen prefix that the store is known to hold; above it the store may still hold other, older votes."""
        self._issued: deque[tuple[int, Slot]] = deque()
        """The Persists under way, each with the chosen prefix it records."""
        self._vouching: list[_Vouched] = []
        self._to_self: deque[tuple[int, Any]] = deque()

    def begin(self) -> None:
        """Start a new step."""
        self.effects = []

    def send(self, to: tuple[ReplicaId, ...], message: Any) -> None:
        """Send what vouches for nothing."""
        if to:
            self.effects.append(Send(to, message))

    def vouch(self, to: tuple[ReplicaId, ...], message: Any, after: int | None = None) -> None:
        """Send, to ourselves too where named, once the state it speaks for is durable."""
        self._vouching.append(_Vouched(to, message, after))

    def trace(self, what: str, **detail: Any) -> None:
        """Tell whoever is interested."""
        self.effects.append(Trace(what, detail))

    def on_persisted(self, seq: int) -> None:
        """Take note that everything up to `seq` is durable."""
        assert self.durable_seq < seq <= self.persist_seq
        self.durable_seq = seq
        while self._issued and self._issued[0][0] <= seq:
            self.stored_chosen = self._issued.popleft()[1]

    def settle(self, take_persist: Callable[[int], Persist | None], hear: Callable[[Any], None]) -> None:
        """Persist what changed, release what vouches for it, and hear our own words once they are durable."""
        while True:
            persist = take_persist(self.persist_seq + 1)
            if persist is not None:
                self.persist_seq = persist.seq
                self._issued.append((persist.seq, persist.chosen))
                self.effects.append(persist)
            self._release()
            if not self._to_self or self._to_self[0][0] > self.durable_seq:
                return
            hear(self._to_self.popleft()[1])

    def _release(self) -> None:
        vouching, self._vouching = self._vouching, []
        for to, message, known in vouching:
            after = self.persist_seq if known is None else known
            others = tuple(peer for peer in to if peer != self._me)
            if others:
                self.effects.append(Send(others, message, after if after > self.durable_seq else 0))
            if len(others) < len(to):
                self._to_self.append((after, message))
