"""Repair: a replica whose log is damaged asks its peers for the records before its core starts.

The model of `ordering.repair`: one peer after another is asked by Learn, as a lagging core would ask, and the Learns of
others are answered from what is whole here. A log is never cut at a damaged record.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate import limits
from quorate.consensus.messages import Behind, Learn, Learned, Message
from quorate.types import ReplicaId, Slot, Vote
from quorate.wire import Channel

if TYPE_CHECKING:
    from quorate.sim.machine import Machine


class Repair:
    """One replica's repair, from its start until no damage is left, or until no peer can help."""

    def __init__(self, machine: Machine, peers: tuple[ReplicaId, ...], on_end: Callable[[str], None]) -> None:
        self._me = machine.me
        self._image = machine.disk.image
        self._world = machine.surroundings
        self._peers = peers
        self._asked = itertools.cycle(peers)
        self._on_end = on_end
        """Told why this replica is lost, or nothing."""
        self._refused: set[ReplicaId] = set()
        """Peers that do not have the first damaged slot."""
        self._ticks = 0

    def tick(self) -> None:
        """Let one tick pass."""
        # The operator knows which peers will never answer.
        there = [peer for peer in self._peers if not self._world.machines[peer].gone]
        if self._refused.issuperset(there):
            self._on_end("no peer has what is damaged")
            return
        if self._ticks % limits.RESEND_TICKS == 0:
            self._send(next(self._asked), Learn(min(self._image.damaged)))
        self._ticks += 1

    def receive(self, sender: ReplicaId, channel: Channel, data: bytes) -> None:
        """Take what a peer says; all but Learn and its answers is left to its repetition."""
        if channel is not Channel.ORDER:
            return
        match self._world.codec.decode(data):
            case Learn(first):
                self._answer(sender, first)
            case Learned(first, votes, chosen):
                self._take(first, votes)
                if not votes and first <= chosen:
                    self._lacks(sender, first, first)
            case Behind(base):
                self._lacks(sender, 1, base)

    def _answer(self, asker: ReplicaId, first: Slot) -> None:
        image = self._image
        whole = min((slot - 1 for slot in image.damaged if slot >= first), default=image.chosen)
        last = min(whole, image.chosen, first + self._world.swarm.learn_slots - 1)
        slots = range(first, last + 1) if image.base.slot < first else range(0)
        self._send(asker, Learned(first, tuple(image.votes[slot] for slot in slots), image.chosen))

    def _take(self, first: Slot, votes: tuple[Vote, ...]) -> None:
        told = dict(enumerate(votes, first))
        mended = sorted(slot for slot in self._image.damaged if slot in told)
        for slot in mended:
            self._image.votes[slot] = told[slot]
            self._image.damaged.discard(slot)
            self._world.transcript.note(self._me, "repairs", slot)
        if mended:
            self._refused.clear()
        if not self._image.damaged:
            self._on_end("")

    def _lacks(self, sender: ReplicaId, first: Slot, last: Slot) -> None:
        """Note that a peer has no slot from `first` to `last`; it may tell late, of one that is mended by now."""
        if self._image.damaged and first <= min(self._image.damaged) <= last:
            self._refused.add(sender)

    def _send(self, to: ReplicaId, message: Message) -> None:
        data = self._world.codec.encode(message)
        self._world.transcript.note(self._me, "sends", (to, message), data)
        self._world.network.send(self._me, to, Channel.ORDER, data)
