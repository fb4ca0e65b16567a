"""Each invariant of the judge, broken by hand. `planted` breaks them by broken cores, drivers and applications."""

from __future__ import annotations

import dataclasses

import pytest
from tests.sim.court import B1, B2, FOUNDING, R1, R2, R3, R4, Court, X, Y, batch_of, breaks, members

from quorate.consensus.messages import Learned
from quorate.consensus.paxos.messages import Accept, Accepted, Heartbeat, Prepare, Promise
from quorate.sim.app import App, Effect, Snapshot, command_of
from quorate.sim.disk import Image
from quorate.types import NOOP, Ballot, Base, Batch, Slot, Vote, founding


@pytest.fixture
def court() -> Court:
    return Court()


def applied(number: int) -> App:
    app = App()
    app.apply(command_of(number, 0, 0))
    return app


def holding(*batches: Batch) -> Image:
    return Image(votes={slot: Vote(B1, batch) for slot, batch in enumerate(batches, 1)})


def test_a_lawful_run_passes(court: Court) -> None:
    judge = court.judge
    judge.on_send(R1, Prepare(B1, 1))
    court.persist(R1, B1)
    judge.on_send(R1, Promise(B1, 0, ()))
    judge.on_leader(R1, 1, B1)
    judge.on_leader(R1, 1, B1)
    judge.on_send(R1, Accept(B1, 1, X, 0))
    court.choose()
    judge.on_effect(R1, 1, Effect(7, 200, executed=True))
    judge.on_applied(R1, 1, applied(7))
    judge.on_send(R2, Accepted(B1, 1))
    judge.on_send(R2, Heartbeat(B1, 0, 0))
    judge.on_answered(1, 7)
    judge.on_barrier(R2, judge.observed, 1)
    assert judge.on_deliver(R2, 1, X) == judge.commands_at(1)
    court.persist(R1, B1, chosen=1)
    judge.on_send(R1, Learned(1, (Vote(B1, X),), 1))
    court.persist(R3, B1, [(1, Vote(B1, X))], chosen=1)
    judge.on_deliver(R3, 1, X)
    judge.on_end(dict.fromkeys((R1, R2, R3), holding(X)))
    assert judge.elections == 1
    assert judge.executed == {7: 1}


# --- the disk --------------------------------------------------------------------------------------------------------


def test_promises_are_kept(court: Court) -> None:
    court.persist(R1, B2)
    breaks("promises are kept", lambda: court.persist(R1, B1))


def test_the_chosen_prefix_never_shrinks(court: Court) -> None:
    court.choose()
    court.persist(R1, B1, chosen=1)
    breaks("the chosen prefix never shrinks", lambda: court.persist(R1, B1, chosen=0))


def test_the_chosen_prefix_is_on_disk(court: Court) -> None:
    court.choose()
    breaks("the chosen prefix is on disk", lambda: court.persist(R3, B1, chosen=1))
    breaks("the chosen prefix is on disk", lambda: court.persist(R3, B1, [(1, Vote(B1, Y))], chosen=1))
    breaks("the chosen prefix is on disk", lambda: court.persist(R1, B1, [(2, Vote(B1, Y))], chosen=2))


def test_the_membership_kept_is_that_of_the_prefix(court: Court) -> None:
    court.choose(batch=members(1, 2).batch())
    court.persist(R1, B1, membership=FOUNDING)
    court.persist(R1, B1, chosen=1, membership=members(1, 2))
    court.persist(R4, B1, membership=founding({}))
    stale = "the membership kept is that of the prefix"
    breaks(stale, lambda: court.persist(R1, B1, chosen=1, membership=FOUNDING))


def test_only_the_chosen_is_trimmed(court: Court) -> None:
    court.choose()
    court.persist(R1, B1, chosen=1, base=Base(1, 1, B1))
    breaks("only the chosen is trimmed", lambda: court.persist(R2, B1, base=Base(1, 1, B1)))


def test_only_chosen_values_are_taught(court: Court) -> None:
    court.choose()
    breaks("only chosen values are taught", lambda: court.judge.on_send(R1, Learned(1, (Vote(B1, Y),), 1)))
    breaks("only chosen values are taught", lambda: court.judge.on_send(R1, Learned(2, (Vote(B1, X),), 1)))


