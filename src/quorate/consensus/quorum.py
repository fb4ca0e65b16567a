"""Quorum arithmetic: any two quorums of one membership share a voter (Lamport, "The Part-Time Parliament", §2.1).

Majorities of two memberships that differ by one voter share a voter too, which is why voters come and go one at a time
(Ongaro, "Consensus: Bridging Theory and Practice", §4.1).
"""

from __future__ import annotations

from collections.abc import Collection

from quorate.types import ReplicaId


def majority(voters: int) -> int:
    """Return the size of the smallest set that meets every other of its size: ⌊n/2⌋ + 1."""
    return voters // 2 + 1


def is_quorum(answered: Collection[ReplicaId], voters: Collection[ReplicaId]) -> bool:
    """Say whether those who answered include a majority of the voters; of no voters there is none."""
    return sum(voter in answered for voter in voters) >= majority(len(voters))
