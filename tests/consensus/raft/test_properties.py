"""Figure 3.2 on long walks through anything that may happen."""

from __future__ import annotations

import pytest
from tests.consensus.raft.properties import Properties
from tests.consensus.trouble import Trouble, random_steps

from quorate.consensus.raft.node import RaftCore


@pytest.mark.parametrize("seed", range(60))
def test_what_raft_guarantees_holds_at_all_times(seed: int) -> None:
    trouble = Trouble(RaftCore)
    Properties(trouble.net)
    trouble.walk(random_steps(seed, 300))
    trouble.end_well()
