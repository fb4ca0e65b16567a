"""The ways in which a network, or a machine, fails a running cluster; each lasts for a time and heals.

A round is one of them under load, judged: while a majority can talk, writes must go on, and where none can, nothing may
be answered; once it heals, writes must go on within ten election timeouts (I7). A fault that befell no packet is a
failure of the round: it proved nothing.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.judge import PROGRESS_SECONDS_MAX, Figures, judge
from tests.faults.lab import Lab
from tests.faults.link import Shape
from tests.faults.load import Load, Span
from tests.faults.network import Fault, Link, between

FLAP_SECONDS = 0.5
SLOW = Shape(delay_seconds=0.1, jitter_seconds=0.1)
NARROW = Shape(bytes_per_second=64_000 / 8)
STALLED = Shape(stalled=True)
UNHINDERED = Shape()
CLIENTS = 6
THINK_SECONDS = 0.02

LinksOf = Callable[[Lab], list[Link]]
Befall = Callable[[Lab, Load, float], Span]
"""Hurts the cluster for so many seconds and heals it; returns the time in which the fault was in force."""


# --- which links -----------------------------------------------------------------------------------------------------


def all_links(lab: Lab) -> list[Link]:
    return list(itertools.permutations(lab.numbers, 2))


def around_leader(lab: Lab) -> list[Link]:
    return from_leader(lab) + to_leader(lab)


def from_leader(lab: Lab) -> list[Link]:
    leader = lab.leader()
    return [(leader, other) for other in lab.others(leader)]


def to_leader(lab: Lab) -> list[Link]:
    return [(other, leader) for leader, other in from_leader(lab)]


def around_follower(lab: Lab) -> list[Link]:
    follower = lab.others(lab.leader())[0]
    return between([follower], lab.others(follower))


def leader_to_one_follower(lab: Lab) -> list[Link]:
    """The bridge: every replica still talks to a majority, but not to the same one."""
    leader = lab.leader()
    return between([leader], lab.others(leader)[:1])


def between_followers(lab: Lab) -> list[Link]:
    first, second = lab.others(lab.leader())
    return between([first], [second])


# --- what befalls them -----------------------------------------------------------------------------------------------


def packets(fault: Fault, links_of: LinksOf) -> Befall:
    """Have `fault` befall the links for the whole time."""

    def befall(lab: Lab, load: Load, seconds: float) -> Span:
        before = lab.network.hits(fault)
        lab.network.impose(fault, links_of(lab))
        span = load.go_on(seconds)
        lab.network.heal()
        assert lab.network.hits(fault) > before, "no packet was hit"
        return span

    return befall


def flapping(links_of: LinksOf) -> Befall:
    """Have the links come and go."""

    def befall(lab: Lab, load: Load, seconds: float) -> Span:
        links = links_of(lab)
        spans = []
        for _ in range(round(seconds / FLAP_SECONDS / 2)):
            lab.network.impose(Fault.DROP, links)
            spans.append(load.go_on(FLAP_SECONDS))
            lab.network.heal()
            spans.append(load.go_on(FLAP_SECONDS))
        assert lab.network.hits(Fault.DROP), "no packet was hit"
        return Span(spans[0].start, spans[-1].end)

    return befall


def shaped(shape: Shape, links_of: LinksOf) -> Befall:
    """Have the links take a shape for the whole time."""

    def befall(lab: Lab, load: Load, seconds: float) -> Span:
        assert lab.network.hits(Fault.SHAPE), "no connection goes through the proxy"
        links = links_of(lab)
        lab.shape(shape, links)
        span = load.go_on(seconds)
        lab.shape(UNHINDERED, links)
        return span

    return befall


def leader_stopped(lab: Lab, load: Load, seconds: float) -> Span:
    """SIGSTOP, as a suspended virtual machine: it wakes up believing that it leads."""
    leader = lab.leader()
    lab.signal(leader, signal.SIGSTOP)
    span = load.go_on(seconds)
    lab.signal(leader, signal.SIGCONT)
    return span


class Scenario(NamedTuple):
    """One way to fail. With `majority`, enough replicas can talk all the while for writes to go on."""

    befall: Befall
    majority: bool = True
    shaped: bool = False
    """Needs a cluster whose links go through the proxy."""


SCENARIOS = {
    "leader cut off": Scenario(packets(Fault.DROP, around_leader)),
    "leader refused": Scenario(packets(Fault.REFUSE, around_leader)),
    "leader deaf": Scenario(packets(Fault.DROP, to_leader)),
    "leader mute": Scenario(packets(Fault.DROP, from_leader)),
    "follower cut off": Scenario(packets(Fault.DROP, around_follower)),
    "bridge": Scenario(packets(Fault.DROP, leader_to_one_follower)),
    "followers parted": Scenario(packets(Fault.DROP, between_followers)),
    "all parted": Scenario(packets(Fault.DROP, all_links), majority=False),
    "leader flapping": Scenario(flapping(around_leader)),
    "all lossy": Scenario(packets(Fault.LOSE, all_links)),
    "leader stopped": Scenario(leader_stopped),
    "all slow": Scenario(shaped(SLOW, all_links), shaped=True),
    "follower narrow": Scenario(shaped(NARROW, around_follower), shaped=True),
    "leader half-open": Scenario(shaped(STALLED, around_leader), shaped=True),
    "leader half-open one way": Scenario(shaped(STALLED, from_leader), shaped=True),
}


def fight(lab: Lab, scenario: Scenario, seconds: float, seed: int, began_at: int = 0) -> Figures:
    """Run one round, beginning with the counter at `began_at`."""
    with Load(lab.urls(), CLIENTS, seed, THINK_SECONDS) as load:
        load.wait_progress(PROGRESS_SECONDS_MAX, writes=20)
        span = scenario.befall(lab, load, seconds)
        load.wait_progress(PROGRESS_SECONDS_MAX)
    written = load.written_within(span)
    assert bool(written) == scenario.majority, f"{written} writes were answered meanwhile"
    return judge(lab, load, began_at)
