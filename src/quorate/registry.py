"""The one list of names a configuration may use, and what they stand for.

A new engine, core, store or transport is one file, one line here, and the contract suite over this list. Entries are
imported only when asked for, so an optional client library costs nothing to those who don't use it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from quorate.errors import Misuse

CORES: Mapping[str, str] = {
    "paxos": "quorate.consensus.paxos.node:PaxosCore",
    "raft": "quorate.consensus.raft.node:RaftCore",
}
"""Name -> core; called with (me, founding membership, rng, recovered)."""

MESSAGES: Mapping[str, str] = {
    "paxos": "quorate.consensus.paxos.messages:PaxosMessage",
    "raft": "quorate.consensus.raft.messages:RaftMessage",
}
"""Name of a core -> the union of its messages."""

STORES: Mapping[str, str] = {
    "sync": "quorate.storage.lmdb:open_store",
    "async": "quorate.storage.lmdb:open_async",
    "memory": "quorate.storage.memory:open_store",
}
"""Storage mode -> opener; called with (directory, identity)."""

TRANSPORTS: Mapping[str, str] = {"tcp": "quorate.transport.tcp:TcpMesh"}
"""Name -> transport; called with (me, membership, options, store facts, data directory, rng)."""


def resolve(table: Mapping[str, str], name: str) -> Any:
    """Return what `name` stands for in one of the tables. Raises Misuse for a name that is not there."""
    if name not in table:
        raise Misuse(f"unknown name {name!r}", f"choose one of {', '.join(table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
