"""Each rule of Raft, broken by hand: the properties of Ongaro, "Consensus", figure 3.2."""

from __future__ import annotations

import pytest
from tests.sim.court import FOUNDING, R1, R2, R3, Court, X, Y, breaks, members

from quorate.consensus.raft.messages import Append, Appended, Heartbeat, RequestVote, VoteGranted
from quorate.sim.rules_raft import RaftRules
from quorate.types import NOOP, Ballot, ReplicaId, Vote

T1, T2, T3 = (Ballot(term, R1) for term in (1, 2, 3))
NOBODY = ReplicaId(0)


@pytest.fixture
def court() -> Court:
    return Court(RaftRules)


def append(term: int, prev: int, prev_term: int, *entries: Vote) -> Append:
    return Append(term, prev, prev_term, entries, 0)


# --- votes and terms -------------------------------------------------------------------------------------------------


def test_a_term_has_one_vote(court: Court) -> None:
    court.persist(R1, Ballot(1, NOBODY))
    court.persist(R1, Ballot(1, R2))
    breaks("a term has one vote", lambda: court.persist(R1, Ballot(1, R3)))
    court.persist(R1, Ballot(2, R3))


def test_what_vouches_for_a_vote_is_durable(court: Court) -> None:
    send = court.judge.on_send
    breaks("what vouches is durable", lambda: send(R1, RequestVote(1, 0, 0, False)))
    breaks("what vouches is durable", lambda: send(R2, VoteGranted(1)))
    breaks("what vouches is durable", lambda: send(R1, Heartbeat(1, 0, 0)))
    court.persist(R1, T1)
    court.persist(R2, T1)
    send(R1, RequestVote(1, 0, 0, False))
    send(R2, VoteGranted(1))
    send(R1, Heartbeat(1, 0, 0))
    court.persist(R2, Ballot(2, NOBODY))
    breaks("what vouches is durable", lambda: send(R2, VoteGranted(2)))


def test_one_leader_per_term(court: Court) -> None:
    court.persist(R1, Ballot(1, R1))
    court.persist(R2, Ballot(2, R2))
    court.judge.on_send(R1, append(1, 0, 0))
    breaks("one leader per term", lambda: court.judge.on_send(R2, append(1, 0, 0)))


# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs_match(court: Court) -> None:
    court.persist(R1, T2, [(1, Vote(T1, X)), (2, Vote(T2, Y))])
    breaks("logs match", lambda: court.persist(R2, T2, [(1, Vote(T1, X)), (2, Vote(T2, X))]))
    breaks("logs match", lambda: court.persist(R2, T2, [(1, Vote(T2, X)), (2, Vote(T2, Y))]))
    court.persist(R2, T2, [(1, Vote(T1, X)), (2, Vote(T2, Y))])


def test_terms_rise_along_a_log_and_have_begun(court: Court) -> None:
    breaks("terms rise along a log", lambda: court.persist(R1, T2, [(1, Vote(T2, X)), (2, Vote(T1, Y))]))
    breaks("entries are of terms that began", lambda: court.persist(R1, T1, [(1, Vote(T2, X))]))


def test_entries_are_replaced_by_cutting_the_log(court: Court) -> None:
    court.persist(R1, T1, [(1, Vote(T1, X))])
    breaks("entries are replaced by cutting the log", lambda: court.persist(R1, T2, [(1, Vote(T2, Y))]))
    court.persist(R1, T2, [(1, Vote(T2, Y))], last=1)


def test_chosen_records_never_change(court: Court) -> None:
    court.choose(ballot=T1)
    court.persist(R1, T1, chosen=1)
    breaks("chosen records never change", lambda: court.persist(R1, T2, chosen=1, last=0))


def test_leaders_only_append(court: Court) -> None:
    court.persist(R1, T1)
    court.judge.on_send(R1, append(1, 0, 0, Vote(T1, X)))
    court.judge.on_send(R1, append(1, 0, 0, Vote(T1, X), Vote(T1, Y)))
    breaks("leaders only append", lambda: court.judge.on_send(R1, append(1, 1, 1, Vote(T1, X))))


def test_leaders_have_what_is_chosen(court: Court) -> None:
    court.choose(ballot=T1)
    court.persist(R3, Ballot(2, R3))
    breaks("leaders have what is chosen", lambda: court.judge.on_send(R3, append(2, 0, 0, Vote(Ballot(2, R3), Y))))


def test_what_an_acknowledgement_vouches_for_is_durable(court: Court) -> None:
    court.persist(R1, T1)
    court.judge.on_send(R1, append(1, 0, 0, Vote(T1, X)))
    breaks("what vouches is durable", lambda: court.judge.on_send(R2, Appended(1, 1, 0)))
    court.persist(R2, T1, [(1, Vote(T1, X))])
    court.judge.on_send(R2, Appended(1, 1, 0))
    court.persist(R2, T3, last=0)
    court.judge.on_send(R2, Appended(1, 1, 0))


# --- choosing --------------------------------------------------------------------------------------------------------


def test_entries_of_earlier_terms_are_not_counted(court: Court) -> None:
    court.persist(R1, T1, [(1, Vote(T1, X))])
    for replica in (R1, R2):
        court.persist(replica, T2)
    court.persist(R2, T2, [(1, Vote(T1, X))])
    old = "entries of earlier terms are not counted"
    breaks(old, lambda: court.judge.on_deliver(R1, 1, X))


def test_an_entry_of_the_leaders_own_term_takes_earlier_ones_with_it(court: Court) -> None:
    for replica in (R1, R2):
        court.persist(replica, T2, [(1, Vote(T1, X)), (2, Vote(T2, NOOP))])
    court.judge.on_deliver(R1, 1, X)
    court.judge.on_deliver(R1, 2, NOOP)


def test_a_membership_counts_as_soon_as_it_is_in_a_log(court: Court) -> None:
    change = members(1, 2)
    court.persist(R1, T1, [(1, Vote(T1, X)), (2, Vote(T1, change.batch()))])
    assert court.judge._rules.electorates(1) == [FOUNDING, change]
    assert court.judge._rules.electorates(3) == [FOUNDING]


def test_a_change_follows_a_chosen_entry_of_its_term(court: Court) -> None:
    change = Vote(T1, members(1, 2).batch())
    court.persist(R1, T1)
    early = append(1, 0, 0, Vote(T1, NOOP), change)
    breaks("a change follows a chosen entry of its term", lambda: court.judge.on_send(R1, early))


def test_one_change_at_a_time(court: Court) -> None:
    court.choose(batch=NOOP, ballot=T1)
    first, second = Vote(T1, members(1, 2).batch()), Vote(T1, members(1, 2, version=2).batch())
    court.judge.on_send(R1, append(1, 0, 0, Vote(T1, NOOP), first))
    breaks("one change at a time", lambda: court.judge.on_send(R1, append(1, 2, 1, second)))
