"""The digest: every small difference shows, and lost checksums come back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.limits import COUNTER_MAX, LOG_DAMAGED_SLOTS_MAX, LOG_DIGEST_SUMS
from quorate.storage.digest import EMPTY, PRIME, Digest, added, lost_checksums, removed
from quorate.types import Slot

Records = dict[Slot, int]
slots = st.integers(1, COUNTER_MAX) | st.integers(1, 100)
logs = st.dictionaries(slots, st.integers(1, 2**32 - 1), max_size=40)


def digest_of(records: Records, start: Digest = EMPTY) -> Digest:
    for slot, checksum in records.items():
        start = added(start, slot, checksum)
    return start


def without(digest: Digest, records: Records) -> Digest:
    for slot, checksum in records.items():
        digest = removed(digest, slot, checksum)
    return digest


def test_it_is_the_sums_it_is_said_to_be() -> None:
    assert digest_of({3: 7, 5: 11}) == tuple((7 * 3**j + 11 * 5**j) % PRIME for j in range(LOG_DIGEST_SUMS))


def test_its_modulus_is_a_prime() -> None:
    """Miller-Rabin with the first twelve primes as bases, which decides all numbers below 2**64."""
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        powers = [pow(base, odd << n, PRIME) for n in range(twos)]
        assert powers[0] == 1 or PRIME - 1 in powers


@given(logs, st.randoms())
def test_records_come_and_go_in_any_order(records: Records, rng: random.Random) -> None:
    order = list(records.items())
    rng.shuffle(order)
    whole = digest_of(dict(order))
    assert whole == digest_of(records)
    gone = dict(order[: len(order) // 2])
    assert without(whole, gone) == digest_of(dict(order[len(order) // 2 :]))


@given(logs, logs)
def test_different_records_have_different_digests(one: Records, two: Records) -> None:
    assert (digest_of(one) == digest_of(two)) == (one == two)


@pytest.mark.parametrize("others", [0, 5, 2000])
@pytest.mark.parametrize("count", [0, 1, 2, LOG_DAMAGED_SLOTS_MAX])
def test_lost_checksums_are_computed(count: int, others: int) -> None:
    rng = random.Random(count)
    records = {rng.randrange(1, 10_000): rng.randrange(2**32) for _ in range(count + others)}
    lost = dict(rng.sample(sorted(records.items()), count))
    residue = without(digest_of(records), {slot: records[slot] for slot in records.keys() - lost.keys()})
    assert lost_checksums(residue, sorted(lost)) == lost


@given(st.integers(0, LOG_DAMAGED_SLOTS_MAX), st.randoms())
def test_another_record_that_is_outdated_shows_through_all_that_are_lost(count: int, rng: random.Random) -> None:
    """As many as there are sums left are found for certain."""
    places = rng.sample(range(1, 1000), LOG_DIGEST_SUMS)
    records = {slot: rng.randrange(2**32) for slot in places}
    outdated = {slot: checksum ^ 1 << rng.randrange(32) for slot, checksum in records.items()}
    changed = rng.randrange(1, LOG_DIGEST_SUMS - count + 1)
    residue = without(digest_of(records), {slot: outdated[slot] for slot in places[count : count + changed]})
    residue = without(residue, {slot: records[slot] for slot in places[count + changed :]})
    assert lost_checksums(residue, places[:count]) is None


def test_a_checksum_that_can_not_be_is_none() -> None:
    """One record is lost, another was swapped for one that makes up for it in the first sum alone."""
    residue = digest_of({1: 2**32})
    assert lost_checksums(residue, [1]) is None
