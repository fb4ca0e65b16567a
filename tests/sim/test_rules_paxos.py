"""Each rule of Multi-Paxos, broken by hand."""

from __future__ import annotations

import pytest
from tests.sim.court import B1, B2, B3, FOUNDING, R1, R2, R3, Court, X, Y, breaks, members

from quorate.consensus.paxos.messages import Accept, Accepted, Prepare, Promise
from quorate.limits import WINDOW_SLOTS
from quorate.types import Ballot, Vote


@pytest.fixture
def court() -> Court:
    return Court()


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


def test_a_ballot_is_prepared_again_behind_a_change_of_membership(court: Court) -> None:
    court.judge.on_send(R1, Prepare(B1, 1))
    court.choose(batch=members(1, 2).batch())
    court.judge.on_send(R1, Prepare(B1, 2))
    breaks("ballots are prepared once", lambda: court.judge.on_send(R1, Prepare(B1, 1)))


def test_nothing_is_proposed_behind_an_open_change(court: Court) -> None:
    change = members(1, 2).batch()
    court.judge.on_send(R1, Accept(B1, 1, change, 0))
    breaks("nothing is proposed behind an open change", lambda: court.judge.on_send(R1, Accept(B1, 2, X, 0)))
    court.choose(batch=change)
    court.judge.on_send(R1, Accept(B1, 2, X, 1))


def test_a_change_is_made_from_the_membership_in_force(court: Court) -> None:
    early = Accept(B1, 2, members(1, 2).batch(), 0)
    breaks("a change is made from the membership in force", lambda: court.judge.on_send(R1, early))


def test_who_votes_in_a_slot_is_what_the_slots_before_it_say(court: Court) -> None:
    court.choose(batch=members(1, 2).batch())
    assert court.judge._rules.electorates(1) == [FOUNDING]
    assert court.judge._rules.electorates(2) == [members(1, 2)]
