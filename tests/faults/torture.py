"""`make torture`: the faults of this directory in quantity, stage by stage, and a record of what they found.

    python -m tests.faults.torture                 all stages, to the counts of the record
    python -m tests.faults.torture kills flips     some of them
    python -m tests.faults.torture --seconds 500   as far as that time goes; the next run takes it up from there
    python -m tests.faults.torture --anew          forget the record

A stage is done in rounds, each of its own seed on a fresh cluster or log, and the record grows with each round: it
holds sums, the longest gap and the seeds. The first round that breaks an invariant ends the run with the seed, and is
not recorded. The record is docs/reliability.json, and its table in docs/reliability.md is written anew from it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults import changes, crash_points, damage
from tests.faults.judge import PROGRESS_SECONDS_MAX, Figures, judge, judge_disks
from tests.faults.kills import CLIENTS, WRITES_PER_SECOND_MIN, storm
from tests.faults.lab import ROOT, running
from tests.faults.load import Load
from tests.faults.nemesis import SCENARIOS, fight

from quorate.config import Consensus

RECORD = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)

KILLS = 50
"""Per round: the log stays short enough to be replayed at each restart."""
POINTS = 20
FLIPS = 50
CHANGES = 20
NETWORK_SECONDS = 8.0

Record = dict[str, Any]


def kills(consensus: Consensus, seed: int, directory: Path) -> Record:
    """One cluster under a storm of kill -9."""
    with running(directory, consensus=consensus) as lab, Load(lab.urls(), CLIENTS, seed) as load:
        tally = storm(lab, load, KILLS, random.Random(seed))
        load.wait_progress(PROGRESS_SECONDS_MAX)
        figures = judge(lab, load)
        slots = judge_disks(lab)
    assert figures.writes / figures.seconds >= WRITES_PER_SECOND_MIN, figures
    return seen(figures) | {"done": tally.total(), "kinds": dict(tally), "slots_compared": slots}


def points(seed: int, directory: Path) -> Record:
    """The next so many crash points of one script of commits: the points of round n follow those of round n - 1."""
    first = POINTS * (seed - 1) + 1
    for call in range(first, first + POINTS):
        place = directory / str(call)
        acknowledged = crash_points.die_at(call, place, seed=1, commits=call)
        assert acknowledged is not None, f"call {call} was never made"
        crash_points.examine(place, 1, acknowledged)
    return {"done": POINTS}


def flips(seed: int, directory: Path) -> Record:
    """One log, damaged many times."""
    damage.make_log(directory / "log", seed)
    found = Tally(damage.outcomes(directory / "log", directory, seed, FLIPS, random.Random(seed)))
    outcomes: Tally[str] = Tally()
    for (kind, outcome), times in found.items():
        assert outcome is not damage.Outcome.WRONG, f"a flip in a {kind} made the store say what was never written"
        outcomes[outcome.name.lower()] += times
    return {"done": found.total(), "kinds": dict(outcomes)}


def rounds(consensus: Consensus, seed: int, directory: Path) -> Record:
    """One network fault, each kind in turn."""
    name = list(SCENARIOS)[(seed - 1) % len(SCENARIOS)]
    with running(directory, shaped=SCENARIOS[name].shaped, consensus=consensus) as lab:
        figures = fight(lab, SCENARIOS[name], NETWORK_SECONDS, seed)
        slots = judge_disks(lab)
    return seen(figures) | {"done": 1, "kinds": {name: 1}, "slots_compared": slots}


def memberships(seed: int, directory: Path) -> Record:
    """One cluster whose members come and go."""
    figures, tally = changes.churn(directory, seed, CHANGES)
    return seen(figures) | {"done": tally.total(), "kinds": dict(tally)}


def seen(figures: Figures) -> Record:
    """Return what clients saw, in the words of the record."""
    return {
        "acknowledged_writes": figures.writes,
        "linearizable_reads": figures.reads,
        "seconds": round(figures.seconds, 1),
        "longest_gap_seconds": round(figures.longest_gap_seconds, 2),
    }


class Stage(NamedTuple):
    """One kind of torture, and how much of it there is to be."""

    round: Callable[[int, Path], Record]
    wanted: int
    title: str


STAGES = {
    "kills": Stage(partial(kills, "paxos"), 1000, "kill -9 of sidecars, apps and whole clusters"),
    "raft-kills": Stage(partial(kills, "raft"), 200, "the same, Raft"),
    "points": Stage(points, 300, "kill points at persistence system calls"),
    "flips": Stage(flips, 1000, "single-bit flips of a stored log"),
    "rounds": Stage(partial(rounds, "paxos"), 30, "network fault rounds"),
    "raft-rounds": Stage(partial(rounds, "raft"), 20, "the same, Raft"),
    "memberships": Stage(memberships, 200, "membership changes under load"),
}


def torture(name: str, record: Record, end: float, say: Callable[[str], None]) -> None:
    """Do rounds of a stage until the record holds what is wanted, or time is up."""
    stage = STAGES[name]
    so_far: Record = record.setdefault(name, {"done": 0, "rounds": 0})
    while so_far["done"] < stage.wanted and time.monotonic() < end:
        seed = so_far["rounds"] + 1
        say(f"{name}: {so_far['done']} of {stage.wanted}; round with seed {seed}")
        with tempfile.TemporaryDirectory(prefix=f"quorate-{name}-") as directory:
            found = stage.round(seed, Path(directory) / "lab")
        record[name] = so_far = merged(so_far, found | {"rounds": 1})
        keep(record)
    say(f"{name}: {json.dumps(so_far)}")


def merged(one: Record, other: Record) -> Record:
    """Add up two records; of gaps, the longest counts."""
    total = dict(one)
    for key, value in other.items():
        if isinstance(value, dict):
            total[key] = merged(one.get(key, {}), value)
        elif key == "longest_gap_seconds":
            total[key] = max(one.get(key, 0.0), value)
        else:
            total[key] = round(one.get(key, 0) + value, 1)
    return total


def keep(record: Record) -> None:
    """Write the record, and its table into the page that shows it."""
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    if PAGE.exists():
        PAGE.write_text(TABLE.sub(lambda _: table(record), PAGE.read_text()))


def table(record: Record) -> str:
    """Return the record as a table in Markdown."""
    lines = [
        "| what | how many | acknowledged writes | per second | longest gap | lost or wrong |",
        "|---|" + "--:|" * 5,
    ]
    for name, stage in STAGES.items():
        found = record.get(name, {"done": 0})
        writes, gap = found.get("acknowledged_writes"), found.get("longest_gap_seconds")
        rate = f"{writes / found['seconds']:.0f}" if writes else ""
        cells = [
            stage.title,
            f"{found['done']:,}",
            f"{writes:,}" if writes else "",
            rate,
            f"{gap} s" if gap else "",
            "0",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Run {record['when']} at commit {record['commit']} on {record['machine']}.", ""])


def circumstances() -> Record:
    """Return when, on what and of what the record is."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    machine = f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    return {"when": time.strftime("%Y-%m-%d"), "commit": commit.stdout.strip(), "machine": machine}


def main() -> None:
    """Be the command line."""
    arguments = argparse.ArgumentParser(description="Torture the replicas.")
    arguments.add_argument("stages", nargs="*", choices=[*STAGES, []], help="all if none is named")
    arguments.add_argument("--seconds", type=float, default=float("inf"), help="begin no round after this time")
    arguments.add_argument("--anew", action="store_true", help="forget the record")
    given = arguments.parse_args()
    record: Record = json.loads(RECORD.read_text()) if RECORD.exists() and not given.anew else {}
    record |= circumstances()
    end = time.monotonic() + given.seconds
    for name in given.stages or STAGES:
        torture(name, record, end, lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
