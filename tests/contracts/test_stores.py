"""What every store must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate import registry
from quorate.consensus.core import Persist, Recovered
from quorate.errors import IdentityRefused, Misuse, StorageBroken
from quorate.storage import Identity, LogStore
from quorate.storage.room import Room
from quorate.types import NO_BALLOT, NO_BASE, NOOP, Ballot, Base, Batch, ReplicaId, Slot, Vote, founding

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


def recovered(promised: Ballot, votes: dict[Slot, Vote], chosen: Slot, ballot: Ballot = NO_BALLOT) -> Recovered:
    """Return what a store recovers that was never trimmed and whose membership was never changed."""
    return Recovered(promised, votes, chosen, ballot, NO_BASE, None)


def fill(store: LogStore, last: Slot, chosen: Slot) -> None:
    store.commit([Persist(1, ONE, [(slot, vote(ONE, f"v{slot}")) for slot in range(1, last + 1)], chosen)])


def base(slot: Slot, ballot: Ballot = ONE) -> Base:
    return Base(slot, slot * 10, ballot)


def test_a_fresh_store_vouches_for_nothing(store: LogStore) -> None:
    assert store.recover() == recovered(NO_BALLOT, {}, 0)
    assert store.read(1, 10, 1000) == []
    assert list(store.counts(1, 0)) == []


def test_a_promise_alone_is_kept(store: LogStore) -> None:
    store.commit([Persist(1, TWO, [], 0)])
    assert store.recover() == recovered(TWO, {}, 0)


def test_votes_above_the_chosen_prefix_are_recovered(store: LogStore) -> None:
    votes = [(1, vote(ONE, "a")), (2, vote(ONE, "b")), (4, vote(ONE, "d"))]
    store.commit([Persist(1, ONE, votes, 0)])
    store.commit([Persist(2, ONE, [], 1)])
    assert store.recover() == recovered(ONE, dict(votes[1:]), 1, ONE)


def test_persists_apply_in_order(store: LogStore) -> None:
    store.commit(
        [
            Persist(1, ONE, [(1, vote(ONE, "a")), (2, vote(ONE, "b"))], 0),
            Persist(2, TWO, [(2, vote(TWO, "c"))], 1),
        ]
    )
    assert store.recover() == recovered(TWO, {2: vote(TWO, "c")}, 1, ONE)


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
    assert store.recover() == recovered(ONE, {}, 9_999, ONE)


class TestBase:
    def test_what_lies_up_to_it_is_gone_and_the_rest_stays(self, store: LogStore) -> None:
        fill(store, 12, 10)
        store.commit([Persist(2, ONE, [], 10, base=base(7))])
        assert store.recover() == recovered(ONE, {11: vote(ONE, "v11"), 12: vote(ONE, "v12")}, 10, ONE)._replace(
            base=base(7)
        )
        assert store.read(8, 12, 1000) == [vote(ONE, f"v{slot}") for slot in range(8, 13)]
        assert list(store.counts(8, 10)) == [1, 1, 1]
        for slot in (1, 7):
            with pytest.raises(StorageBroken, match=f"slot {slot} was trimmed"):
                store.read(slot, 10, 1000)
            with pytest.raises(StorageBroken, match=f"slot {slot} was trimmed"):
                list(store.counts(slot, 10))
        assert store.read(8, 8, 0) == [vote(ONE, "v8")]

    def test_it_may_reach_the_end_of_the_prefix(self, store: LogStore) -> None:
        fill(store, 5, 5)
        store.commit([Persist(2, TWO, [], 5, base=base(5))])
        assert store.recover() == recovered(TWO, {}, 5, ONE)._replace(base=base(5))
        assert store.read(6, 9, 1000) == []
        store.commit([Persist(3, TWO, [(6, vote(TWO, "f"))], 6)])
        assert store.recover() == recovered(TWO, {}, 6, TWO)._replace(base=base(5))
        assert store.read(6, 9, 1000) == [vote(TWO, "f")]

    def test_past_the_prefix_it_takes_the_prefix_along(self, store: LogStore) -> None:
        """A snapshot from elsewhere was installed: it stands for slots nobody here ever voted in."""
        fill(store, 8, 5)
        store.commit([Persist(2, TWO, [], 1000, base=base(1000, TWO))])
        assert store.recover() == recovered(TWO, {}, 1000, TWO)._replace(base=base(1000, TWO))
        store.commit([Persist(3, TWO, [(1001, vote(TWO, "x")), (1003, vote(TWO, "z"))], 1001)])
        assert store.recover() == Recovered(TWO, {1003: vote(TWO, "z")}, 1001, TWO, base(1000, TWO), None)
        assert store.read(1001, 1003, 1000) == [vote(TWO, "x")]

    def test_votes_beyond_it_stay_and_may_be_chosen_with_it(self, store: LogStore) -> None:
        fill(store, 12, 2)
        store.commit([Persist(2, ONE, [], 10, base=base(8))])
        assert store.recover().votes == {11: vote(ONE, "v11"), 12: vote(ONE, "v12")}
        assert store.read(9, 12, 1000) == [vote(ONE, f"v{slot}") for slot in range(9, 13)]

    def test_in_a_group_the_last_one_holds(self, store: LogStore) -> None:
        fill(store, 9, 3)
        store.commit(
            [
                Persist(2, ONE, [], 4, base=base(2)),
                Persist(3, ONE, [(10, vote(ONE, "v10"))], 8, base=base(6)),
                Persist(4, ONE, [], 9),
            ]
        )
        assert store.recover() == Recovered(ONE, {10: vote(ONE, "v10")}, 9, ONE, base(6), None)
        assert store.read(7, 10, 1000) == [vote(ONE, f"v{slot}") for slot in range(7, 11)]

    def test_a_vote_that_is_too_late_is_not_kept(self, store: LogStore) -> None:
        fill(store, 5, 5)
        store.commit([Persist(2, ONE, [(3, vote(ONE, "late"))], 5, base=base(4))])
        with pytest.raises(StorageBroken, match="slot 3 was trimmed"):
            store.read(3, 3, 1000)

    def test_it_moves_on_and_on(self, opener: Opener) -> None:
        store = opener()
        for slot in range(1, 400):
            behind = max(0, slot - 20)
            store.commit([Persist(slot, ONE, [(slot, vote(ONE, f"v{slot}"))], slot - 1, base=base(behind))])
        assert store.read(380, 399, 1 << 20) == [vote(ONE, f"v{slot}") for slot in range(380, 400)]
        if store.blocks:
            store.close()
            store = opener()
            assert store.recover() == Recovered(ONE, {399: vote(ONE, "v399")}, 398, ONE, base(379), None)
            assert store.read(380, 399, 1 << 20) == [vote(ONE, f"v{slot}") for slot in range(380, 400)]
        store.close()


class TestLast:
    def test_votes_above_it_go_unless_they_come_along(self, store: LogStore) -> None:
        fill(store, 9, 4)
        store.commit([Persist(2, TWO, [(7, vote(TWO, "new"))], 4, last=5)])
        assert store.recover() == recovered(TWO, {5: vote(ONE, "v5"), 7: vote(TWO, "new")}, 4, ONE)
        assert store.read(4, 9, 1000) == [vote(ONE, "v4"), vote(ONE, "v5")]

    def test_what_went_does_not_come_back(self, store: LogStore) -> None:
        fill(store, 9, 4)
        group = [Persist(2, ONE, [(10, vote(ONE, "v10"))], 4), Persist(3, TWO, [], 4, last=6)]
        store.commit([*group, Persist(4, TWO, [(8, vote(TWO, "v8"))], 4, last=8)])
        assert store.recover().votes == {5: vote(ONE, "v5"), 6: vote(ONE, "v6"), 8: vote(TWO, "v8")}

    def test_the_prefix_stays(self, store: LogStore) -> None:
        fill(store, 6, 4)
        store.commit([Persist(2, TWO, [], 4, last=4)])
        assert store.recover() == recovered(TWO, {}, 4, ONE)
        assert len(store.read(1, 6, 1000)) == 4


class TestMembership:
    def test_the_last_one_is_recovered(self, store: LogStore) -> None:
        members = [founding({ReplicaId(n): f"10.0.0.{n}:4000" for n in range(1, last)}) for last in (2, 4, 6)]
        store.commit([Persist(1, ONE, [], 0, membership=members[0])])
        assert store.recover().membership == members[0]
        group = [Persist(n, ONE, [], 0, membership=members[n - 1]) for n in (2, 3)]
        store.commit([*group, Persist(4, ONE, [(1, vote(ONE, "a"))], 0)])
        store.commit([Persist(5, ONE, [], 1)])
        assert store.recover().membership == members[2]


def test_commits_are_counted(store: LogStore) -> None:
    before = store.commits
    fill(store, 3, 1)
    store.commit([Persist(2, ONE, [], 2), Persist(3, ONE, [], 3)])
    assert store.commits == before + 2


def test_a_store_is_named(store: LogStore) -> None:
    assert store.identity == IDENTITY
    assert store.life == 1
    assert len({store.store_id, store.nonce, bytes(16)}) == 3


def test_a_sound_store_needs_no_repair(store: LogStore) -> None:
    fill(store, 3, 2)
    assert store.damaged == ()
    with pytest.raises(Misuse, match="slot 1 is not damaged"):
        store.repair(1, vote(ONE, "v1"))


def test_there_is_room(store: LogStore) -> None:
    assert store.room() is Room.OK


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
    assert store.recover() == recovered(TWO, {2: vote(ONE, "b")}, 1, ONE)
    assert store.read(1, 2, 1000) == [vote(ONE, "a"), vote(ONE, "b")]
    store.close()