# --- leaders and deliveries ------------------------------------------------------------------------------------------


def test_one_leader_per_ballot_over_all_lives(court: Court) -> None:
    court.judge.on_leader(R1, 1, B1)
    breaks("one leader per ballot", lambda: court.judge.on_leader(R1, 2, B1))
    breaks("one leader per ballot", lambda: court.judge.on_leader(R2, 1, B1))


def test_deliveries_are_durable_at_a_quorum(court: Court) -> None:
    court.persist(R1, B1, [(1, Vote(B1, X))])
    court.persist(R2, B1, [(1, Vote(B1, Y))])
    breaks("deliveries are durable at a quorum", lambda: court.judge.on_deliver(R1, 1, X))


def test_only_the_disks_of_voters_count(court: Court) -> None:
    court.persist(R1, B1, [(1, Vote(B1, X))])
    court.persist(R4, B1, [(1, Vote(B1, X))])
    breaks("deliveries are durable at a quorum", lambda: court.judge.on_deliver(R1, 1, X))


def test_one_value_per_slot(court: Court) -> None:
    court.choose()
    breaks("one value per slot", lambda: court.judge.on_deliver(R2, 1, Y))


@pytest.mark.parametrize("slot", [1, 3])
def test_deliveries_have_no_gaps_and_no_repetitions(court: Court, slot: Slot) -> None:
    court.choose()
    breaks("deliveries have no gaps", lambda: court.judge.on_deliver(R1, slot, X))


def test_a_restarted_replica_delivers_what_its_disk_does_not_know_to_be_chosen(court: Court) -> None:
    court.choose()
    court.judge.on_boot(R1, Image())
    court.judge.on_deliver(R1, 1, X)
    court.persist(R1, B1, chosen=1)
    court.judge.on_boot(R1, Image(chosen=1))
    breaks("deliveries have no gaps", lambda: court.judge.on_deliver(R1, 1, X))


def test_nothing_is_invented(court: Court) -> None:
    breaks("nothing is invented", lambda: court.choose(batch=batch_of(9)))


@pytest.mark.parametrize("batch", [Batch(2, X.payload), Batch(1, b"12345")])
def test_batches_are_whole(court: Court, batch: Batch) -> None:
    breaks("batches are whole", lambda: court.choose(batch=batch))


# --- members ---------------------------------------------------------------------------------------------------------


def test_members_come_and_go_one_at_a_time(court: Court) -> None:
    court.choose(1, members(1, 2, 3, learners=(4,), last_id=4).batch())
    court.choose(2, members(1, 2, 3, 4, version=2, last_id=4).batch())
    last = members(1, 2, 4, version=3, last_id=4).batch()
    court.persist(R3, B1, [(3, Vote(B1, last))])
    court.choose(3, last)
    assert court.judge.membership == members(1, 2, 4, version=3, last_id=4)
    assert court.judge.membership_at(3).voters == (1, 2, 3, 4)
    assert court.judge.membership_at(0) == FOUNDING


@pytest.mark.parametrize("wrong", [members(1, 2, version=2), members(1), members(1, 2, 4, last_id=4)])
def test_one_change_at_a_time(court: Court, wrong: object) -> None:
    breaks("one change at a time", lambda: court.choose(batch=wrong.batch()))  # type: ignore[attr-defined]


def test_ids_are_never_given_again(court: Court) -> None:
    court.choose(1, members(1, 2).batch())
    again = members(1, 2, 3, version=2).batch()
    breaks("ids are never given again", lambda: court.choose(2, again))


def test_somebody_votes(court: Court) -> None:
    court.choose(1, members(1, 2).batch())
    court.choose(2, members(1, version=2).batch())
    breaks("somebody votes", lambda: court.choose(3, members(version=3).batch()))


def test_refused_changes_do_not_happen_unless_they_are_asked_for_again(court: Court) -> None:
    court.judge.on_change_refused(R3, comes=False)
    breaks("refused changes do not happen", lambda: court.choose(batch=members(1, 2).batch()))
    court = Court()
    court.judge.on_change_refused(R3, comes=False)
    court.judge.on_change_asked(R3, comes=False)
    court.choose(batch=members(1, 2).batch())


