"""Broken Multi-Paxos: that each bug is caught is shown in `test_table`, here that none is left out."""

from __future__ import annotations

from quorate.consensus.paxos.node import PaxosCore
from quorate.sim.planted import paxos
from quorate.sim.planted.cores import Bent
from quorate.sim.planted.table import PLANTED


def test_every_bug_of_this_protocol_is_in_the_table() -> None:
    planted = {bug for one in PLANTED.values() for bug in one.kit.core.__mro__}  # type: ignore[attr-defined]
    bugs = [bug for bug in vars(paxos).values() if isinstance(bug, type) and bug.__module__ == paxos.__name__]
    assert bugs
    for bug in bugs:
        assert issubclass(bug, PaxosCore | Bent)
        assert bug in planted, bug
