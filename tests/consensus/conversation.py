"""Paxos cores that talk to each other with no clock, socket or disk: a test decides who ticks and what gets lost.

Each member is a core with the duties of a driver done by hand: Persists go to a real store, at once or when the test
says `sync`, and a Send waits for the Persists it vouches for. Every delivery is checked against all others.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from quorate import limits
from quorate.consensus.core import (
    Deliver,
    Event,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Send,
    SendChosen,
    Tick,
)
from quorate.consensus.paxos import messages as m
from quorate.consensus.paxos.node import PaxosCore
from quorate.storage.memory import MemoryStore
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote

ONE, TWO, THREE, FOUR, FIVE = (ReplicaId(number) for number in range(1, 6))

M = TypeVar("M", bound=m.Message)


def ballot(round_: int, replica: int) -> Ballot:
    return Ballot(round_, ReplicaId(replica))


def value(name: str) -> Batch:
    return Batch(1, name.encode())


def vote(round_: int, replica: int, name: str) -> Vote:
    return Vote(ballot(round_, replica), value(name))


class Letter(NamedTuple):
    """A message on its way."""

    sender: ReplicaId
    to: ReplicaId
    message: Any


class Member:
    """One core, its store, and what came of its effects."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], store: MemoryStore, seed: int) -> None:
        self.me = me
        self.store = store
        self.core = PaxosCore(me, members, random.Random(f"{seed} {me}"), store.recover())
        self.slow_disk = False
        """Persists wait for `Network.sync`."""
        self.effects: list[Any] = []
        """Everything the core has asked for, in order."""
        self.delivered: list[tuple[Slot, Batch]] = []
        self.barriers: list[ReadReady] = []
        self.unsynced: list[Persist] = []
        self.held: list[Send] = []
        self.durable = 0

    @property
    def leads(self) -> bool:
        return self.core.status().role == "leader"

    def values(self) -> list[str]:
        """Return what was delivered in this life, without the no-ops."""
        return [batch.payload.decode() for _, batch in self.delivered if batch.size]


class Network:
    """Members 1 to `size`, and the letters between them in the order in which they were sent."""

    def __init__(self, size: int = 3, seed: int = 1) -> None:
        self.ids = tuple(ReplicaId(number) for number in range(1, size + 1))
        self._seed = seed
        self.members = {me: Member(me, self.ids, MemoryStore(), seed) for me in self.ids}
        self.letters: deque[Letter] = deque()
        self.sent: list[Letter] = []
        """Every letter that ever left, the lost ones too."""
        self.chosen: dict[Slot, Batch] = {}
        self.loses: Callable[[Letter], bool] = lambda letter: False

    def __getitem__(self, me: ReplicaId) -> Member:
        return self.members[me]

    # --- events ------------------------------------------------------------------------------------------------------

    def step(self, me: ReplicaId, event: Event) -> list[Any]:
        """Give one member an event and carry out the effects, which are returned."""
        member = self.members[me]
        effects = member.core.step(event)
        member.effects += effects
        for effect in effects:
            self._carry_out(member, effect)
        return effects

    def tick(self, count: int, *who: ReplicaId) -> None:
        """Let ticks pass, for all or for some, and every letter arrive after each."""
        for _ in range(count):
            for me in who or tuple(self.members):
                self.step(me, Tick())
            self.talk()

    def talk(self) -> None:
        """Let letters arrive until none is on its way."""
        while self.letters:
            self.arrive(self.letters.popleft())

    def arrive(self, letter: Letter) -> None:
        """Let one letter arrive, unless it is lost or its receiver is down."""
        if letter.to in self.members and not self.loses(letter):
            self.step(letter.to, Received(letter.sender, letter.message))

    def tell(self, to: ReplicaId, sender: ReplicaId, message: m.Message) -> list[Any]:
        """Let a message of the test's own arrive, and return the effects."""
        return self.step(to, Received(sender, message))

    def propose(self, me: ReplicaId, *names: str) -> None:
        """Propose commands one by one, each followed by the conversation it starts."""
        for name in names:
            self.step(me, Proposed(value(name)))
            self.talk()

    def ask_barrier(self, me: ReplicaId, token: int = 1) -> None:
        self.step(me, ReadRequested(token))

    def sync(self, me: ReplicaId) -> None:
        """Let the disk of a member finish what was given to it."""
        member = self.members[me]
        persists, member.unsynced = member.unsynced, []
        if persists:
            self._commit(member, persists)

    # --- people ------------------------------------------------------------------------------------------------------

    def elect(self, me: ReplicaId) -> Ballot:
        """Let time pass until `me` leads: nobody else tries, and an older leader is not heard. Returns its ballot."""
        for _ in range(4 * limits.ELECTION_TICKS_MAX):
            for other in self.members:
                self.step(other, Tick())
                self._withhold(lambda letter: letter.sender != me)
            self.talk()
            if self.members[me].leads:
                return self.members[me].core.status().ballot
        raise AssertionError(f"replica {me} was not elected")

    def _withhold(self, rule: Callable[[Letter], bool]) -> None:
        kept = [
            letter
            for letter in self.letters
            if not (rule(letter) and isinstance(letter.message, m.Canvass | m.Heartbeat | m.Accept))
        ]
        self.letters = deque(kept)

    def cut(self, *who: ReplicaId) -> None:
        """Lose every letter to or from these members."""
        self.loses = lambda letter: letter.sender in who or letter.to in who

    def heal(self) -> None:
        self.loses = lambda letter: False

    def crash(self, me: ReplicaId) -> None:
        """End a member: what its disk has not finished is gone, and so are its held sends."""
        del self.members[me]._replaceable if False else self.members[me]  # noqa: E501

    # --- what was said -----------------------------------------------------------------------------------------------

    def said(self, kind: type[M], by: ReplicaId | None = None, to: ReplicaId | None = None) -> list[M]:
        """Return the messages of one type that left, oldest first."""
        return [
            letter.message
            for letter in self.sent
            if isinstance(letter.message, kind) and by in (None, letter.sender) and to in (None, letter.to)
        ]
