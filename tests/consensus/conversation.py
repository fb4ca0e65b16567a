"""Paxos cores that talk to each other with no clock, socket or disk: a test decides who ticks and what gets lost.

Each member is a core with the duties of a driver done by hand: Persists go to a real store, at once or when the test
says `sync`, and a Send waits for the Persists it vouches for. Every delivery is checked against all others.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
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
    """One life of a core, its store, and what came of its effects."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], store: MemoryStore, seed: str) -> None:
        self.me = me
        self.store = store
        recovered = store.recover()
        self.core = PaxosCore(me, members, random.Random(seed), recovered)
        self.delivered: Slot = recovered.chosen
        self.barriers: list[ReadReady] = []
        self.slow_disk = False
        """Persists wait for `Network.sync`."""
        self.unsynced: list[Persist] = []
        self.held: list[Send] = []
        self.durable = 0

    @property
    def leads(self) -> bool:
        return self.core.status().role == "leader"


class Network:
    """Members 1 to `size`, and the letters between them in the order in which they were sent."""

    def __init__(self, size: int = 3) -> None:
        self.ids = tuple(ReplicaId(number) for number in range(1, size + 1))
        self.members: dict[ReplicaId, Member] = {}
        self.letters: deque[Letter] = deque()
        self.sent: list[Letter] = []
        """Every letter that ever left, the lost ones too."""
        self.chosen: dict[Slot, Batch] = {}
        """What any member has delivered; all that deliver a slot must agree."""
        self.loses: Callable[[Letter], bool] = lambda letter: False
        self._lives = 0
        for me in self.ids:
            self._boot(me, MemoryStore())

    def __getitem__(self, me: ReplicaId) -> Member:
        return self.members[me]

    # --- events ------------------------------------------------------------------------------------------------------

    def step(self, me: ReplicaId, event: Event) -> list[Any]:
        """Give one member an event, carry out the effects, and return them."""
        effects = self.members[me].core.step(event)
        for effect in effects:
            self._carry_out(self.members[me], effect)
        if not self.members[me].slow_disk:
            self.sync(me)
        return effects

    def tell(self, to: ReplicaId, sender: ReplicaId, message: m.Message) -> list[Any]:
        """Let a message of the test's own arrive, and return the effects."""
        return self.step(to, Received(sender, message))

    def tick(self, count: int, *who: ReplicaId) -> None:
        """Let ticks pass, for all or for some, and every letter arrive after each."""
        for _ in range(count):
            for me in who or tuple(self.members):
                self.step(me, Tick())
            self.talk()

    def talk(self) -> None:
        """Let letters arrive until none is on its way."""
        while self.letters:
            letter = self.letters.popleft()
            if letter.to in self.members and not self.loses(letter):
                self.step(letter.to, Received(letter.sender, letter.message))

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

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self, *who: ReplicaId) -> None:
        """Lose every letter to or from these members."""
        self.loses = lambda letter: letter.sender in who or letter.to in who

    def heal(self) -> None:
        self.loses = lambda letter: False

    def crash(self, me: ReplicaId) -> MemoryStore:
        """End a member; only what its disk has finished is left."""
        return self.members.pop(me).store

    def restart(self, me: ReplicaId) -> Member:
        """Crash a member and start it anew from its disk."""
        return self._boot(me, self.crash(me))

    def elect(self, me: ReplicaId) -> Ballot:
        """Let time pass until `me` leads, with nobody else trying and no older leader heard. Returns its ballot."""
        for _ in range(4 * limits.ELECTION_TICKS_MAX):
            for other in tuple(self.members):
                before = len(self.letters)
                self.step(other, Tick())
                while other != me and len(self.letters) > before:
                    self.letters.pop()
            self.talk()
            if self.members[me].leads:
                return self.members[me].core.status().ballot
        raise AssertionError(f"replica {me} was not elected")

    # --- what happened -----------------------------------------------------------------------------------------------

    def said(self, kind: type[M], by: ReplicaId | None = None, to: ReplicaId | None = None) -> list[M]:
        """Return the messages of one type that left, oldest first."""
        return [
            letter.message
            for letter in self.sent
            if isinstance(letter.message, kind) and by in (None, letter.sender) and to in (None, letter.to)
        ]

    def log(self, me: ReplicaId) -> list[str]:
        """Return what `me` knows to be chosen, no-ops as empty strings."""
        return [self.chosen[slot].payload.decode() for slot in range(1, self.members[me].delivered + 1)]

    # --- the driver's duties -----------------------------------------------------------------------------------------

    def _boot(self, me: ReplicaId, store: MemoryStore) -> Member:
        self._lives += 1
        self.members[me] = member = Member(me, self.ids, store, f"life {self._lives}")
        return member

    def _carry_out(self, member: Member, effect: Any) -> None:
        match effect:
            case Persist():
                member.unsynced.append(effect)
            case Send() if effect.after > member.durable:
                member.held.append(effect)
            case Send():
                self._post(member.me, effect.to, effect.message)
            case SendChosen(to, first, last):
                votes = member.store.read(first, last, limits.LEARN_BYTES)
                self._post(member.me, (to,), member.core.chosen_message(first, votes))
            case Deliver(slot, batch):
                self._deliver(member, slot, batch)
            case ReadReady():
                member.barriers.append(effect)

    def _commit(self, member: Member, persists: list[Persist]) -> None:
        member.store.commit(persists)
        member.durable = persists[-1].seq
        held, member.held = member.held, []
        for send in held:
            self._carry_out(member, send)
        self.step(member.me, Persisted(member.durable))

    def _post(self, sender: ReplicaId, to: tuple[ReplicaId, ...], message: Any) -> None:
        assert sender not in to, "a core does not write to itself"
        letters = [Letter(sender, receiver, message) for receiver in to]
        self.letters += letters
        self.sent += letters

    def _deliver(self, member: Member, slot: Slot, batch: Batch) -> None:
        assert slot == member.delivered + 1, "slots are delivered in order, each once"
        assert self.chosen.setdefault(slot, batch) == batch, f"two values chosen in slot {slot}"
        member.delivered = slot
