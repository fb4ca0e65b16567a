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
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import report
from bench.load import Kind, put_load
from bench.machine import calibration_ms, machine, require, software, steadiness
from bench.sides import COMMANDS, Quorate, Side, all_sides, wait_until

import quorate
from quorate.errors import Broken, QuorateError

KINDS: tuple[Kind, ...] = ("write", "read")
WARM_UP_SECONDS = 1
WARM_UP_CONNECTIONS = 16


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
    parser.add_argument("--out", type=Path, default=report.RESULTS)
    options = parser.parse_args()
    options.connections = sorted({1, *map(int, options.connections.split(","))})
    return options


def measure_and_report(options: argparse.Namespace) -> None:
    require("wrk", "nginx", *COMMANDS[options.app][:1])
    with tempfile.TemporaryDirectory(prefix="quorate-bench-", dir=options.dir) as directory:
        about = {"machine": machine(Path(directory)), "settings": settings(options)}
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


def show_progress(samples: list[report.Sample]) -> None:
    first = samples[0]
    rates = "  ".join(f"{sample.side} {sample.rate:.0f}/s" for sample in samples)
    report.say(f"round {first.round + 1}, {first.kind} at {first.connections}: {rates}")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    return software(options.loop) | {
        "app": options.app,
        "storage": options.storage,
        "pipeline": f"{options.pipeline} ordered calls ahead of their answers",
        "load": f"{options.rounds} rounds of {options.seconds} s by wrk",
    }


def beside(samples: list[report.Sample], memory: list[float]) -> dict[str, Any]:
    """Return what must stay in bounds under full load, and how steady the machine was."""
    own = [sample for sample in samples if sample.side == "quorate"]
    return {
        "calibration loop": steadiness([sample.calibration_ms for sample in samples]),
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
