"""What a seed brings: the shape of a cluster, and which faults strike it how hard.

Swarm testing (Groce et al. 2012): each class of fault is switched on or off per seed and its rate drawn anew, since a
run with every fault at once never reaches the states that one fault alone would.
"""

from __future__ import annotations

import enum
import random
from typing import NamedTuple


class Fault(enum.StrEnum):
    """Every class of fault that the simulator knows. What counts as one hit is said for each."""

    LOSS = "loss"
    """One message lost."""
    DELAY = "delay"
    """One message, and the link behind it, held for up to 10 ticks."""
    DUPLICATE = "duplicate"
    """One message delivered a second time, up to 100 ticks later."""
    REORDER = "reorder"
    """One message sent past the order of its link."""
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
    """One process stopped for a while, then resumed as a zombie."""
    SLOW_DISK = "slow-disk"
    """One commit that took up to 40 ticks."""
    DRIFT = "drift"
    """One replica whose ticks are too long or too short."""
    LOST_WRITE = "lost-write"
    """One Persist lost by a crash: not drawn, but what crashes are for."""


RATES: dict[Fault, tuple[float, float]] = {
    # per message
    Fault.LOSS: (0.005, 0.3),
    Fault.DELAY: (0.002, 0.05),
    Fault.DUPLICATE: (0.005, 0.2),
    Fault.REORDER: (0.01, 0.3),
    # beginnings per tick
    Fault.PARTITION: (1 / 300, 1 / 60),
    Fault.ONE_WAY: (1 / 300, 1 / 60),
    Fault.BRIDGE: (1 / 300, 1 / 60),
    Fault.FLAP: (1 / 300, 1 / 100),
    Fault.CRASH: (1 / 300, 1 / 40),
    Fault.POWER_CUT: (1 / 400, 1 / 150),
    Fault.PAUSE: (1 / 300, 1 / 60),
    # per commit
    Fault.CRASH_AT_COMMIT: (0.005, 0.05),
    Fault.SLOW_DISK: (0.005, 0.1),
    # as a share of the length of a tick
    Fault.DRIFT: (0.05, 0.4),
}
"""The least and the highest rate a seed may draw for each fault."""

FAULT_SHARE = 0.4
"""Chance that a seed brings a given fault: five or six at once, seldom all or none."""


class Swarm(NamedTuple):
    """The options drawn from one seed. Times are in units of `clock.TICK`, lengths in ticks."""

    seed: int
    replicas: int
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
    rates: dict[Fault, float]

    def __str__(self) -> str:
        rates = ", ".join(f"{fault} {rate:.3f}" for fault, rate in self.rates.items())
        return f"{self.replicas} replicas, {self.clients} clients, {self.safety_ticks} ticks of {rates or 'peace'}"


def draw(seed: int) -> Swarm:
    """Draw the options of `seed`, always the same."""
    rng = random.Random(f"swarm {seed}")
    clients = rng.choice((2, 4, 8, 40))
    return Swarm(
        seed=seed,
        replicas=rng.choice((3, 3, 5)),
        clients=clients,
        safety_ticks=rng.randint(400, 1200),
        think_ticks=rng.choice((2, 5)) * clients,
        patience_ticks=rng.randint(10, 60),
        read_share=rng.choice((0.1, 0.3)),
        latency=(rng.randint(10, 50), rng.randint(60, 400)),
        commit=(rng.randint(5, 50), rng.randint(60, 400)),
        learn_slots=rng.choice((16, 64, 512)),
        rates={fault: rng.uniform(*RATES[fault]) for fault in RATES if rng.random() < FAULT_SHARE},
    )


class Faults:
    """The dice of a running world: they decide when a fault strikes, and count every hit."""

    def __init__(self, rng: random.Random, rates: dict[Fault, float]) -> None:
        self._rng = rng
        self._rates = dict(rates)
        self.hits = dict.fromkeys(rates, 0)

    def rate(self, fault: Fault) -> float:
        """Return the rate of `fault` as it is now, 0 if this seed does not bring it."""
        return self._rates.get(fault, 0.0)

    def falls(self, fault: Fault) -> bool:
        """Throw the dice for one message or commit."""
        rate = self._rates.get(fault)
        return rate is not None and self._rng.random() < rate

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
