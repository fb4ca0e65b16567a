"""One simulated machine: a disk that survives, and a process that lives, is paused, dies and lives again."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from quorate.consensus.core import Core, Recovered
from quorate.sim.clock import TICK, Clock
from quorate.sim.disk import Disk
from quorate.sim.process import Process, Surroundings
from quorate.types import ReplicaId

CoreFactory = Callable[[ReplicaId, tuple[ReplicaId, ...], random.Random, Recovered], Core]
"""Builds a core: itself, all members, its randomness, what its disk holds."""


class Machine:
    """Runs one process at a time on one disk."""

    def __init__(
        self,
        me: ReplicaId,
        build: Callable[[random.Random, Recovered], Core],
        seed: int,
        clock: Clock,
        disk: Disk,
        surroundings: Surroundings,
    ) -> None:
        self.me = me
        self.disk = disk
        self.tick_length = TICK
        self.process: Process | None = None
        self.paused = False
        self._build = build
        self._seed = seed
        self._clock = clock
        self._surroundings = surroundings
        self._life = 0
        self._missed: list[Callable[[Process], None]] = []
        """What happened to a paused process, in order: its sockets hold it until it resumes."""
        disk.on_apply = partial(surroundings.invariants.on_persist, me)
        disk.on_durable = self._persisted
        surroundings.network.attach(me, self._receive)

    # --- life and death ----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a process from what the disk holds."""
        assert self.process is None, "one process at a time"
        self._life += 1
        self._surroundings.transcript.note(self.me, "boots", self.disk.image.chosen)
        rng = random.Random(f"core {self._seed} {self.me} {self._life}")
        core = self._build(rng, self.disk.image.recovered())
        self.process = Process(self.me, self._life, core, self.disk, self._surroundings)
        self._clock.after(self.tick_length, partial(self._tick, self.process))

    def crash(self) -> None:
        """Kill the process: all but the platter is gone."""
        self._surroundings.transcript.note(self.me, "crashes")
        self.process = None
        self.paused = False
        self._missed.clear()
        self.disk.crash()

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        self._surroundings.transcript.note(self.me, "pauses")
        self.paused = True

    def resume(self) -> None:
        """Let the process run on and find what it missed."""
        self._surroundings.transcript.note(self.me, "resumes")
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

    def _receive(self, sender: ReplicaId, data: bytes) -> None:
        self.reach(lambda process: process.receive(sender, data))

    def _persisted(self, seq: int) -> None:
        self.reach(lambda process: process.persisted(seq))

    def _tick(self, process: Process) -> None:
        if self.process is not process:
            return  # this clock belonged to an earlier life
        self._clock.after(self.tick_length, partial(self._tick, process))
        if not self.paused:
            process.tick()