def test_unlawful_changes_are_refused(court: Court) -> None:
    court.judge.on_unlawful("a change", "no")
    breaks("unlawful changes are refused", lambda: court.judge.on_unlawful("a change", ""))


def test_every_quorum_holds_what_is_chosen(court: Court) -> None:
    court.choose(1)
    court.choose(2, members(2, 3).batch())
    court.persist(R3, B1, [(2, Vote(B1, members(2, 3).batch()))])
    alone = members(3, version=2).batch()
    court.persist(R3, B1, [(3, Vote(B1, alone))])
    breaks("every quorum holds what is chosen", lambda: court.choose(3, alone))


# --- the application -------------------------------------------------------------------------------------------------


def test_each_request_takes_effect_once(court: Court) -> None:
    court.judge.on_effect(R1, 1, Effect(7, 200, executed=True))
    court.judge.on_effect(R2, 1, Effect(7, 200, executed=True))
    court.judge.on_effect(R2, 2, Effect(7, 200, executed=False))
    twice = Effect(7, 200, executed=True)
    breaks("each request takes effect once", lambda: court.judge.on_effect(R2, 2, twice))


def test_states_are_equal_at_equal_slots(court: Court) -> None:
    court.judge.on_applied(R1, 1, applied(7))
    court.judge.on_applied(R2, 1, applied(7))
    assert court.judge.index == 1
    breaks("states are equal at equal slots", lambda: court.judge.on_applied(R3, 1, applied(8)))


def test_snapshots_of_one_slot_are_equal_and_hold_the_membership(court: Court) -> None:
    snapshot = Snapshot(Base(1, 1, B1), FOUNDING, b"state")
    court.judge.on_snapshot(R1, snapshot)
    other = snapshot._replace(state=b"another")
    breaks("snapshots of one slot are equal", lambda: court.judge.on_snapshot(R2, other))
    without = snapshot._replace(membership=founding({}))
    breaks("snapshots hold the membership", lambda: court.judge.on_snapshot(R2, without))


def test_an_installed_snapshot_takes_the_place_of_deliveries(court: Court) -> None:
    court.choose()
    court.judge.on_applied(R1, 1, applied(7))
    base = Base(1, 1, B1)
    court.judge.on_install(R3, base, applied(7))
    court.persist(R3, B1, chosen=1, base=base)
    breaks("deliveries have no gaps", lambda: court.judge.on_install(R3, base, applied(7)))
    breaks("states are equal at equal slots", lambda: court.judge.on_install(R2, base, applied(8)))


# --- clients and the end ---------------------------------------------------------------------------------------------


def test_reads_see_every_answered_write_and_every_answered_read(court: Court) -> None:
    court.choose()
    court.judge.on_answered(1, 7)
    breaks("reads are linearizable", lambda: court.judge.on_barrier(R2, court.judge.observed, 0))
    court.judge.on_answered(2, None)
    breaks("reads are linearizable", lambda: court.judge.on_barrier(R2, court.judge.observed, 1))


def test_a_read_asked_for_before_an_answer_need_not_see_it(court: Court) -> None:
    observed = court.judge.observed
    court.choose()
    court.judge.on_answered(1, 7)
    court.judge.on_barrier(R2, observed, 0)


def test_something_is_chosen(court: Court) -> None:
    breaks("something is chosen", lambda: court.judge.on_end({}))
    court.choose(batch=NOOP)
    breaks("something is chosen", lambda: court.judge.on_end({}))


def test_logs_end_equal_behind_their_bases(court: Court) -> None:
    court.choose()
    court.judge.on_effect(R1, 1, Effect(7, 200, executed=True))
    trimmed = dataclasses.replace(Image(), base=Base(1, 1, Ballot(1, R1)))
    court.judge.on_end({R1: holding(X), R2: trimmed})
    breaks("logs end equal", lambda: court.judge.on_end({R1: holding(X), R3: Image()}))


def test_nothing_answered_is_lost(court: Court) -> None:
    court.choose()
    court.judge.on_effect(R1, 1, Effect(7, 200, executed=True))
    court.judge.on_answered(1, 8)
    breaks("nothing answered is lost", lambda: court.judge.on_end({}))
