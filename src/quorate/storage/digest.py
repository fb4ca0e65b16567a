"""A digest over records, each a slot and a checksum, that vouches for the others when some are lost.

It is a Reed-Solomon code ("Polynomial Codes over Certain Finite Fields", 1960) whose symbols are the checksums: over
all records with slot s and checksum c it holds the sums of c·s^j modulo a prime, for j = 0 … n - 1. Hence:

- Records are added and taken out one by one, in any order, each for n multiplications.
- Two sets of records that differ in n slots or fewer never have the same digest, whether a record is outdated, moved,
  swapped or missing (one with checksum 0 apart, which counts for nothing); others do so by chance of 2⁻⁶³ or less.
- If e records are known to be lost, n - e sums still judge all others for as many differences; and the checksums that
  were lost can be computed.

Like a CRC it guards against accidents and not against forgery.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from quorate.limits import COUNTER_MAX, LOG_DIGEST_SUMS
from quorate.types import Slot

Digest = tuple[int, ...]
"""The n sums, each below 2**63."""

PRIME = 2**63 - 25
"""The largest below 2**63: above every slot, so that no two slots are the same modulo it."""

EMPTY: Digest = (0,) * LOG_DIGEST_SUMS

assert COUNTER_MAX < PRIME


def added(digest: Digest, slot: Slot, checksum: int) -> Digest:
    """Return the digest with one more record in it."""
    sums = []
    for total in digest:
        sums.append((total + checksum) % PRIME)
        checksum = checksum * slot % PRIME
    return tuple(sums)


def removed(digest: Digest, slot: Slot, checksum: int) -> Digest:
    """Return the digest without a record that was added."""
    return added(digest, slot, -checksum)


def lost_checksums(residue: Digest, slots: Sequence[Slot]) -> dict[Slot, int] | None:
    """Return the checksums that the lost records of `slots` bore, where `residue` is what all others leave of a digest.

    None if no checksums of these slots account for it: then something is wrong with the others.
    """
    checksums = {slot: _checksum(residue, slot, slots) for slot in slots}
    for slot, checksum in checksums.items():
        residue = removed(residue, slot, checksum)
    accounted = residue == EMPTY and all(checksum < 2**32 for checksum in checksums.values())
    return checksums if accounted else None


def _checksum(residue: Digest, slot: Slot, slots: Sequence[Slot]) -> int:
    """Cancel every other slot t, for a sum each: c·s^(j+1) - t·(c·s^j) is c·s^j·(s - t), and so 0 where s = t."""
    factor = 1
    for other in slots:
        if other != slot:
            residue = tuple((above - other * below) % PRIME for below, above in pairwise(residue))
            factor = factor * (slot - other) % PRIME
    return residue[0] * pow(factor, -1, PRIME) % PRIME
