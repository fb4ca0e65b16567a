"""Each invariant of the judge, broken by hand. `test_world` breaks them by broken cores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.consensus.core import Persist
from quorate.consensus.paxos.messages import Accept, Accepted, Heartbeat, Learned, Prepare, Promise
from quorate.limits import WINDOW_SLOTS
from quorate.sim.disk import Image
from quorate.sim.invariants import Invariants, Violation, batch_of, commands_in
from quorate.types import NOOP, Ballot, Batch, ReplicaId, Slot, Vote

R1, R2, R3 = ReplicaId(1), ReplicaId(2), ReplicaId(3)
B1, B2, B3 = Ballot(1, R1), Ballot(2, R2), Ballot(3, R3)
X, Y = batch_of(7), batch_of(8)


class Court:
    """A judge, the three disks it looks at, and commands 7 and 8 submitted."""

    def __init__(self) -> None:
        self.images = {replica: Image() for replica in (R1, R2, R3)}
        self.judge = Invariants(self.images)
        for replica in self.images:
            self.judge.on_boot(replica)
        for command in (7, 8):
            self.judge.on_submitted(command)

    def persist(
        self, replica: ReplicaId, promised: Ballot, votes: list[tuple[Slot, Vote]] | None = None, chosen: Slot = 0
    ) -> None:
        change = Persist(1, promised, votes or [], chosen)
        self.judge.on_persist(replica, self.images[replica], change)
        self.images[replica].apply(change)

    def choose(self, slot: Slot = 1, batch: Batch = X, ballot: Ballot = B1) -> None:
        """Let R1 and R2 vote, and R1 deliver."""
        for replica in (R1, R2):
            self.persist(replica, ballot, [(slot, Vote(ballot, batch))])
        self.judge.on_deliver(R1, slot, batch)


def breaks(invariant: str, act: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        act()
    assert caught.value.invariant == invariant


@pytest.fixture
def court() -> Court:
    return Court()


def test_a_lawful_run_passes(court: Court) -> None:
    judge = court.judge
    judge.on_send(R1, Prepare(B1, 1))
    court.persist(R1, B1)
    judge.on_send(R1, Promise(B1, 0, ()))
    judge.on_leader(R1, 1, B1)
    judge.on_leader(R1, 1, B1)
    judge.on_send(R1, Accept(B1, 1, X, 0))
    court.choose()
    judge.on_send(R2, Accepted(B1, 1))
    judge.on_send(R2, Heartbeat(B1, 0, 0))
    judge.on_answered(1, 7)
    judge.on_barrier(R2, judge.observed, 1)
    judge.on_deliver(R2, 1, X)
    court.persist(R1, B1, chosen=1)
    judge.on_send(R1, Learned(1, (Vote(B1, X),), 1))
    court.persist(R3, B1, [(1, Vote(B1, X))], chosen=1)
    judge.on_deliver(R3, 1, X)
    judge.on_end()
    assert judge.elections == 1
    assert judge.first_slot == {7: 1}


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


def test_chosen_records_never_change(court: Court) -> None:
    court.choose()
    court.persist(R1, B1, chosen=1)
    breaks("chosen records never change", lambda: court.persist(R1, B2, [(1, Vote(B2, Y))], chosen=1))
    court.persist(R1, B2, [(1, Vote(B2, X))], chosen=1)


def test_votes_keep_promises(court: Court) -> None:
    court.persist(R1, B2)
    breaks("votes keep promises", lambda: court.persist(R1, B2, [(1, Vote(B1, X))]))
    breaks("votes keep promises", lambda: court.persist(R1, B2, [(1, Vote(B3, X))]))


def test_a_chosen_value_may_be_recorded_under_an_old_ballot(court: Court) -> None:
    court.choose()
    court.persist(R3, B3)
    court.persist(R3, B3, [(1, Vote(B1, X))], chosen=1)


def test_votes_only_move_to_higher_ballots(court: Court) -> None:
    court.persist(R1, B1, [(1, Vote(B1, X))])
    breaks("votes only move to higher ballots", lambda: court.persist(R1, B1, [(1, Vote(B1, Y))]))
    court.persist(R1, B2, [(1, Vote(B2, Y))])


def test_votes_above_the_chosen_prefix_are_bounded(court: Court) -> None:
    court.persist(R1, B1, [(WINDOW_SLOTS, Vote(B1, X))])
    far = [(WINDOW_SLOTS + 1, Vote(B1, X))]
    breaks("votes above the chosen prefix are bounded", lambda: court.persist(R1, B1, far))


# --- messages --------------------------------------------------------------------------------------------------------


def test_what_vouches_is_durable(court: Court) -> None:
    judge = court.judge
    judge.on_send(R1, Prepare(B1, 1))
    breaks("what vouches is durable", lambda: judge.on_send(R2, Promise(B1, 0, ())))
    breaks("what vouches is durable", lambda: judge.on_send(R2, Accepted(B1, 1)))
    court.persist(R2, B1, [(1, Vote(B1, X))])
    judge.on_send(R2, Promise(B1, 0, ()))
    judge.on_send(R2, Accepted(B1, 1))
    breaks("what vouches is durable", lambda: judge.on_send(R2, Accepted(B2, 1)))


def test_a_delivered_value_may_be_confirmed_under_a_later_ballot(court: Court) -> None:
    court.choose()
    court.judge.on_send(R1, Accepted(B3, 1))


def test_a_promise_tells_every_vote_asked_for(court: Court) -> None:
    judge = court.judge
    court.persist(R1, B1, [(1, Vote(B1, X)), (2, Vote(B1, Y))])
    judge.on_send(R2, Prepare(B2, 2))
    court.persist(R1, B2)
    judge.on_send(R1, Promise(B2, 0, ((2, Vote(B1, Y)),)))
    breaks("a promise tells every vote", lambda: judge.on_send(R1, Promise(B2, 0, ())))
    breaks("a promise tells every vote", lambda: judge.on_send(R1, Promise(B2, 0, ((2, Vote(B1, X)),))))


def test_the_chosen_prefix_a_promise_claims_is_delivered(court: Court) -> None:
    court.judge.on_send(R2, Prepare(B2, 1))
    court.persist(R1, B2)
    breaks("the chosen prefix is delivered", lambda: court.judge.on_send(R1, Promise(B2, 1, ())))


def test_a_promise_is_bounded(court: Court) -> None:
    court.judge.on_send(R2, Prepare(B2, 1))
    court.persist(R1, B2)
    votes = tuple((slot, Vote(B1, X)) for slot in range(1, WINDOW_SLOTS + 2))
    breaks("votes above the chosen prefix are bounded", lambda: court.judge.on_send(R1, Promise(B2, 0, votes)))


def test_ballots_belong_to_one_replica(court: Court) -> None:
    breaks("ballots belong to one replica", lambda: court.judge.on_send(R1, Prepare(B2, 1)))
    breaks("ballots belong to one replica", lambda: court.judge.on_send(R1, Accept(B2, 1, X, 0)))


def test_ballots_are_prepared_once(court: Court) -> None:
    court.judge.on_send(R1, Prepare(B1, 1))
    court.judge.on_send(R1, Prepare(B1, 1))
    breaks("ballots are prepared once", lambda: court.judge.on_send(R1, Prepare(B1, 2)))


def test_one_value_per_ballot_and_slot(court: Court) -> None:
    court.judge.on_send(R1, Accept(B1, 1, X, 0))
    breaks("one value per ballot and slot", lambda: court.judge.on_send(R1, Accept(B1, 1, Y, 0)))


def test_later_ballots_keep_the_chosen_value(court: Court) -> None:
    court.choose(ballot=B2)
    court.judge.on_send(R1, Accept(B1, 1, Y, 0))  # a deposed leader may still say so: nobody will vote for it
    court.judge.on_send(R3, Accept(B3, 1, X, 0))
    later = Ballot(4, R3)
    breaks("later ballots keep the chosen value", lambda: court.judge.on_send(R3, Accept(later, 1, Y, 0)))


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


def test_one_value_per_slot(court: Court) -> None:
    court.choose()
    breaks("one value per slot", lambda: court.judge.on_deliver(R2, 1, Y))


@pytest.mark.parametrize("slot", [1, 3])
def test_deliveries_have_no_gaps_and_no_repetitions(court: Court, slot: Slot) -> None:
    court.choose()
    breaks("deliveries have no gaps", lambda: court.judge.on_deliver(R1, slot, X))


def test_a_restarted_replica_delivers_what_its_disk_does_not_know_to_be_chosen(court: Court) -> None:
    court.choose()
    court.judge.on_boot(R1)
    court.judge.on_deliver(R1, 1, X)
    court.persist(R1, B1, chosen=1)
    court.judge.on_boot(R1)
    breaks("deliveries have no gaps", lambda: court.judge.on_deliver(R1, 1, X))


def test_nothing_is_invented(court: Court) -> None:
    breaks("nothing is invented", lambda: court.choose(batch=batch_of(9)))


@pytest.mark.parametrize("batch", [Batch(2, X.payload), Batch(1, b"12345"), Batch(0, b"1")])
def test_batches_are_whole(batch: Batch) -> None:
    breaks("batches are whole", lambda: commands_in(batch))


def test_batches_join_by_concatenation() -> None:
    assert commands_in(Batch(2, X.payload + Y.payload)) == [7, 8]
    assert commands_in(NOOP) == []


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
    breaks("something is chosen", court.judge.on_end)
    court.choose(batch=NOOP)
    breaks("something is chosen", court.judge.on_end)


def test_logs_end_equal(court: Court) -> None:
    court.choose()
    breaks("logs end equal", court.judge.on_end)


def test_nothing_answered_is_lost(court: Court) -> None:
    court.choose()
    court.persist(R3, B1, [(1, Vote(B1, X))])
    court.judge.on_answered(1, 8)
    breaks("nothing answered is lost", court.judge.on_end)
