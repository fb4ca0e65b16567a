"""The cores a world can be built of, by the names that configurations use for them."""

from __future__ import annotations

from collections.abc import Mapping

from quorate.consensus.paxos.messages import PaxosMessage
from quorate.consensus.paxos.node import PaxosCore
from quorate.consensus.raft.messages import RaftMessage
from quorate.consensus.raft.node import RaftCore
from quorate.sim.machine import Kit
from quorate.sim.rules_paxos import PaxosRules
from quorate.sim.rules_raft import RaftRules

PAXOS = Kit(PaxosCore, PaxosMessage, PaxosRules)
RAFT = Kit(RaftCore, RaftMessage, RaftRules)

KITS: Mapping[str, Kit] = {"paxos": PAXOS, "raft": RAFT}
