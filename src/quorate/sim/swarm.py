"""What a seed brings: the shape of a cluster, and which faults strike it how hard.

Swarm testing (Groce et al. 2012): each class of fault is switched on or off per seed and its rate drawn anew, since a
run with every fault at once never reaches the states that one fault alone would.
"""

from __future__ import annotations

import enum
import random
from typing import NamedTuple


class Fault(enum.StrEnum):
    """Every class of fault and of upheaval that the simulator knows. What counts as one hit is said for each."""

    LOSS = "loss"
    """One message lost."""
    DELAY = "delay"
    """One message, and the link behind it, held for up to 10 ticks."""
    DUPLICATE = "duplicate"
    """One message delivered a second time, up to 100 ticks later."""
    STALE = "stale"
    """One message delivered once more when all it speaks of is long past, up to 600 ticks later."""
    REORDER = "reorder"
    """One message sent past the order of its link."""
    SLOW_LINK = "slow-link"
    """One message that a slow link took up to 20 ticks to carry."""
    PARTITION = "partition"
    """One message cut off between two sides of the cluster."""
    ONE_WAY = "one-way"
    """One message cut off, while its answer would have passed."""
    BRIDGE = "bridge"
    """One message cut off between two sides that a single replica still joins."""
    FLAP = "flap"
    """One message cut off by a partition that comes and goes."""
    CRASH = "crash"
    """One process killed at any moment, and its unsynced writes with it."""
    CRASH_AT_COMMIT = "crash-at-commit"
    """One process killed around the commit of a transaction."""
    POWER_CUT = "power-cut"
    """One process killed, together with all others."""
    PAUSE = "pause"
    """One process stopped for up to 5 seconds, then resumed as a zombie."""
    STALL = "stall"
    """One process that did not turn for up to 12 ticks: a collection of garbage, a starved machine."""
    DRIFT = "drift"
    """One replica whose ticks are too long or too short."""
    CLOCK_STEP = "clock-step"
    """One wall clock set forward or back by up to an hour."""
    SLOW_DISK = "slow-disk"
    """One commit that took up to 40 ticks."""
    COMMIT_ERROR = "commit-error"
    """One commit that failed, which ends the process; it may have reached the platter all the same."""
    LOST_WRITE = "lost-write"
    """One Persist lost by a crash: not drawn, but what crashes are for."""
    DISK_FULL = "disk-full"
    """One command or message not taken for want of room."""
    FLIPPED = "flipped"
    """One record of a chosen slot found damaged at the start of a process."""
    MISDIRECTED = "misdirected"
    """One record of a chosen slot found filed under another: both slots are damaged."""
    HELICAL = "helical"
    """One damaged record, while every other replica has another one."""
    META_DAMAGE = "meta-damage"
    """One disk that can't be vouched for any more: open votes, or what tells of them, are damaged."""
    WIPED = "wiped"
    """One disk emptied, and taken into use by the same replica."""
    ROLLED_BACK = "rolled-back"
    """One disk set back to an older copy."""
    SNAPSHOT_DAMAGED = "snapshot-damaged"
    """One replica that found its newest snapshot damaged when it started."""
    CHUNK_DAMAGED = "chunk-damaged"
    """One chunk of a snapshot damaged on its way."""
    TRANSFER_CUT = "transfer-cut"
    """One process killed while it fetched a snapshot."""
    ADDED = "added"
    """One replica that came while the cluster worked."""
    REMOVED = "removed"
    """One replica that went."""
    DISTURBED = "disturbed"
    """One message of a removed replica that goes on as if it were a member."""
    UNLAWFUL = "unlawful"
    """One change of membership asked for that must be refused, and was."""
    HAND_OVER = "hand-over"
    """One leader told to lead no longer."""


RATES: dict[Fault, tuple[float, float]] = {
    # per message
    Fault.LOSS: (0.005, 0.3),
    Fault.DELAY: (0.002, 0.05),
    Fault.DUPLICATE: (0.005, 0.2),
    Fault.STALE: (0.002, 0.02),
    Fault.REORDER: (0.01, 0.3),
    Fault.CHUNK_DAMAGED: (0.05, 0.3),
    # beginnings per tick
    Fault.SLOW_LINK: (1 / 300, 1 / 60),
    Fault.PARTITION: (1 / 300, 1 / 60),
    Fault.ONE_WAY: (1 / 300, 1 / 60),
    Fault.BRIDGE: (1 / 300, 1 / 60),
    Fault.FLAP: (1 / 300, 1 / 100),
    Fault.CRASH: (1 / 300, 1 / 40),
    Fault.POWER_CUT: (1 / 400, 1 / 150),
    Fault.PAUSE: (1 / 300, 1 / 60),
    Fault.STALL: (1 / 100, 1 / 20),
    Fault.CLOCK_STEP: (1 / 200, 1 / 50),
    Fault.DISK_FULL: (1 / 300, 1 / 100),
    Fault.FLIPPED: (1 / 300, 1 / 60),
    Fault.MISDIRECTED: (1 / 300, 1 / 60),
    Fault.SNAPSHOT_DAMAGED: (1 / 300, 1 / 60),
    Fault.HELICAL: (1 / 500, 1 / 200),
    Fault.META_DAMAGE: (1 / 600, 1 / 150),
    Fault.WIPED: (1 / 600, 1 / 150),
    Fault.ROLLED_BACK: (1 / 300, 1 / 100),
    Fault.ADDED: (1 / 300, 1 / 60),
    Fault.REMOVED: (1 / 300, 1 / 60),
    Fault.UNLAWFUL: (1 / 100, 1 / 30),
    Fault.HAND_OVER: (1 / 200, 1 / 40),
    # per commit
    Fault.CRASH_AT_COMMIT: (0.005, 0.05),
    Fault.COMMIT_ERROR: (0.001, 0.02),
    Fault.SLOW_DISK: (0.005, 0.1),
    # per chunk fetched
    Fault.TRANSFER_CUT: (0.1, 0.3),
    # per removal
    Fault.DISTURBED: (0.3, 1.0),
    # as a share of the length of a tick
    Fault.DRIFT: (0.05, 0.4),
}
"""The least and the highest rate a seed may draw for each fault."""

