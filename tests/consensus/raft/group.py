"""Raft groups as the papers draw them: by the terms of the entries in each log."""

from __future__ import annotations

from tests.consensus.conversation import ONE, Network, ballot, value

from quorate import limits
from quorate.consensus.core import Persist
from quorate.consensus.raft.node import RaftCore
from quorate.storage.memory import MemoryStore
from quorate.types import ReplicaId, Slot, Vote


def raft(size: int = 3) -> Network:
    return Network(size, RaftCore)


def led(size: int = 3) -> Network:
    """Return a group that replica 1 leads in term 1 and everybody knows it."""
    net = raft(size)
    net.elect(ONE)
    net.tick(limits.HEARTBEAT_TICKS)
    return net


def entry(term: int, slot: Slot) -> Vote:
    """Return an entry as the figures show them: there is one for each term and slot."""
    return Vote(ballot(term, term), value(f"{slot}@{term}."))


def hold(net: Network, me: ReplicaId, terms: str, term: int) -> None:
    """Let a member start anew with a log of these terms, its own term being `term`."""
    votes = [(slot, entry(int(each), slot)) for slot, each in enumerate(terms, 1)]
    store = MemoryStore()
    store.commit([Persist(1, ballot(term, 0), votes, 0)])
    net.crash(me)
    net.revive(me, store)


def held(net: Network, me: ReplicaId) -> str:
    """Return the terms of the log of a member, as far as its disk has it."""
    return "".join(str(vote.ballot.round) for vote in net[me].store.read(1, 99, 2**30))


def term(net: Network, me: ReplicaId) -> int:
    return net[me].core.status().ballot.round
