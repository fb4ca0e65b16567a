"""Partitions of each kind, loss, slow links and a leader that sleeps: nothing is lost, and writes go on (I1 to I8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.judge import judge_disks
from tests.faults.lab import running
from tests.faults.nemesis import SCENARIOS, fight

from quorate.config import Consensus

SECONDS = 3.0
"""Long enough for a new leader to be elected and to lead."""


OF_RAFT = ("leader cut off", "bridge", "leader stopped")
"""Here Raft, too, is seen at work; `make torture` has it go through all of them."""
RUNS: list[tuple[Consensus, str]] = [("paxos", name) for name in SCENARIOS] + [("raft", name) for name in OF_RAFT]


@pytest.mark.parametrize(("consensus", "name"), RUNS)
def test_nothing_is_lost_when(consensus: Consensus, name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    with running(tmp_path, shaped=scenario.shaped, consensus=consensus) as lab:
        fight(lab, scenario, SECONDS, seed=1)
        judge_disks(lab)
