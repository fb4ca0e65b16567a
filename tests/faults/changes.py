"""Members of a running cluster come and go by the command line, under load.

The cluster is `quorate run`, so its supervisor starts newcomers and ends leavers. Changes take it from three replicas
to five and back, over members drawn at random, leaders among them. A refusal is asked again; a change that is neither
made nor refused for good fails the run.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter as Tally
from pathlib import Path
from typing import Any

from tests.apps.service import COMMANDS
from tests.e2e.harness import Cluster, eventually
from tests.faults.judge import PROGRESS_SECONDS_MAX, Figures, judge_history
from tests.faults.load import Load

CLIENTS = 6
THINK_SECONDS = 0.02
REPLICAS = (3, 5)
"""The smallest and the largest number of members."""
CHANGE_SECONDS_MAX = 60.0


def churn(directory: Path, seed: int, changes: int) -> tuple[Figures, Tally[str]]:
    """Change the membership of a cluster so many times under load, and judge it."""
    draw = random.Random(seed)
    tally: Tally[str] = Tally()
    cluster = Cluster(COMMANDS["counter-python"], directory)
    try:
        cluster.wait_ready()
        with Load([cluster.status().url], CLIENTS, seed, THINK_SECONDS) as load:
            while tally.total() < changes and not load.troubles:
                tally[change(cluster, draw)] += 1
                load.wait_progress(PROGRESS_SECONDS_MAX)
        figures = verdict(cluster, load)
    finally:
        cluster.stop()
    return figures, tally


def change(cluster: Cluster, draw: random.Random) -> str:
    """Make one change, and wait until every member has heard of it; returns what it was."""
    names = voters(cluster)
    fewest, most = REPLICAS
    if len(names) == fewest or (len(names) < most and draw.random() < 0.5):
        newcomer = members(cluster, "add").strip()
        eventually(lambda: newcomer in voters(cluster), CHANGE_SECONDS_MAX, f"{newcomer} votes")
        return "added"
    leader = cluster.leader().name
    leaver = draw.choice(names)
    members(cluster, "remove", leaver)
    eventually(lambda: leaver not in voters(cluster), CHANGE_SECONDS_MAX, f"{leaver} votes no more")
    return "removed, the leader" if leaver == leader else "removed"


def voters(cluster: Cluster) -> list[str]:
    listed: dict[str, Any] = json.loads(members(cluster, "list", "--output", "json"))
    return [member["name"] for member in listed["members"] if member["role"] == "voter"]


def members(cluster: Cluster, *words: str) -> str:
    """Run `quorate members`, again while it is refused, and return what it printed."""
    command = [sys.executable, "-m", "quorate", "members", *words, "--data-dir", str(cluster.data_dir)]
    deadline = time.monotonic() + CHANGE_SECONDS_MAX
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHANGE_SECONDS_MAX, check=False)
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, f"{words}: {done.stderr}"
        time.sleep(0.1)


def verdict(cluster: Cluster, load: Load) -> Figures:
    """Judge what clients saw, and what the members that are left hold."""
    cluster.settled()
    values = {f"copy {number}": value for number, value in enumerate(cluster.app_values())}
    judge_history(load, 0, values)
    assert "Traceback" not in cluster.log(), cluster.log_tail()
    writes = load.writes()
    return Figures(len(writes), len(load.history) - len(writes), load.seconds, load.longest_gap())
