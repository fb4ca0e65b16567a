"""What survives: transactions are whole or gone, in order."""

from __future__ import annotations

import random

from quorate.consensus.core import Persist
from quorate.sim.app import Snapshot
from quorate.sim.clock import TICK, Clock
from quorate.sim.disk import SLOW_TICKS_MAX, SNAPSHOTS_KEPT, Disk, Image
from quorate.sim.swarm import Fault, Faults
from quorate.types import NO_BALLOT, NOOP, Ballot, Base, ReplicaId, Vote, founding

B1 = Ballot(1, ReplicaId(1))
COMMIT = (10, 20)


def persist(seq: int, chosen: int = 0) -> Persist:
    return Persist(seq, B1, [(seq, Vote(B1, NOOP))], chosen)


def make(seed: int = 1, **rates: float) -> tuple[Clock, Faults, Disk, list[int]]:
    clock = Clock()
    faults = Faults(seed, {Fault[name]: rate for name, rate in rates.items()})
    disk = Disk(clock, random.Random(seed), faults, COMMIT)
    durable: list[int] = []
    disk.on_durable = durable.append
    return clock, faults, disk, durable


def test_what_waits_behind_a_commit_shares_the_next_one() -> None:
    clock, _, disk, durable = make()
    for seq in (1, 2, 3):
        disk.write(persist(seq))
    assert not disk.idle()
    clock.run_until(COMMIT[1])
    assert durable == [1]
    assert list(disk.image.votes) == [1]
    clock.run_until(2 * COMMIT[1])
    assert durable == [1, 3]
    assert list(disk.image.votes) == [1, 2, 3]
    assert disk.idle()


def test_a_crash_loses_what_waits_and_all_or_nothing_of_the_commit_under_way() -> None:
    outcomes = set()
    for seed in range(20):
        clock, faults, disk, durable = make(seed)
        disk.write(persist(1))
        clock.run_until(COMMIT[1])
        for seq in (2, 3):
            disk.write(persist(seq))
        disk.crash()
        clock.run_until(10 * COMMIT[1])
        assert durable == [1]
        outcomes.add((tuple(disk.image.votes), faults.hits.get(Fault.LOST_WRITE)))
    assert outcomes == {((1,), 2), ((1, 2), 1)}


def test_a_crash_keeps_a_whole_transaction_or_none_of_it() -> None:
    kept = set()
    for seed in range(20):
        clock, _, disk, _ = make(seed)
        for seq in (1, 2, 3):
            disk.write(persist(seq))
        clock.run_until(COMMIT[1])  # 2 and 3 are one transaction, under way now
        disk.crash()
        kept.add(tuple(disk.image.votes))
    assert kept == {(1,), (1, 2, 3)}


def test_after_a_crash_the_disk_takes_writes_again() -> None:
    clock, _, disk, durable = make()
    disk.write(persist(1))
    disk.crash()
    disk.write(persist(2))
    clock.run_until(COMMIT[1])
    assert durable == [2]


def test_a_slow_disk_takes_ticks_and_is_counted() -> None:
    clock, faults, disk, durable = make(SLOW_DISK=1.0)
    disk.write(persist(1))
    clock.run_until(TICK)
    assert durable == []
    clock.run_until(SLOW_TICKS_MAX * TICK + COMMIT[1])
    assert durable == [1]
    assert faults.hits[Fault.SLOW_DISK] == 1


def test_an_image_recovers_the_promise_and_the_votes_above_the_chosen_prefix() -> None:
    image = Image()
    assert image.recovered().promised == NO_BALLOT
    for seq in (1, 2, 3):
        image.apply(persist(seq, chosen=2 if seq == 3 else 0))
    recovered = image.recovered()
    assert (recovered.promised, recovered.chosen, list(recovered.votes)) == (B1, 2, [3])
    assert recovered.chosen_ballot == B1


def test_the_judge_sees_each_persist_before_the_image_changes() -> None:
    clock, _, disk, _ = make()
    seen: list[tuple[int, int]] = []
    disk.on_apply = lambda change: seen.append((change.seq, len(disk.image.votes)))
    for seq in (1, 2, 3):
        disk.write(persist(seq))
    clock.run_until(2 * COMMIT[1])
    assert seen == [(1, 0), (2, 1), (3, 2)]


# --- bases, memberships, snapshots -----------------------------------------------------------------------------------

MEMBERS = founding({ReplicaId(1): "host1:7000"})


def snapshot(slot: int) -> Snapshot:
    return Snapshot(Base(slot, slot, B1), MEMBERS, b"state")


def test_an_image_forgets_what_its_base_stands_for_and_keeps_the_membership() -> None:
    image = Image()
    for seq in (1, 2, 3):
        image.apply(persist(seq))
    image.apply(Persist(4, B1, [], 2, MEMBERS, Base(2, 2, B1)))
    recovered = image.recovered()
    assert (recovered.base, recovered.chosen_ballot, recovered.membership) == (Base(2, 2, B1), B1, MEMBERS)
    assert list(image.votes) == [3]


def test_an_image_drops_what_a_core_cuts_off() -> None:
    image = Image()
    for seq in (1, 2, 3):
        image.apply(persist(seq))
    image.apply(Persist(4, B1, [(2, Vote(B1, NOOP))], 0, last=2))
    assert list(image.votes) == [1, 2]


def test_the_latest_vote_is_found_wherever_it_is() -> None:
    clock, _, disk, _ = make()
    disk.write(persist(1))
    clock.run_until(COMMIT[1])
    later = Vote(Ballot(2, ReplicaId(1)), NOOP)
    disk.write(Persist(2, later.ballot, [(1, later)], 0))
    assert disk.vote(1) == later
    assert disk.vote(2) is None


def test_a_failed_commit_is_told_and_nothing_of_it_vouched_for() -> None:
    clock, faults, disk, durable = make(COMMIT_ERROR=1.0)
    failed: list[bool] = []
    disk.on_error = lambda: failed.append(True)
    disk.write(persist(1))
    clock.run_until(COMMIT[1])
    assert (failed, durable) == ([True], [])
    assert faults.hits[Fault.COMMIT_ERROR] == 1


def test_whole_snapshots_are_kept_and_a_crash_leaves_none_half_there() -> None:
    clock, _, disk, _ = make()
    saved: list[int] = []
    for slot in range(1, SNAPSHOTS_KEPT + 2):
        disk.save(snapshot(slot), lambda slot=slot: saved.append(slot))  # type: ignore[misc]
        assert disk.saving()
        clock.run_until(clock.now + 2 * TICK)
    disk.save(snapshot(9), lambda: saved.append(9))
    disk.crash()
    clock.run_until(clock.now + 2 * TICK)
    assert saved == [1, 2, 3]
    assert [kept.base.slot for kept in disk.image.snapshots] == [2, 3]
    assert disk.image.ends() == 3


def test_a_backup_does_not_change_with_its_original() -> None:
    image = Image(store=1)
    backup = image.copied()
    image.apply(persist(1))
    assert (backup.commits, backup.votes) == (0, {})


def test_a_disk_is_believed_if_it_is_no_less_than_it_was_when_it_is_opened() -> None:
    peer, image, other = ReplicaId(1), Image(store=1), Image()
    image.open(1)
    backup = image.copied()
    image.apply(persist(1))
    assert other.believes(peer, image)
    other.meet(peer, image)
    assert other.believes(peer, image)
    image.open(2)
    assert other.believes(peer, image)
    assert not other.believes(peer, Image(store=-1, commits=9))
    backup.open(2)
    backup.apply(persist(1))  # as many commits as were seen, but not the same
    assert not other.believes(peer, backup)
