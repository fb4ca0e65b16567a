"""Cores that talk to each other with no clock, socket or disk: a test decides who ticks and what gets lost.

Each member is a core with the duties of a driver done by hand: Persists go to a real store, at once or when the test
says `sync`, and a Send waits for the Persists it vouches for. Every delivery is checked against all others. Nothing
here knows which protocol the core speaks.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from quorate import limits
from quorate.consensus.core import (
    Change,
    ChangeAnswered,
    ChangeRequested,
    Core,
    Deliver,
    Effect,
    Event,
    HandOverRequested,
    Installed,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Reconfigured,
    Recovered,
    Send,
    SendChosen,
    SnapshotNeeded,
    Tick,
    Trace,
    Trimmed,
)
from quorate.consensus.messages import Message
from quorate.consensus.paxos.node import PaxosCore
from quorate.storage.memory import MemoryStore
from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote, founding

ONE, TWO, THREE, FOUR, FIVE, SIX = (ReplicaId(number) for number in range(1, 7))

M = TypeVar("M", bound=Message)
CoreType = Callable[[ReplicaId, Membership, random.Random, Recovered], Core]


def ballot(round_: int, replica: int) -> Ballot:
    return Ballot(round_, ReplicaId(replica))


def value(name: str) -> Batch:
    return Batch(1, name.encode())


def vote(round_: int, replica: int, name: str) -> Vote:
    return Vote(ballot(round_, replica), value(name))


def members(*ids: int, version: int = 0, learners: tuple[int, ...] = (), last_id: int = 0) -> Membership:
    """Return a membership of voters `ids`, each at the address a network gives it."""
    everyone = tuple(sorted(ReplicaId(each) for each in (*ids, *learners)))
    addresses = tuple((each, address(each)) for each in everyone)
    voters, learning = (tuple(ReplicaId(each) for each in some) for some in (ids, learners))
    return Membership(version, voters, learning, addresses, ReplicaId(max(last_id, *everyone)))


def address(me: ReplicaId) -> str:
    return f"host{me}:7000"


def describe(batch: Batch) -> str:
    """Return a value in short: its commands, nothing for a no-op, `[1 2 3 +4]` for voters and learners."""
    membership = Membership.of(batch)
    if membership is None:
        return batch.payload.decode()
    return f"[{' '.join([*map(str, membership.voters), *(f'+{learner}' for learner in membership.learners)])}]"


class Letter(NamedTuple):
    """A message on its way."""

    sender: ReplicaId
    to: ReplicaId
    message: Any


class Snapshot(NamedTuple):
    """What is known of a snapshot: the state itself is the driver's."""

    base: Base
    membership: Membership


