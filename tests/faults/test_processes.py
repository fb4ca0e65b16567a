"""Replicas that are killed again and again, or run out of file descriptors, under load."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest
from tests.e2e.harness import Client
from tests.faults.judge import PROGRESS_SECONDS_MAX, judge, judge_disks
from tests.faults.kills import ALL, CLIENTS, WRITES_PER_SECOND_MIN, storm
from tests.faults.lab import Lab, running
from tests.faults.load import Load
from tests.faults.network import host

from quorate.config import Consensus

SEED = 1
KILLS = 40
VICTIM = 1
DESCRIPTORS = 64


@pytest.mark.parametrize("consensus", ["paxos", "raft"])
def test_kills_at_random_lose_nothing(consensus: Consensus, tmp_path: Path) -> None:
    with running(tmp_path, consensus=consensus) as lab:
        storm_and_judge(lab)


def storm_and_judge(lab: Lab) -> None:
    with Load(lab.urls(), CLIENTS, SEED) as load:
        kills = storm(lab, load, KILLS, random.Random(SEED))
        load.wait_progress(PROGRESS_SECONDS_MAX)
    figures = judge(lab, load)
    judge_disks(lab)
    assert kills.total() >= KILLS
    assert kills[ALL], "what all may lose together was not tried"
    assert figures.writes / figures.seconds >= WRITES_PER_SECOND_MIN


def test_a_replica_out_of_file_descriptors_goes_on(lab: Lab) -> None:
    """FAULTS.md §2 row 8: strangers take what is left; the connections to its peers are not among it."""
    lab.kill(VICTIM)
    lab.start(VICTIM, under=["prlimit", f"--nofile={DESCRIPTORS}"])
    lab.ready(VICTIM)
    crowd = [socket.create_connection((host(VICTIM), 8000)) for _ in range(2 * DESCRIPTORS)]
    with Load(lab.urls(), 6, SEED, 0.02) as load:
        load.wait_progress(PROGRESS_SECONDS_MAX, writes=100)
        for one in crowd:
            one.close()
        load.wait_progress(PROGRESS_SECONDS_MAX)
    assert VICTIM in lab.running()
    with Client(lab.url(VICTIM)) as client:
        assert client.ask("GET", "/integer").status == 200
    judge(lab, load)
