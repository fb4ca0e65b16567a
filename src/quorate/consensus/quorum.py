"""Quorum arithmetic: any two quorums of one membership share a member (Lamport, "The Part-Time Parliament", §2.1)."""

from __future__ import annotations

from collections.abc import Collection


def majority(members: int) -> int:
    """Return the size of the smallest set that meets every other of its size: ⌊n/2⌋ + 1."""
    return members // 2 + 1


def is_quorum(answered: Collection[object], members: int) -> bool:
    """Say whether those who answered are a majority of the membership."""
    return len(answered) >= majority(members)
