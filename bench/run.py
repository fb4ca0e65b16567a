"""Measures what Quorate costs: one app, nginx before it, three bare copies, three replicas, side by side in one run.

    python -m bench.run [--app python|node] [--storage sync|memory] [--seconds 3] [--rounds 3] [--connections 1,16,64]

Only ratios taken in one run count: the machine is shared, and its speed drifts. So the sides take turns, each figure is
a median of several short rounds, ratios are taken within a round, and a calibration loop is timed beside each run.
"each of three bare copies" is the limit of any replication by execution: the full load sent to three copies at once,
with neither order nor proxy, and the rate that one copy reaches then.

Results go to bench/results as JSON, SVG and PNG. It refuses to start without wrk, nginx, or the app's runtime.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from bench import report
from bench.load import Kind, put_load
from bench.sides import ROOT, Quorate, Side, all_sides, wait_until

import quorate
from quorate.errors import Broken, Misuse, QuorateError

KINDS: tuple[Kind, ...] = ("write", "read")
WARM_UP_SECONDS = 1
WARM_UP_CONNECTIONS = 16
CALIBRATION_STEPS = 300_000
SYNCS = 200


def main() -> int:
    """Measure and report; returns the exit code."""
    options = parse()
    try:
        measure_and_report(options)
    except QuorateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--app", choices=("python", "node"), default="python")
    parser.add_argument("--storage", choices=("sync", "memory"), default="sync")
    parser.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto")
    parser.add_argument("--pipeline", type=int, default=64, help="ordered calls ahead of their answers; 1: none")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of which the median is taken")
    parser.add_argument("--connections", default="1,16,64", help="the loads, comma-separated; 1 is among them")
    parser.add_argument("--dir", type=Path, help="where the log is written meanwhile, on the disk to be measured")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results")
    options = parser.parse_args()
    options.connections = sorted({1, *map(int, options.connections.split(","))})
    return options


def measure_and_report(options: argparse.Namespace) -> None:
    require_tools(options.app)
    with tempfile.TemporaryDirectory(prefix="quorate-bench-", dir=options.dir) as directory:
        about = {"machine": machine(Path(directory)), "settings": settings(options)}
        about["machine"]["disk"] = f"4 KiB append + fdatasync takes {sync_microseconds(Path(directory)):.0f} us (p50)"
        print("\n".join(f"{name}: {value}" for part in about.values() for name, value in part.items()), flush=True)
        run_options = ("--storage", options.storage, "--loop", options.loop, "--pipeline", str(options.pipeline))
        with all_sides(options.app, run_options, Path(directory)) as (sides, cluster):
            warm_up(sides)
            memory = [cluster.memory_mib()]
            samples = [
                sample for number in range(options.rounds) for sample in one_round(options, sides, cluster, number)
            ]
            memory.append(cluster.memory_mib())
            leader = cluster.leader()
    about["beside"] = beside(samples, memory) | {"one connection": f"goes to r1, while {leader} leads"}
    conclude(options, about, report.rows(samples))


def require_tools(app: str) -> None:
    for tool in ("wrk", "nginx"):
        if shutil.which(tool) is None:
            raise Misuse(f"{tool} is not installed", "apt-get install wrk nginx-light")
    if app == "node" and shutil.which("node") is None:
        raise Misuse("node is not installed", "apt-get install nodejs, or --app python")


def warm_up(sides: list[Side]) -> None:
    for side in sides:
        for kind in KINDS:
            put_load(side.targets(WARM_UP_CONNECTIONS), kind, WARM_UP_SECONDS)


def one_round(options: argparse.Namespace, sides: list[Side], cluster: Quorate, number: int) -> list[report.Sample]:
    """Measure every side at every load once, the sides of one ratio right after each other."""
    samples = []
    for kind in KINDS:
        for connections in options.connections:
            turns = [measure(side, kind, connections, options.seconds, number, cluster) for side in sides]
            show_progress(turns)
            samples += turns
    return samples


def measure(side: Side, kind: Kind, connections: int, seconds: int, number: int, cluster: Quorate) -> report.Sample:
    """Put one load on one side, and wait until the slowest replica has caught up with it."""
    calibration = calibration_ms()
    before = side.cpu_seconds()
    load = put_load(side.targets(connections), kind, seconds)
    backlog = cluster.backlog()
    wait_until(lambda: cluster.is_ready() and cluster.backlog() == 0, "the slowest replica has caught up")
    after = side.cpu_seconds()
    requests = load.requests / side.copies
    return report.Sample(
        kind=kind,
        connections=connections,
        side=side.name,
        round=number,
        rate=requests / load.seconds,
        p50=load.percentile(0.5),
        p90=load.percentile(0.9),
        p99=load.percentile(0.99),
        errors=load.refused + load.failed,
        cpu={name: (after[name] - before[name]) * 1e6 / requests for name in after},
        calibration_ms=calibration,
        backlog=backlog,
    )


def calibration_ms() -> float:
    """Time a fixed piece of work, which tells how fast the machine is at the moment."""
    started = time.perf_counter()
    total = 0
    for step in range(CALIBRATION_STEPS):
        total += step & 7
    return (time.perf_counter() - started) * 1000


def sync_microseconds(directory: Path) -> float:
    """Return how long the disk takes to make 4 KiB durable, median: the floor of every ordered write."""
    taken = []
    with (directory / "syncs").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return median(taken) * 1e6


def show_progress(samples: list[report.Sample]) -> None:
    first = samples[0]
    rates = "  ".join(f"{sample.side} {sample.rate:.0f}/s" for sample in samples)
    print(f"round {first.round + 1}, {first.kind} at {first.connections}: {rates}", file=sys.stderr, flush=True)


def machine(directory: Path) -> dict[str, Any]:
    """Say what this ran on, as far as it explains figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    mounts = [part for part in psutil.disk_partitions(all=True) if directory.is_relative_to(part.mountpoint)]
    disk = max(mounts, key=lambda part: len(part.mountpoint)).fstype
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "processor": f"{model}, {psutil.cpu_count()} cores, {memory} GiB",
        "system": f"{platform.system()} {platform.release()}, log on {disk}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def settings(options: argparse.Namespace) -> dict[str, Any]:
    uvloop = "installed" if importlib.util.find_spec("uvloop") else "not installed"
    return {
        "quorate": f"{quorate.__version__} ({commit()})",
        "app": options.app,
        "storage": options.storage,
        "pipeline": f"{options.pipeline} ordered calls ahead of their answers",
        "loop": f"{options.loop}, uvloop {uvloop}",
        "load": f"{options.rounds} rounds of {options.seconds} s by wrk",
    }


