"""A planted core differs from the real one by its bug alone; that it is caught is shown in `test_table`."""

from __future__ import annotations

from tests.sim.worlds import PEACE

from quorate.consensus.paxos.node import PaxosCore
from quorate.consensus.raft.node import RaftCore
from quorate.sim.planted.cores import Bent, in_paxos, in_raft
from quorate.sim.world import World


def test_a_core_that_is_bent_by_nothing_is_the_real_one() -> None:
    from quorate.sim.kits import PAXOS, RAFT

    for kit, bent in ((PAXOS, in_paxos(Bent)), (RAFT, in_raft(Bent))):
        assert World(PEACE, kit._replace(core=bent)).run() == World(PEACE, kit).run()


def test_a_bug_of_either_protocol_goes_into_both() -> None:
    assert issubclass(in_paxos(Bent), PaxosCore)
    assert issubclass(in_raft(Bent), RaftCore)
    assert in_raft(Bent).__doc__ == Bent.__doc__