FAULT_SHARE = 0.3
"""Chance that a seed brings a given fault: about ten at once, seldom all or none."""

HITS_PER_SEED_MIN = 0.02
"""A batch in which a class of faults struck more rarely has not put it to the test: 20 times in 1,000 seeds."""


class Swarm(NamedTuple):
    """The options drawn from one seed. Times are in units of `clock.TICK`, lengths in ticks."""

    seed: int
    replicas: int
    """Founders; more come and some go."""
    clients: int
    safety_ticks: int
    think_ticks: int
    """Longest pause of a client between an answer and its next call."""
    patience_ticks: int
    """How long a client waits before it submits an unanswered command again."""
    read_share: float
    latency: tuple[int, int]
    commit: tuple[int, int]
    learn_slots: int
    """Slots read from the disk for one catch-up answer."""
    checkpoint_commands: int
    """Distance of snapshots."""
    chunks: int
    """Pieces of a snapshot on its way to a peer."""
    eager_trim: bool
    """Whether a replica trims its log without regard to what others lack."""
    recorded: bool
    """Whether the clients' history is kept and searched for a linearization."""
    rates: dict[Fault, float]

    def __str__(self) -> str:
        rates = ", ".join(f"{fault} {rate:.3f}" for fault, rate in self.rates.items())
        trims = "eagerly" if self.eager_trim else "with care"
        return (
            f"{self.replicas} replicas, {self.clients} clients, a snapshot each {self.checkpoint_commands} commands, "
            f"trimmed {trims}, {self.safety_ticks} ticks of {rates or 'peace'}"
        )


RECORDED_SHARE = 0.25


def draw(seed: int) -> Swarm:
    """Draw the options of `seed`, always the same."""
    rng = random.Random(f"swarm {seed}")
    clients = rng.choice((2, 4, 8, 40))
    return Swarm(
        seed=seed,
        replicas=rng.choice((1, 2, 3, 3, 3, 3, 5, 5)),
        clients=clients,
        safety_ticks=rng.randint(400, 1200),
        think_ticks=rng.choice((2, 5)) * clients,
        patience_ticks=rng.randint(10, 60),
        read_share=rng.choice((0.1, 0.3)),
        latency=(rng.randint(10, 50), rng.randint(60, 400)),
        commit=(rng.randint(5, 50), rng.randint(60, 400)),
        learn_slots=rng.choice((16, 64, 512)),
        checkpoint_commands=rng.choice((10, 30, 100)),
        chunks=rng.randint(1, 8),
        eager_trim=rng.random() < 0.5,
        recorded=rng.random() < RECORDED_SHARE,
        rates={fault: rng.uniform(*RATES[fault]) for fault in RATES if rng.random() < FAULT_SHARE},
    )


class Faults:
    """The dice of a running world: they decide when a fault strikes, and count every hit.

    Each fault has dice of its own, so that the others fall as before in a replay without it.
    """

    def __init__(self, seed: int, rates: dict[Fault, float]) -> None:
        self._dice = {fault: random.Random(f"{fault} {seed}") for fault in rates}
        self._rates = dict(rates)
        self.hits = dict.fromkeys(rates, 0)

    def rate(self, fault: Fault) -> float:
        """Return the rate of `fault` as it is now, 0 if this seed does not bring it."""
        return self._rates.get(fault, 0.0)

    def falls(self, fault: Fault) -> bool:
        """Throw the dice for one message or commit."""
        rate = self._rates.get(fault)
        return rate is not None and self._dice[fault].random() < rate

    def hit(self, fault: Fault) -> None:
        """Count a hit."""
        self.hits[fault] = self.hits.get(fault, 0) + 1

    def strikes(self, fault: Fault) -> bool:
        """Throw the dice, and count a hit at once if they fall badly."""
        struck = self.falls(fault)
        if struck:
            self.hit(fault)
        return struck

    def heal(self) -> None:
        """End all faults for good."""
        self._rates.clear()