class Member:
    """One life of a core, its store, and what came of its effects."""

    def __init__(self, core: CoreType, me: ReplicaId, founders: Membership, store: MemoryStore, seed: str) -> None:
        self.me = me
        self.store = store
        recovered = store.recover()
        self.core = core(me, founders, random.Random(seed), recovered)
        self.delivered: Slot = recovered.chosen
        self.membership = recovered.membership or founders
        """As of the last slot delivered."""
        self.base = recovered.base
        self.barriers: list[ReadReady] = []
        self.answers: dict[int, str] = {}
        """Refusals, or empty strings, by the token of the change."""
        self.snapshots_needed: list[Slot] = []
        self.traces: list[Trace] = []
        self.persists: list[Persist] = []
        """All of this life."""
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

    def __init__(self, size: int = 3, core: CoreType = PaxosCore) -> None:
        self.ids = tuple(ReplicaId(number) for number in range(1, size + 1))
        """All that ever were members, in the order of coming."""
        self.members: dict[ReplicaId, Member] = {}
        self.letters: deque[Letter] = deque()
        self.sent: list[Letter] = []
        """Every letter that ever left, the lost ones too."""
        self.chosen: dict[Slot, Batch] = {}
        """What any member has delivered; all that deliver a slot must agree."""
        self.loses: Callable[[Letter], bool] = lambda letter: False
        self.watch: Callable[[ReplicaId, Effect], None] = lambda me, effect: None
        """Told of every effect, in order."""
        self._core = core
        self._founders = founding({me: address(me) for me in self.ids})
        self._lives = 0
        self._changes = 0
        for me in self.ids:
            self._boot(me, MemoryStore())

    def __getitem__(self, me: ReplicaId) -> Member:
        return self.members[me]

    @property
    def leader(self) -> ReplicaId:
        """The one member that leads."""
        (leader,) = (me for me, member in self.members.items() if member.leads)
        return leader

    # --- events ------------------------------------------------------------------------------------------------------

    def step(self, me: ReplicaId, event: Event) -> list[Any]:
        """Give one member an event, carry out the effects, and return them."""
        effects = self.members[me].core.step(event)
        for effect in effects:
            self.watch(me, effect)
            self._carry_out(self.members[me], effect)
        if not self.members[me].slow_disk:
            self.sync(me)
        return effects

    def tell(self, to: ReplicaId, sender: ReplicaId, message: Message) -> list[Any]:
        """Let a message of the test's own arrive, and return the effects."""
        return self.step(to, Received(sender, message))

    def tick(self, count: int = 1, *who: ReplicaId) -> None:
        """Let time pass, for all members or for `who`, and let them talk after each tick."""
        for _ in range(count):
            for me in who or tuple(self.members):
                self.step(me, Tick())
            self.talk()

    def talk(self) -> None:
        """Let letters arrive, and the answers to them, until nobody has anything to say."""
        while self.letters:
            letter = self.letters.popleft()
            if letter.to in self.members and not self.loses(letter):
                self.tell(letter.to, letter.sender, letter.message)

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

    # --- members and snapshots ---------------------------------------------------------------------------------------

    def join(self, me: ReplicaId) -> None:
        """Start a replica with an empty disk that knows nobody; it hears of the others once they know of it."""
        self.ids = (*self.ids, me)
        self._boot(me, MemoryStore())

    def change(self, at: ReplicaId, change: Change) -> str | None:
        """Ask for a change, and return the answer if one comes of the conversation: empty, or why it was refused."""
        self._changes += 1
        self.step(at, ChangeRequested(self._changes, change))
        self.talk()
        return self.members[at].answers.get(self._changes)

    def add(self, me: ReplicaId, at: ReplicaId | None = None) -> str | None:
        """Start a new replica and ask the leader, or whoever is `at`, to let it in."""
        self.join(me)
        return self.change(at or self.leader, Change(me, address(me)))

    def remove(self, me: ReplicaId, at: ReplicaId | None = None) -> str | None:
        return self.change(at or self.leader, Change(me, None))

    def hand_over(self, me: ReplicaId) -> None:
        self.step(me, HandOverRequested())

    def snapshot(self, me: ReplicaId) -> Snapshot:
        """Return a snapshot of what `me` has delivered."""
        member = self.members[me]
        if member.delivered == member.base.slot:
            return Snapshot(member.base, member.membership)
        (last,) = member.store.read(member.delivered, member.delivered, 1)
        index = sum(self.chosen[slot].size for slot in range(1, member.delivered + 1))
        return Snapshot(Base(member.delivered, index, last.ballot), member.membership)

    def trim(self, me: ReplicaId) -> Snapshot:
        """Take a snapshot, and let it stand for the log so far."""
        snapshot = self.snapshot(me)
        self.step(me, Trimmed(snapshot.base))
        return snapshot

    def install(self, me: ReplicaId, snapshot: Snapshot) -> list[Any]:
        """Make a snapshot from elsewhere durable at `me`, tell its core, and return the effects."""
        member = self.members[me]
        if snapshot.base.slot > member.delivered:
            member.delivered = snapshot.base.slot
        return self.step(me, Installed(snapshot.base, snapshot.membership))

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

    def revive(self, me: ReplicaId, store: MemoryStore) -> Member:
        """Start a member anew that crashed and left `store`."""
        return self._boot(me, store)

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
        """Return what `me` knows to be chosen, each value in short."""
        return [describe(self.chosen[slot]) for slot in range(1, self.members[me].delivered + 1)]

    def commands(self, me: ReplicaId) -> list[str]:
        """Return the values of clients that `me` knows to be chosen."""
        slots = range(1, self.members[me].delivered + 1)
        return [describe(self.chosen[slot]) for slot in slots if self.chosen[slot].size]

    # --- the driver's duties -----------------------------------------------------------------------------------------

    def _boot(self, me: ReplicaId, store: MemoryStore) -> Member:
        self._lives += 1
        founders = self._founders if me in self._founders.voters else founding({})
        self.members[me] = member = Member(self._core, me, founders, store, f"life {self._lives}")
        return member

    def _carry_out(self, member: Member, effect: Effect) -> None:
        match effect:
            case Persist():
                member.base = effect.base or member.base
                member.persists.append(effect)
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
            case Reconfigured(membership):
                member.membership = membership
            case ChangeAnswered(token, refusal):
                member.answers[token] = refusal
            case SnapshotNeeded(slot):
                member.snapshots_needed.append(slot)
            case Trace():
                member.traces.append(effect)

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
