"""Partitions of each kind, loss, slow links and a leader that sleeps: nothing is lost, and writes go on (I1 to I8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.judge import judge_disks
from tests.faults.lab import running
from tests.faults.nemesis import SCENARIOS, fight

SECONDS = 3.0
"""Long enough for a new leader to be elected and to lead."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_when(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    with running(tmp_path, shaped=scenario.shaped) as lab:
        fight(lab, scenario, SECONDS, seed=1)
        judge_disks(lab)
