"""What every store must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate import registry
from quorate.consensus.core import Persist, Recovered
from quorate.errors import IdentityRefused, StorageBroken
from quorate.storage import Identity, LogStore
from quorate.types import NO_BALLOT, NOOP, Ballot, Batch, ReplicaId, Vote

IDENTITY = Identity("bank", ReplicaId(1), 1)
ONE = Ballot(1, ReplicaId(1))
TWO = Ballot(2, ReplicaId(2))

Opener = Callable[[], LogStore]


@pytest.fixture(params=sorted(registry.STORES))
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    open_store = registry.resolve(registry.STORES, request.param)
    return lambda: open_store(tmp_path / "data", IDENTITY)


@pytest.fixture
def store(opener: Opener) -> Iterator[LogStore]:
    store = opener()
    yield store
    store.close()


def vote(ballot: Ballot, value: str, size: int = 1) -> Vote:
    return Vote(ballot, Batch(size, value.encode()))


def test_a_fresh_store_vouches_for_nothing(store: LogStore) -> None:
    assert store.recover() == Recovered(NO_BALLOT, {}, 0)
    assert store.read(1, 10, 1000) == []
    assert list(store.counts(1, 0)) == []


def test_a_promise_alone_is_kept(store: LogStore) -> None:
    store.commit([Persist(1, TWO, [], 0)])
    assert store.recover() == Recovered(TWO, {}, 0)


def test_votes_above_the_chosen_prefix_are_recovered(store: LogStore) -> None:
    votes = [(1, vote(ONE, "a")), (2, vote(ONE, "b")), (4, vote(ONE, "d"))]
    store.commit([Persist(1, ONE, votes, 0)])
    store.commit([Persist(2, ONE, [], 1)])
    assert store.recover() == Recovered(ONE, dict(votes[1:]), 1)


def test_persists_apply_in_order(store: LogStore) -> None:
    store.commit(
        [
            Persist(1, ONE, [(1, vote(ONE, "a")), (2, vote(ONE, "b"))], 0),
            Persist(2, TWO, [(2, vote(TWO, "c"))], 1),
        ]
    )
    assert store.recover() == Recovered(TWO, {2: vote(TWO, "c")}, 1)


def test_a_later_vote_replaces_an_earlier_one(store: LogStore) -> None:
    store.commit([Persist(1, ONE, [(1, vote(ONE, "a"))], 0)])
    store.commit([Persist(2, TWO, [(1, vote(TWO, "b"))], 0)])
    store.commit([Persist(3, TWO, [], 1)])
    assert store.read(1, 1, 1000) == [vote(TWO, "b")]


def test_reads_are_contiguous(store: LogStore) -> None:
    votes = [(slot, vote(ONE, str(slot))) for slot in (1, 2, 3, 5)]
    store.commit([Persist(1, ONE, votes, 2)])
    assert store.read(1, 5, 1000) == [vote(ONE, "1"), vote(ONE, "2"), vote(ONE, "3")]
    assert store.read(2, 2, 1000) == [vote(ONE, "2")]
    assert store.read(4, 5, 1000) == []


def test_reads_are_bounded_but_return_something(store: LogStore) -> None:
    store.commit([Persist(1, ONE, [(slot, vote(ONE, "x" * 100)) for slot in range(1, 6)], 5)])
    assert len(store.read(1, 5, 1)) == 1
    assert len(store.read(1, 5, 250)) == 2
    assert len(store.read(1, 5, 500)) == 5


def test_counts_are_those_of_the_batches(store: LogStore) -> None:
    values = [vote(ONE, "aaa", 3), Vote(ONE, NOOP), vote(ONE, "b", 1)]
    store.commit([Persist(1, ONE, list(enumerate(values, 1)), 3)])
    assert list(store.counts(1, 3)) == [3, 0, 1]
    assert list(store.counts(2, 2)) == [0]
    assert store.read(2, 2, 0) == [Vote(ONE, NOOP)]


def test_a_chosen_slot_that_is_missing_is_broken(store: LogStore) -> None:
    store.commit([Persist(1, ONE, [(1, vote(ONE, "a"))], 1)])
    with pytest.raises(StorageBroken, match="slot 2"):
        list(store.counts(1, 2))


def test_large_and_many_values(store: LogStore) -> None:
    large = vote(ONE, "x" * 3_000_000)
    small = [(slot, vote(ONE, str(slot))) for slot in range(2, 10_000)]
    store.commit([Persist(1, ONE, [(1, large), *small], 9_999)])
    assert store.read(1, 1, 0) == [large]
    assert sum(store.counts(1, 9_999)) == 9_999
    assert store.recover() == Recovered(ONE, {}, 9_999)


def test_a_directory_in_use_is_refused(opener: Opener, store: LogStore) -> None:
    with pytest.raises(IdentityRefused, match="in use by process"):
        opener()


def test_what_was_committed_is_recovered_or_the_directory_refused(opener: Opener) -> None:
    """A store either remembers or does not open again: one that opens and forgot would vote twice."""
    store = opener()
    forgets = not store.blocks
    store.commit([Persist(1, TWO, [(1, vote(ONE, "a")), (2, vote(ONE, "b"))], 1)])
    store.close()
    if forgets:
        with pytest.raises(IdentityRefused, match="forgot"):
            opener()
        return
    store = opener()
    assert store.recover() == Recovered(TWO, {2: vote(ONE, "b")}, 1)
    assert store.read(1, 2, 1000) == [vote(ONE, "a"), vote(ONE, "b")]
    store.close()
