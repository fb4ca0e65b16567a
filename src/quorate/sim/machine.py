"""One simulated machine: a disk that survives, and a process that lives, is paused, dies and lives again.

What the transport does for the real replica is done here: a connection has two ends, and either may refuse the other, a
replica that was removed, or whose disk is less than it is known to have been. One that is refused for good ends, and so
does one whose disk is damaged where no peer can help.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from quorate.consensus.core import Core, Persist, Recovered
from quorate.sim.app import App
from quorate.sim.clock import TICK, Clock, Transcript
from quorate.sim.disk import Disk, Image
from quorate.sim.invariants import Invariants
from quorate.sim.network import Network
from quorate.sim.process import Process
from quorate.sim.repair import Repair
from quorate.sim.rules import RulesFactory
from quorate.sim.swarm import Fault, Faults, Swarm
from quorate.types import Membership, ReplicaId
from quorate.wire import Channel

EPOCH_MS = 1_700_000_000_000
UNITS_PER_MS = TICK // 50

CoreFactory = Callable[[ReplicaId, Membership, random.Random, Recovered], Core]
"""Builds a core: itself, the founding membership, its randomness, what its disk holds."""


class Codec(Protocol):
    """Messages as bytes; `wire.MessageCodec` is one."""

    def encode(self, message: Any) -> bytes:
        """Return the bytes of a message."""
        ...

    def decode(self, data: bytes) -> Any:
        """Return the message."""
        ...


class Machine:
    """Runs one process at a time on one disk."""

    def __init__(self, me: ReplicaId, founding: Membership, disk: Disk, surroundings: Surroundings) -> None:
        self.me = me
        self.disk = disk
        self.surroundings = surroundings
        self.tick_length = TICK
        self.wall_offset_ms = 0
        self.process: Process | None = None
        self.paused = False
        self.gone = ""
        """Why it never starts again; empty as long as it may."""
        self.condemned = False
        """Its disk is no longer what it was, and nobody has noticed yet."""
        self.disturbs = False
        """It was removed and takes no notice, nor do the others' doors."""
        self.on_transfer: Callable[[], None] = lambda: None
        """Told of each chunk of a snapshot that arrives."""
        self._founding = founding
        self._repair: Repair | None = None
        self._life = 0
        self._missed: list[Callable[[Process], None]] = []
        """What happened to a paused process, in order: its sockets hold it until it resumes."""
        disk.image.store = me
        disk.on_apply = self._judge
        disk.on_durable = self._persisted
        surroundings.network.attach(me, self._receive)

    def _judge(self, persist: Persist) -> None:
        """Let a Persist be judged, unless this disk can't vouch for anything any more: then what is said will be."""
        if not self.condemned:
            self.surroundings.invariants.on_persist(self.me, persist)

    # --- life and death ----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start from what the disk holds; what is damaged is repaired before anything else."""
        assert self.process is None, "one process at a time"
        if self.gone:
            return
        self._life += 1
        self.disk.image.open(self._life)
        self.surroundings.transcript.note(self.me, "boots", self.disk.image.chosen)
        if self.disk.image.damaged:
            self._begin_repair()
        else:
            self._begin_process()
        self.surroundings.clock.after(self.tick_length, partial(self._tick, self._life))

    def _begin_repair(self) -> None:
        membership = self.disk.image.membership or self._founding
        peers = tuple(peer for peer in membership.members if peer != self.me)
        self._repair = Repair(self, peers, self._end_repair)

    def _end_repair(self, lost: str) -> None:
        self._repair = None
        if lost:
            self.retire(lost)
        else:
            self._begin_process()

    def _begin_process(self) -> None:
        seed = self.surroundings.swarm.seed
        rng = random.Random(f"core {seed} {self.me} {self._life}")
        recovered = self.disk.image.recovered()
        core = self.surroundings.kit.core(self.me, self._founding, rng, recovered)
        membership = recovered.membership or self._founding
        self.process = self.surroundings.kit.process(self, self._life, core, membership, rng)
        self.process.start()

    def wall_ms(self) -> int:
        """Return what the clock on the wall says, in milliseconds."""
        return EPOCH_MS + self.surroundings.clock.now // UNITS_PER_MS + self.wall_offset_ms

    @property
    def intact(self) -> bool:
        """Whether all that was ever durable here still is."""
        return not self.gone and not self.condemned and not self.disk.image.damaged

    @property
    def up(self) -> bool:
        """Whether anything runs here."""
        return self.process is not None or self._repair is not None

    def crash(self) -> None:
        """Kill the process: all but the platter is gone."""
        self.surroundings.transcript.note(self.me, "crashes")
        self.process = self._repair = None
        self.paused = False
        self._missed.clear()
        self.disk.crash()

    def retire(self, why: str) -> None:
        """End for good: this replica can't be itself any more."""
        self.surroundings.transcript.note(self.me, "retires", why)
        if self.up:
            self.crash()
        self.gone = why

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        self.surroundings.transcript.note(self.me, "pauses")
        self.paused = True

    def resume(self) -> None:
        """Let the process run on and find what it missed."""
        self.surroundings.transcript.note(self.me, "resumes")
        self.paused = False
        missed, self._missed = self._missed, []
        for happening in missed:
            self.reach(happening)

    def leads(self) -> bool:
        """Say whether the process believes that it leads."""
        return self.process is not None and self.process.core.status().role == "leader"

    # --- what reaches the process ------------------------------------------------------------------------------------

    def reach(self, happening: Callable[[Process], None]) -> bool:
        """Let something happen to the process, now or when it resumes. Returns False if there is none."""
        if self.process is None:
            return False
        if self.paused:
            self._missed.append(happening)
        else:
            happening(self.process)
        return True

    def _persisted(self, seq: int) -> None:
        self.reach(lambda process: process.persisted(seq))

    def _tick(self, life: int) -> None:
        if self._life != life or not self.up:
            return  # this clock belonged to an earlier life
        self.surroundings.clock.after(self.tick_length, partial(self._tick, life))
        if self._repair is not None:
            self._repair.tick()
        elif self.process is not None and not self.paused:
            self.process.tick()

    # --- the door ----------------------------------------------------------------------------------------------------

    def _receive(self, sender: ReplicaId, channel: Channel, data: bytes) -> None:
        if not self.up or not self._connects(self.surroundings.machines[sender]):
            return
        if self._repair is not None:
            self._repair.receive(sender, channel, data)
        else:
            self.reach(lambda process: process.receive(sender, channel, data))

    def _connects(self, peer: Machine) -> bool:
        """Say whether both ends of a connection accept each other; whoever is refused for good ends."""
        for end, other in ((self, peer), (peer, self)):
            if not end.believes(other.me, other.disk.image):
                other.retire("its disk is less than it was")
                return False
        self.disk.image.meet(peer.me, peer.disk.image)
        return self._admits(peer)

    def believes(self, peer: ReplicaId, image: Image) -> bool:
        """Say whether a peer's disk is no less than it was known to be."""
        return self.disk.image.believes(peer, image)

    def _admits(self, peer: Machine) -> bool:
        """Say whether a peer is a member, or may be one that is not known here yet.

        A replica is sent away only on the word of a disk. It may be needed until then: it may be the last to know that
        its removal was chosen, and who else voted for that may forget it in a crash.
        """
        membership = self.disk.image.membership or self._founding
        if peer.me > membership.last_id or peer.me in membership.members:
            return True
        if peer.disturbs:
            self.surroundings.faults.hit(Fault.DISTURBED)
            return True
        peer.retire("it was removed")
        return False


class Kit(NamedTuple):
    """What a world is built of. A planted bug takes the place of one part."""

    core: CoreFactory
    messages: Any
    """The union of the core's messages."""
    rules: RulesFactory
    app: type[App] = App
    process: type[Process] = Process
    machine: type[Machine] = Machine


class Surroundings(NamedTuple):
    """What all machines of a world share."""

    kit: Kit
    codec: Codec
    state_codec: Codec
    network: Network
    invariants: Invariants
    transcript: Transcript
    clock: Clock
    faults: Faults
    swarm: Swarm
    machines: dict[ReplicaId, Machine]
    """All that ever were."""
