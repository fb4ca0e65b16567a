"""A process killed at any of its persistence calls leaves what it acknowledged (FAULTS.md §2 row 4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.crash_points import die_at, examine

SEED = 2
COMMITS = 14


@pytest.mark.parametrize("call", range(1, 49, 2))
def test_what_was_acknowledged_is_there(call: int, tmp_path: Path) -> None:
    acknowledged = die_at(call, tmp_path, SEED, COMMITS)
    assert acknowledged is not None
    examine(tmp_path, SEED, acknowledged)


def test_a_process_that_is_not_killed_comes_to_the_end(tmp_path: Path) -> None:
    assert die_at(10_000, tmp_path, SEED, COMMITS) is None
    examine(tmp_path, SEED, COMMITS)


def test_a_lost_commit_would_be_seen(tmp_path: Path) -> None:
    assert die_at(10_000, tmp_path, SEED, COMMITS) is None
    with pytest.raises(AssertionError, match="not what 16 commits left"):
        examine(tmp_path, SEED, COMMITS + 2)
