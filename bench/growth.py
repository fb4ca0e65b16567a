"""What a long life leaves behind: disk, memory and log of every replica while millions of small commands go by.

The load comes in bursts, each once the slowest copy has caught up. Every second it is looked at what each data
directory takes of the disk (allocated blocks), what each sidecar holds in memory (resident set, the mapped part of the
log included), and how many commands each log holds. All three should level off; what is judged is the most of the
second half beside the most of the first.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import psutil
from bench import report
from bench.load import put_load
from bench.machine import calibration_ms
from bench.report import Bar, Found, at_most, say
from bench.sides import Quorate, cluster, run_options

from quorate import limits
from quorate.errors import Broken

CONNECTIONS = 64
BURST_SECONDS = 10
SAMPLE_SECONDS = 1.0
STRETCHES = 40
"""Rows of the results, of as many commands each."""
GROWTH_MAX = 1.10
LOG_ENTRIES_MAX = 3 * limits.CHECKPOINT_ENTRIES
"""Two checkpoints are kept, and the log behind the older; the third distance is that of one not finished yet."""
COLOURS = {"r1": "#1f7a5c", "r2": "#d9a441", "r3": "#5f7387"}


class Sample(NamedTuple):
    """One look at one replica."""

    seconds: float
    replica: str
    commands: int
    """Applied so far."""
    disk_mib: float
    memory_mib: float
    log_entries: int


class Row(NamedTuple):
    """One stretch of commands: the most that any replica took of anything in it."""

    commands: int
    """Applied at its end."""
    disk_mib: float
    memory_mib: float
    log_entries: int


FIGURES = {
    "disk_mib": "data directory on disk, MiB",
    "memory_mib": "sidecar resident in memory, MiB",
    "log_entries": "commands in the log",
}


def measure(options: argparse.Namespace, directory: Path) -> Found:
    """Feed a cluster, look at it meanwhile, and draw what was seen."""
    samples: list[Sample] = []
    calibrations = []
    with cluster(options.app, (*run_options(options), "--snapshot", "http"), directory) as one:
        for number in itertools.count(1):
            calibrations.append(calibration_ms())
            samples += burst(one, directory / "data")
            last = samples[-1]
            say(f"burst {number}: {last.commands} commands, {last.disk_mib:.0f} MiB on disk")
            if last.commands >= options.commands:
                break
    options.images.mkdir(parents=True, exist_ok=True)
    draw(options.images / "growth.svg", samples)
    rows = stretches(samples)
    return Found(
        rows,
        bars(samples),
        {"load": f"bursts of {BURST_SECONDS} s by wrk at {CONNECTIONS} connections", "pace": pace(samples)},
        calibrations,
    )


def burst(one: Quorate, data: Path) -> list[Sample]:
    """Load for a while, look every second, and go on looking until the slowest copy has caught up."""
    samples: list[Sample] = []
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(put_load, one.side().targets(CONNECTIONS), "write", BURST_SECONDS)
        while True:
            time.sleep(SAMPLE_SECONDS)
            is_over = loading.done()
            samples += look(one, data)
            if is_over and one.backlog() == 0:
                break
    load = loading.result()
    if load.refused + load.failed:
        raise Broken(f"{load.refused + load.failed} writes failed", "the figures count for nothing")
    return samples


def look(one: Quorate, data: Path) -> Iterator[Sample]:
    now = time.monotonic()
    for replica in one.replicas():
        if replica["applied"] is None:
            raise Broken(f"{replica['name']} is {replica['state']} under load")
        yield Sample(
            seconds=now,
            replica=replica["name"],
            commands=replica["applied"],
            disk_mib=allocated_bytes(data / replica["name"]) / 2**20,
            memory_mib=float(psutil.Process(replica["sidecar_pid"]).memory_info().rss) / 2**20,
            log_entries=replica["applied"] - replica["log_begins"],
        )


def allocated_bytes(directory: Path) -> int:
    """Return the room on disk of all files below; those that vanish meanwhile take none."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.lstat().st_blocks * 512
    return total


def stretches(samples: Sequence[Sample]) -> list[Row]:
    """Return a row for every stretch of commands that was looked at."""
    length = -(-samples[-1].commands // STRETCHES)
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(-(-sample.commands // length), []).append(sample)
    return [
        Row(
            commands=number * length,
            disk_mib=most(own, "disk_mib"),
            memory_mib=most(own, "memory_mib"),
            log_entries=int(most(own, "log_entries")),
        )
        for number, own in sorted(groups.items())
    ]


def most(samples: Sequence[Sample], figure: str) -> float:
    return max(float(getattr(sample, figure)) for sample in samples)


def bars(samples: Sequence[Sample]) -> list[Bar]:
    first, second = halves(samples)
    disk, memory = (most(second, figure) / most(first, figure) for figure in ("disk_mib", "memory_mib"))
    return [
        at_most("most disk in the second half, of the first", GROWTH_MAX, disk),
        at_most("most memory in the second half, of the first", GROWTH_MAX, memory),
        at_most("longest log, commands", LOG_ENTRIES_MAX, most(samples, "log_entries")),
    ]


def pace(samples: Sequence[Sample]) -> str:
    """Say whether it became slower, pauses between bursts included."""
    first, second = (
        (half[-1].commands - half[0].commands) / (half[-1].seconds - half[0].seconds) for half in halves(samples)
    )
    return f"{first:.0f} commands/s in the first half, {second:.0f} commands/s in the second"


def halves(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Part them where half of the commands were done."""
    middle = samples[-1].commands / 2
    return [one for one in samples if one.commands <= middle], [one for one in samples if one.commands > middle]


def draw(file: Path, samples: Sequence[Sample]) -> None:
    """Draw each figure over the commands, one line per replica."""
    figure, panels = plt.subplots(len(FIGURES), 1, figsize=(9, 8), sharex=True, constrained_layout=True)
    figure.suptitle(f"Three replicas under load, checkpoints every {limits.CHECKPOINT_ENTRIES:,} commands")
    for panel, (name, title) in zip(panels, FIGURES.items(), strict=True):
        report.head(panel, title)
        for replica, colour in COLOURS.items():
            own = [sample for sample in samples if sample.replica == replica]
            points = [sample.commands / 1e6 for sample in own], [getattr(sample, name) for sample in own]
            panel.plot(*points, color=colour, label=replica, linewidth=1)
        panel.set_ylim(bottom=0)
    panels[0].legend(fontsize="small", loc="lower right")
    panels[-1].set_xlabel("million commands applied")
    report.save(figure, [file])
