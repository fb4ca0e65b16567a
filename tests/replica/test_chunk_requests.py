"""Who is asked for which chunk: everything once, whoever is slow, lies or lacks what others have."""

from __future__ import annotations

import random

import pytest

from quorate import limits
from quorate.replica.chunk_requests import ChunkRequests
from quorate.types import ReplicaId

ONE, TWO = ReplicaId(1), ReplicaId(2)


def hashes(count: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(count)]


def requests(count: int) -> ChunkRequests:
    return ChunkRequests(hashes(count), random.Random(1))


def asked(of: ChunkRequests, peer: ReplicaId, now: float = 0, *, whole: bool = True) -> list[bytes]:
    found = []
    while (hash_ := of.next(peer, now, whole=whole)) is not None:
        found.append(hash_)
    return found


def test_a_holder_is_asked_in_order_for_a_few_at_a_time() -> None:
    some = requests(10)
    assert asked(some, ONE) == hashes(10)[: limits.SNAPSHOT_REQUESTS_MAX]
    assert asked(some, ONE) == []
    some.arrived(ONE, hashes(10)[0])
    assert asked(some, ONE) == hashes(10)[limits.SNAPSHOT_REQUESTS_MAX :][:1]


def test_two_holders_are_asked_for_different_chunks() -> None:
    some = requests(100)
    seen: list[bytes] = []
    while batch := [(peer, hash_) for peer in (ONE, TWO) for hash_ in asked(some, peer)]:
        for peer, hash_ in batch:
            seen.append(hash_)
            some.arrived(peer, hash_)
    assert sorted(seen) == hashes(100)


def test_what_a_peer_lacks_is_asked_of_another() -> None:
    some = requests(1)
    assert asked(some, TWO, whole=False) == hashes(1)
    some.missing(TWO, hashes(1)[0])
    assert asked(some, TWO, whole=False) == []
    assert not some.hopeless([ONE, TWO])
    assert asked(some, ONE) == hashes(1)
    some.missing(ONE, hashes(1)[0])
    assert some.hopeless([ONE, TWO])


def test_a_peer_that_lacks_many_in_a_row_is_left_alone() -> None:
    some = requests(1000)
    tries = 0
    while batch := asked(some, TWO, whole=False):
        tries += len(batch)
        for hash_ in batch:
            some.missing(TWO, hash_)
    assert limits.SNAPSHOT_MISSES_MAX <= tries < limits.SNAPSHOT_MISSES_MAX + limits.SNAPSHOT_REQUESTS_MAX
    assert some.hopeless([TWO])


def test_a_peer_that_has_some_is_asked_on() -> None:
    """It holds every second chunk: it is found to, since it is asked at random."""
    some = requests(400)
    held = set(hashes(400)[::2])
    got = 0
    for _ in range(2000):
        for hash_ in asked(some, TWO, whole=False):
            if hash_ in held:
                some.arrived(TWO, hash_)
                got += 1
            else:
                some.missing(TWO, hash_)
    assert got == 200


def test_what_is_not_answered_in_time_is_asked_of_another() -> None:
    some = requests(2)
    assert asked(some, ONE, 0) == hashes(2)
    some.expire(limits.SNAPSHOT_REQUEST_SECONDS_MAX)
    assert asked(some, TWO, 1) == []
    some.expire(limits.SNAPSHOT_REQUEST_SECONDS_MAX + 0.1)
    assert sorted(asked(some, TWO, 11)) == hashes(2)


def test_an_answer_that_comes_late_is_an_answer() -> None:
    some = requests(2)
    asked(some, ONE, 0)
    some.expire(limits.SNAPSHOT_REQUEST_SECONDS_MAX + 1)
    some.arrived(ONE, hashes(2)[0])
    assert asked(some, TWO) == hashes(2)[1:]
    some.arrived(ONE, hashes(2)[1])
    assert some.hopeless([])


def test_a_shunned_peer_gives_back_what_it_was_asked_for() -> None:
    some = requests(3)
    asked(some, ONE)
    some.shun(ONE)
    assert asked(some, ONE) == []
    assert sorted(asked(some, TWO)) == hashes(3)


@pytest.mark.parametrize("seed", range(10))
def test_everything_comes_whatever_gets_lost(seed: int) -> None:
    rng = random.Random(seed)
    some = ChunkRequests(hashes(200), rng)
    held = {ONE: set(hashes(200)), TWO: set(rng.sample(hashes(200), 90))}
    got: set[bytes] = set()
    now = 0.0
    while len(got) < 200:
        now += 1
        some.expire(now)
        for peer in (ONE, TWO):
            for hash_ in asked(some, peer, now, whole=peer == ONE):
                if rng.random() < 0.3:
                    continue
                if hash_ in held[peer]:
                    got.add(hash_)
                    some.arrived(peer, hash_)
                else:
                    some.missing(peer, hash_)
        assert now < 2000
