"""Broken Raft: that each bug is caught is shown in `test_table`, here that none is left out."""

from __future__ import annotations

from quorate.consensus.raft.node import RaftCore
from quorate.sim.planted import raft
from quorate.sim.planted.cores import Bent
from quorate.sim.planted.table import PLANTED


def test_every_bug_of_this_protocol_is_in_the_table() -> None:
    planted = {bug for one in PLANTED.values() for bug in one.kit.core.__mro__}  # type: ignore[attr-defined]
    bugs = [bug for bug in vars(raft).values() if isinstance(bug, type) and bug.__module__ == raft.__name__]
    assert bugs
    for bug in bugs:
        assert issubclass(bug, RaftCore | Bent)
        assert bug in planted, bug
