"""One life of a replica: a core, its driver, and what stands in for the replica room.

The driver does what the contract of `consensus/core.py` asks of a driver, and no more: it persists in order, holds each
Send until its `after` is durable, delivers, and answers SendChosen from the disk. The room above is reduced to its
duties: answer a command when it is delivered here, at once if it was delivered before, and hold reads until their
barrier is applied. All of it dies with the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from quorate.consensus.core import (
    Core,
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
    Trace,
)
from quorate.sim.clock import Transcript
from quorate.sim.disk import Disk
from quorate.sim.invariants import Invariants, batch_of, commands_in, require
from quorate.sim.network import Network
from quorate.types import Batch, ReplicaId, Slot

Done = Callable[[Slot | None], None]
"""Told once as of which slot a call was answered, or None if it was refused; if the process dies it is never told."""


class Codec(Protocol):
    """Messages as bytes; `wire.MessageCodec` is one."""

    def encode(self, message: Any) -> bytes:
        """Return the bytes of a message."""
        ...

    def decode(self, data: bytes) -> Any:
        """Return the message."""
        ...


class Surroundings(NamedTuple):
    """What every process of a world shares."""

    codec: Codec
    network: Network
    invariants: Invariants
    transcript: Transcript
    learn_slots: int
    """Slots of one catch-up answer."""


class Process:
    """Drives one core from its start to its death."""

    def __init__(self, me: ReplicaId, life: int, core: Core, disk: Disk, surroundings: Surroundings) -> None:
        self.me = me
        self.life = life
        self.core = core
        self._disk = disk
        self._codec, self._network, self._invariants, self._transcript, self._learn_slots = surroundings
        self.delivered: Slot = disk.image.chosen
        self._invariants.on_boot(me)
        self._durable = 0
        self._held: list[Send] = []
        self._writes: dict[int, list[Done]] = {}
        self._reads = Reads()
        self._carry_out: dict[type, Callable[[Any], None]] = {
            Persist: disk.write,
            Send: self._on_send,
            SendChosen: self._on_send_chosen,
            Deliver: self._on_deliver,
            ReadReady: self._on_read_ready,
            Trace: lambda effect: self._transcript.note(me, effect.what, effect.detail),
        }

    # --- events ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick pass."""
        self._transcript.mark(self.me, "tick")
        self._step(Tick())
        status = self.core.status()
        if status.role == "leader":
            self._invariants.on_leader(self.me, self.life, status.ballot)

    def receive(self, sender: ReplicaId, data: bytes) -> None:
        """Take a message from the network."""
        event = Received(sender, self._codec.decode(data))
        self._transcript.note(self.me, "receives", event, data)
        self._step(event)

    def persisted(self, seq: int) -> None:
        """Release the sends that waited for `seq`, then tell the core."""
        self._durable = seq
        held, self._held = self._held, []
        for send in held:
            self._on_send(send)
        self._transcript.note(self.me, "persisted", seq)
        self._step(Persisted(seq))

    def submit(self, command: int, done: Done) -> None:
        """Take a client's command: answer a repeated one, refuse it without a leader, or propose it."""
        slot = self._invariants.first_slot.get(command)
        if slot is not None and slot <= self.delivered:
            done(slot)
        elif not self.core.accepts_proposals():
            done(None)
        else:
            self._writes.setdefault(command, []).append(done)
            self._transcript.note(self.me, "proposes", command)
            self._step(Proposed(batch_of(command)))

    def read(self, done: Done) -> None:
        """Take a client's read: answered once a barrier asked for from now on is applied."""
        self._reads.arrived.append(done)
        self._maybe_ask()

    def _step(self, event: Event) -> None:
        for effect in self.core.step(event):
            self._carry_out[type(effect)](effect)
        self._maybe_ask()  # never sooner: a step within a step would mix up the order of two lists of effects

    # --- effects -----------------------------------------------------------------------------------------------------

    def _on_send(self, send: Send) -> None:
        if send.after > self._durable:
            self._held.append(send)
        else:
            self._put_on_wire(send.to, send.message)

    def _on_send_chosen(self, effect: SendChosen) -> None:
        stored = self._disk.image.votes
        slots = range(effect.first, min(effect.last, effect.first + self._learn_slots - 1) + 1)
        require(all(slot in stored for slot in slots), "what is to be sent is on disk", "replica", self.me, effect)
        votes = [stored[slot] for slot in slots]
        self._put_on_wire((effect.to,), self.core.chosen_message(effect.first, votes))

    def _put_on_wire(self, receivers: tuple[ReplicaId, ...], message: Any) -> None:
        self._invariants.on_send(self.me, message)
        data = self._codec.encode(message)
        for receiver in receivers:
            assert receiver != self.me, "a core does not send to itself"
            self._transcript.note(self.me, "sends", (receiver, message), data)
            self._network.send(self.me, receiver, data)

    def _on_deliver(self, effect: Deliver) -> None:
        slot, batch = effect
        self._transcript.note(self.me, "delivers", effect, batch.payload)
        self._invariants.on_deliver(self.me, slot, batch)
        self.delivered = slot
        self._answer_writes(batch)
        self._answer_reads()

    # --- the replica room --------------------------------------------------------------------------------------------

    def _answer_writes(self, batch: Batch) -> None:
        if self._writes:
            for command in commands_in(batch):
                for done in self._writes.pop(command, ()):
                    done(self._invariants.first_slot[command])

    def _maybe_ask(self) -> None:
        reads = self._reads
        if reads.asked or not reads.arrived:
            return
        reads.ask(self._invariants.observed)
        self._transcript.note(self.me, "reads", reads.token)
        self._step(ReadRequested(reads.token))

    def _on_read_ready(self, effect: ReadReady) -> None:
        reads = self._reads
        expected = bool(reads.asked) and effect.token == reads.token
        require(expected, "barriers are answered once", "replica", self.me, effect, "asked for", reads.token)
        self._invariants.on_barrier(self.me, reads.observed, effect.slot)
        reads.release(effect.slot)
        self._answer_reads()

    def _answer_reads(self) -> None:
        for done in self._reads.take(self.delivered):
            done(self.delivered)


class Reads:
    """Reads on their way through a barrier: arrived, asked for, released to wait for their slot."""

    def __init__(self) -> None:
        self.arrived: list[Done] = []
        self.asked: list[Done] = []
        self._released: list[tuple[Slot, list[Done]]] = []
        self.token = 0
        self.observed: Slot = 0
        """What clients had seen when the outstanding barrier was asked for."""

    def ask(self, observed: Slot) -> None:
        """Let one barrier serve all that have arrived."""
        self.asked, self.arrived = self.arrived, []
        self.token += 1
        self.observed = observed

    def release(self, slot: Slot) -> None:
        """The barrier is answered: its reads wait for `slot` only."""
        self._released.append((slot, self.asked))
        self.asked = []

    def take(self, delivered: Slot) -> list[Done]:
        """Return the reads that a replica which has delivered up to `delivered` may answer."""
        ready = [done for slot, reads in self._released if slot <= delivered for done in reads]
        if ready:
            self._released = [(slot, reads) for slot, reads in self._released if slot > delivered]
        return ready
