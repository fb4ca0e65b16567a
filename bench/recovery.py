"""Measures what it costs to be ready for the worst, and how soon a cluster is itself again after it.

    python -m bench.recovery [checkpoints] [catchup] [failover] [growth]

Without a subject it takes all of them, one after the other; their own files tell how each is measured. As in
`bench.run`, figures count beside others of the same run, and a calibration loop is timed along. Each subject writes
its figures to bench/results as JSON, and growth a picture to docs/images. It refuses to start without wrk or the app's
runtime.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import catchup, checkpoints, failover, growth, report
from bench.machine import machine, require, software, steadiness
from bench.sides import COMMANDS, ROOT

from quorate.errors import QuorateError

SUBJECTS = {
    "checkpoints": checkpoints.measure,
    "catchup": catchup.measure,
    "failover": failover.measure,
    "growth": growth.measure,
}


def main() -> int:
    """Measure and report; returns the exit code."""
    options = parse()
    try:
        require("wrk", COMMANDS[options.app][0])
        for subject in options.subjects or SUBJECTS:
            measure_and_report(subject, options)
    except QuorateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.recovery", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "subjects", nargs="*", metavar="subject", help=f"of {', '.join(SUBJECTS)}; all if none is given"
    )
    parser.add_argument("--app", choices=tuple(COMMANDS), default="python")
    parser.add_argument("--consensus", choices=("paxos", "raft"), default="paxos")
    parser.add_argument("--pipeline", type=int, default=64, help="ordered calls ahead of their answers; 1: none")
    parser.add_argument("--rounds", type=int, default=3, help="of checkpoints and catchup")
    parser.add_argument("--seconds", type=int, default=20, help="length of one run of checkpoints")
    parser.add_argument("--behind", type=int, default=100_000, help="writes that a replica sleeps through for catchup")
    parser.add_argument("--kills", type=int, default=50, help="of failover")
    parser.add_argument("--commands", type=int, default=2_000_000, help="of growth")
    parser.add_argument("--dir", type=Path, help="where the log is written meanwhile, on the disk to be measured")
    parser.add_argument("--out", type=Path, default=report.RESULTS)
    parser.add_argument("--images", type=Path, default=ROOT / "docs/images")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    return options


def measure_and_report(subject: str, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="quorate-bench-", dir=options.dir) as directory:
        about = {"machine": machine(Path(directory)), "settings": software("auto") | settings(options)}
        report.say(f"--- {subject}")
        found = SUBJECTS[subject](options, Path(directory))
    about["beside"] = {"calibration loop": steadiness(found.calibrations)} | found.beside
    print(f"\n{subject}", *(f"{name}: {value}" for part in about.values() for name, value in part.items()), sep="\n")
    print("", report.columns(found.rows), "", report.verdicts(found.bars), sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{subject}-{options.consensus}.json"
    report.write_json(file, about, found.rows, found.bars)
    print(f"\nwritten: {file}", flush=True)


def settings(options: argparse.Namespace) -> dict[str, str]:
    return {
        "app": options.app,
        "consensus": options.consensus,
        "storage": "sync",
        "pipeline": f"{options.pipeline} ordered calls ahead of their answers",
    }


if __name__ == "__main__":
    sys.exit(main())
