"""How soon a replica is back that slept while the others went on: by the log, and by a snapshot.

A follower's processes are stopped (SIGSTOP), the others take so many writes, the load ends, and the follower goes on.
It is back when it is ready and has applied all of them. With checkpoints the others trimmed by then what it lacks, so
that nothing but a snapshot brings it back; without, the log is all there is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.load import Target, put_load
from bench.machine import calibration_ms
from bench.report import Found, at_most, say
from bench.sides import REPLICAS, Quorate, cluster, run_options, wait_until

from quorate.errors import Broken, QuorateError
from quorate.ops.client import ask

DRIVERS = {"log": "none", "snapshot": "http"}
CONNECTIONS = 64
BURST_SECONDS = 1
BACK_SECONDS_MAX = 120.0
GOALS = {"log": 30.0, "snapshot": 5.0}
"""Seconds until it is back."""


class Sample(NamedTuple):
    """One return."""

    behind: int
    """Commands ordered while it slept."""
    seconds: float
    chunks: int
    """Pieces of snapshots it fetched for that."""
    calibration_ms: float


class Row(NamedTuple):
    """All returns of one kind."""

    by: str
    behind: int
    """Least of the rounds."""
    seconds_p50: float
    seconds_max: float
    commands_per_second: float
    """Median."""
    chunks: int
    """Median."""


def measure(options: argparse.Namespace, directory: Path) -> Found:
    """Send a follower to sleep and wake it up, on both clusters in turns."""
    samples: dict[str, list[Sample]] = {way: [] for way in DRIVERS}
    with ExitStack() as stack:
        sides = {}
        for way, driver in DRIVERS.items():
            place = directory / way
            place.mkdir()
            sides[way] = stack.enter_context(cluster(options.app, (*run_options(options), "--snapshot", driver), place))
        for number in range(options.rounds):
            for way, one in sides.items():
                sample = one_return(one, options.behind)
                if (way == "snapshot") != (sample.chunks > 0):
                    raise Broken(f"it did not come back by the {way}, {sample.behind} commands behind")
                samples[way].append(sample)
                say(f"round {number + 1}: {sample.behind} behind, back by the {way} after {sample.seconds:.2f} s")
    rows = [row(way, own) for way, own in samples.items()]
    return Found(
        rows,
        [at_most(f"back by the {row.by}, slowest round, s", GOALS[row.by], row.seconds_max) for row in rows],
        {"load": f"{options.behind} writes by wrk at {CONNECTIONS} connections while a follower sleeps"},
        [sample.calibration_ms for own in samples.values() for sample in own],
    )


def one_return(one: Quorate, behind: int) -> Sample:
    calibration = calibration_ms()
    leader = one.leader()
    sleeper = next(replica for replica in one.replicas() if replica["name"] != leader)
    one.do(sleeper["name"], "pause")
    reached = feed(one, sleeper, sleeper["applied"] + behind)
    since = time.monotonic()
    one.do(sleeper["name"], "resume")
    wait_until(lambda: is_back(sleeper["admin_url"], reached), "the sleeper is back", BACK_SECONDS_MAX)
    seconds = time.monotonic() - since
    wait_until(lambda: one.is_ready() and has_one_digest(one), "all copies are equal")
    return Sample(
        behind=reached - sleeper["applied"],
        seconds=seconds,
        chunks=chunks(one.row(sleeper["name"])) - chunks(sleeper),
        calibration_ms=calibration,
    )


def feed(one: Quorate, sleeper: dict[str, object], wanted: int) -> int:
    """Write through the others until that index; returns the index that both reached."""
    awake = [replica["name"] for replica in one.replicas() if replica["name"] != sleeper["name"]]
    targets = [Target(one.row(name)["client_url"], CONNECTIONS // (REPLICAS - 1)) for name in awake]

    def reached() -> set[int]:
        return {one.row(name)["applied"] for name in awake}

    while min(reached()) < wanted:
        load = put_load(targets, "write", BURST_SECONDS)
        if load.refused + load.failed:
            raise Broken(f"{load.refused + load.failed} writes failed while a follower slept")
    wait_until(lambda: len(reached()) == 1, "those that are awake are level")
    return reached().pop()


def is_back(admin_url: str, index: int) -> bool:
    """Ask the replica itself: the run asks it only now and then."""
    with suppress(QuorateError):
        status = ask(f"{admin_url}/status")
        return bool(status["state"] == "ready" and status["applied"] >= index)
    return False


def has_one_digest(one: Quorate) -> bool:
    return len({(replica["applied"], replica["digest"]) for replica in one.replicas()}) == 1


def chunks(replica: dict[str, object]) -> int:
    """Return how many pieces of snapshots it fetched since it began."""
    snapshots = replica["snapshots"]
    return sum(snapshots["fetched"].values()) if isinstance(snapshots, dict) else 0


def row(way: str, own: Sequence[Sample]) -> Row:
    return Row(
        by=way,
        behind=min(sample.behind for sample in own),
        seconds_p50=median(sample.seconds for sample in own),
        seconds_max=max(sample.seconds for sample in own),
        commands_per_second=median(sample.behind / sample.seconds for sample in own),
        chunks=round(median(sample.chunks for sample in own)),
    )
