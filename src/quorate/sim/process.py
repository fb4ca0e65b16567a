"""One life of a replica: a core, its driver, and what stands in for the replica room.

The driver does what the contract of `consensus/core.py` asks of a driver, and no more: it persists in order, holds each
Send until its `after` is durable, delivers, answers SendChosen from the disk, and takes nothing when the disk is full.
The room above is reduced to its duties: apply what is delivered, answer a command when its turn comes, hold reads until
their barrier is applied, and keep snapshots. All of it dies with the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quorate.consensus.core import (
    Change,
    ChangeAnswered,
    ChangeRequested,
    Core,
    Deliver,
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
    Send,
    SendChosen,
    SnapshotNeeded,
    Tick,
    Trace,
    Trimmed,
)
from quorate.sim.app import Effect, Snapshot, batch_of, command_of
from quorate.sim.reads import Answer, Done, Read, Reads
from quorate.sim.swarm import Fault
from quorate.sim.transfer import SnapshotRoom, StateMessage
from quorate.sim.violation import require
from quorate.storage.room import Room
from quorate.types import Base, Command, Membership, ReplicaId, Slot
from quorate.wire import Channel

if TYPE_CHECKING:
    from quorate.sim.machine import Machine

HAND_OVER_TICKS = 20
"""A disk without room keeps no leader: looked at so often."""


class Process:
    """Drives one core from its start to its death."""

    def __init__(self, machine: Machine, life: int, core: Core, membership: Membership, rng: random.Random) -> None:
        self.me = machine.me
        self.life = life
        self.core = core
        self.membership = membership
        self._machine = machine
        self._disk = machine.disk
        self._world = machine.surroundings
        self._judge = self._world.invariants
        self._durable = 0
        self._held: list[Send] = []
        self._writes: dict[int, list[Done]] = {}
        self._changes: dict[int, Callable[[str], None]] = {}
        self._change_token = 0
        self._reads = Reads()
        self._ticks = 0
        self.app = self._world.kit.app()
        self.delivered: Slot = 0
        self._base = self._disk.image.base
        """Where the log begins, durably or not yet."""
        self._restore()
        self.snapshots = SnapshotRoom(self, self._disk, rng, self._world.faults, self._world.swarm)
        self._carry_out: dict[type, Callable[[Any], None]] = {
            Persist: self._disk.write,
            Send: self._on_send,
            SendChosen: self._on_send_chosen,
            Deliver: self._on_deliver,
            ReadReady: self._on_read_ready,
            Reconfigured: self._on_reconfigured,
            ChangeAnswered: self._on_change_answered,
            SnapshotNeeded: lambda effect: self.snapshots.need(effect.slot),
            Trace: lambda effect: self._world.transcript.note(self.me, effect.what, effect.detail),
        }

    def _restore(self) -> None:
        """Start from the newest snapshot, and apply the log behind it."""
        image = self._disk.image
        self._judge.on_boot(self.me, image)
        if image.snapshots:
            newest = image.snapshots[-1]
            self.app, self.delivered = self._world.kit.app.load(newest.state), newest.base.slot
        for slot in range(self.delivered + 1, image.chosen + 1):
            vote = image.votes.get(slot)
            there = vote is not None and vote.batch == self._judge.chosen[slot]
            require(there, "the log reaches back to the snapshot", "replica", self.me, "lacks", slot, image.base)
            self._apply(slot, self._judge.commands_at(slot))
            self.delivered = slot

    def start(self) -> None:
        """Go on behind a snapshot that the log has not reached yet, because a crash came in between."""
        image = self._disk.image
        if image.ends() > image.chosen:
            self._go_on_behind(image.snapshots[-1])

    # --- events ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick pass."""
        self._world.transcript.mark(self.me, "tick")
        self._ticks += 1
        self._step(Tick())
        status = self.core.status()
        if status.role == "leader":
            self._judge.on_leader(self.me, self.life, status.ballot)
        if self._disk.room is not Room.OK and self._ticks % HAND_OVER_TICKS == 0:
            self.hand_over()
        self.snapshots.tick()

    def receive(self, sender: ReplicaId, channel: Channel, data: bytes) -> None:
        """Take a message from the network."""
        if channel is Channel.STATE:
            self.snapshots.receive(sender, self._world.state_codec.decode(data))
        elif self._disk.room is Room.FULL:
            self._world.faults.hit(Fault.DISK_FULL)
        else:
            event = Received(sender, self._world.codec.decode(data))
            self._world.transcript.note(self.me, "receives", event, data)
            self._step(event)

    def persisted(self, seq: int) -> None:
        """Release the sends that waited for `seq`, then tell the core."""
        self._durable = seq
        held, self._held = self._held, []
        for send in held:
            self._on_send(send)
        self._world.transcript.note(self.me, "persisted", seq)
        self._step(Persisted(seq))

    def submit(self, number: int, done: Done) -> None:
        """Take a client's write: answer a repeated one, refuse it without a leader or room, or propose it."""
        status = self.app.answered(number)
        if status is not None:
            done(Answer(self.delivered, status))
        elif self._disk.room is not Room.OK:
            self._world.faults.hit(Fault.DISK_FULL)
            done(None)
        elif not self.core.accepts_proposals():
            done(None)
        else:
            self._writes.setdefault(number, []).append(done)
            self._world.transcript.note(self.me, "proposes", number)
            self._propose(command_of(number, self.app.stamp(), self._machine.wall_ms()))

    def _propose(self, command: Command) -> None:
        self._step(Proposed(batch_of(command)))

    def read(self, register: int, done: Done) -> None:
        """Take a client's read: answered once a barrier asked for from now on is applied."""
        self._reads.arrived.append(Read(register, done))
        self._maybe_ask()

    def change(self, change: Change, done: Callable[[str], None]) -> None:
        """Ask for a change of membership."""
        self._change_token += 1
        self._changes[self._change_token] = done
        self._step(ChangeRequested(self._change_token, change))

    def hand_over(self) -> None:
        """Let another replica lead, if this one does."""
        self._step(HandOverRequested())

    def _step(self, event: Event) -> None:
        for effect in self.core.step(event):
            self._carry_out[type(effect)](effect)
        # Never sooner: a step within a step would mix up the order of two lists of effects.
        self._maybe_ask()
        self.snapshots.maybe_take()

    # --- effects -----------------------------------------------------------------------------------------------------

    def _on_send(self, send: Send) -> None:
        if send.after > self._durable:
            self._held.append(send)
        else:
            self._put_on_wire(send.to, send.message)

    def _on_send_chosen(self, effect: SendChosen) -> None:
        stored = self._disk.image.votes
        slots = range(effect.first, min(effect.last, effect.first + self._world.swarm.learn_slots - 1) + 1)
        require(all(slot in stored for slot in slots), "what is to be sent is on disk", "replica", self.me, effect)
        votes = [stored[slot] for slot in slots]
        self._put_on_wire((effect.to,), self.core.chosen_message(effect.first, votes))

    def _put_on_wire(self, receivers: tuple[ReplicaId, ...], message: Any) -> None:
        self._judge.on_send(self.me, message)
        data = self._world.codec.encode(message)
        for receiver in receivers:
            assert receiver != self.me, "a core does not send to itself"
            self._world.transcript.note(self.me, "sends", (receiver, message), data)
            self._world.network.send(self.me, receiver, Channel.ORDER, data)

    def _on_deliver(self, effect: Deliver) -> None:
        slot, batch = effect
        self._world.transcript.note(self.me, "delivers", effect, batch.payload)
        commands = self._judge.on_deliver(self.me, slot, batch)
        self.delivered = slot
        self._apply(slot, commands)
        self._answer_reads()

    def _on_reconfigured(self, effect: Reconfigured) -> None:
        self.membership = effect.membership

    def _on_change_answered(self, effect: ChangeAnswered) -> None:
        done = self._changes.pop(effect.token, None)
        require(done is not None, "changes are answered once", "replica", self.me, effect)
        assert done is not None
        done(effect.refusal)

    # --- the replica room --------------------------------------------------------------------------------------------

    def _apply(self, slot: Slot, commands: list[Command]) -> None:
        for command in commands:
            effect = self.app.apply(command)
            self._judge.on_effect(self.me, self.app.index, effect)
            self._answer_write(slot, effect)
        self._judge.on_applied(self.me, slot, self.app)

    def _answer_write(self, slot: Slot, effect: Effect) -> None:
        for done in self._writes.pop(effect.number, ()):
            done(Answer(slot, effect.status))

    def _maybe_ask(self) -> None:
        reads = self._reads
        if reads.asked or not reads.arrived:
            return
        reads.ask(self._judge.observed)
        self._world.transcript.note(self.me, "reads", reads.token)
        self._step(ReadRequested(reads.token))

    def _on_read_ready(self, effect: ReadReady) -> None:
        reads = self._reads
        expected = bool(reads.asked) and effect.token == reads.token
        require(expected, "barriers are answered once", "replica", self.me, effect, "asked for", reads.token)
        self._judge.on_barrier(self.me, reads.observed, effect.slot)
        reads.release(effect.slot)
        self._answer_reads()

    def _answer_reads(self) -> None:
        for read in self._reads.take(self.delivered):
            read.done(Answer(self.delivered, self.app.registers[read.register]))

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def tell(self, receiver: ReplicaId, message: StateMessage) -> None:
        """Send to a peer on the channel of snapshots."""
        data = self._world.state_codec.encode(message)
        self._world.transcript.note(self.me, "tells", (receiver, message), data)
        self._world.network.send(self.me, receiver, Channel.STATE, data)

    def snapshot(self) -> Snapshot:
        """Return the state as it is now."""
        snapshot = Snapshot(self._base_here(), self.membership, self.app.dump())
        self._world.transcript.note(self.me, "snapshot", snapshot.base)
        self._judge.on_snapshot(self.me, snapshot)
        return snapshot

    def _base_here(self) -> Base:
        if self.delivered == self._base.slot:
            return self._base
        vote = self._disk.vote(self.delivered)
        assert vote is not None, "what is delivered was written"
        return Base(self.delivered, self.app.index, vote.ballot)

    def trim(self, base: Base) -> None:
        """Let go of the log up to `base`."""
        if base.slot > self._base.slot:
            self._base = base
            self._step(Trimmed(base))

    def install(self, snapshot: Snapshot) -> None:
        """Go on behind a snapshot from elsewhere, unless the log has got past it."""
        if snapshot.base.slot > self.delivered:
            self.app, self.delivered = self._world.kit.app.load(snapshot.state), snapshot.base.slot
            self._go_on_behind(snapshot)

    def _go_on_behind(self, snapshot: Snapshot) -> None:
        self._base = snapshot.base
        self._world.transcript.note(self.me, "installs", snapshot.base)
        self._judge.on_snapshot(self.me, snapshot)
        self._judge.on_install(self.me, snapshot.base, self.app)
        self._step(Installed(snapshot.base, snapshot.membership))
        for number in list(self._writes):
            if (status := self.app.answered(number)) is not None:
                self._answer_write(self.delivered, Effect(number, status, executed=False))
        self._answer_reads()

    def fetched_chunk(self) -> None:
        """Note that a transfer is under way."""
        self._machine.on_transfer()