def commit() -> str:
    """Return the commit that is measured, and whether the tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "no repository") + (" with changes" if git("status", "-s") else "")


def beside(samples: list[report.Sample], memory: list[float]) -> dict[str, Any]:
    """Return what must stay in bounds under full load, and how steady the machine was."""
    calibrations = [sample.calibration_ms for sample in samples]
    own = [sample for sample in samples if sample.side == "quorate"]
    return {
        "calibration loop": f"{median(calibrations):.1f} ms, {min(calibrations):.1f} to {max(calibrations):.1f}",
        "largest sidecar": f"{memory[0]:.0f} MiB before, {memory[1]:.0f} MiB after",
        "slowest replica": f"at most {max(sample.backlog for sample in own)} requests behind at the end of a run",
        "errors": f"{sum(sample.errors for sample in samples)} answers other than 2xx, or none at all",
    }


def conclude(options: argparse.Namespace, about: dict[str, Any], rows: list[report.Row]) -> None:
    bars = report.bars(rows, options.connections[-1])
    print("", report.table(rows), "", sep="\n")
    print("\n".join(f"{name}: {value}" for name, value in about["beside"].items()))
    print("", report.verdicts(bars), sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"{options.app}-{options.storage}"
    report.write_json(options.out / f"{name}.json", about, rows, bars)
    title = f"The counter ({options.app}) with storage {options.storage}, Quorate {quorate.__version__}"
    report.draw([options.out / f"{name}.svg", options.out / f"{name}.png"], title, rows)
    print(f"\nwritten: {options.out}/{name}.json, .svg, .png")
    if any(row.errors for row in rows):
        raise Broken("some requests were not answered with 2xx", "the figures above count for nothing")


if __name__ == "__main__":
    sys.exit(main())
