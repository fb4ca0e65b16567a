"""Changes of membership in Multi-Paxos: each slot has the voters that all slots before it gave it, and no others."""

from __future__ import annotations

import pytest
from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO, Letter, Network, address, ballot, members, value

from quorate import limits
from quorate.consensus.core import Change, ChangeRequested, Proposed, Tick
from quorate.consensus.paxos import messages as m
from quorate.types import Membership, ReplicaId, Slot

SETTLING = 2 * limits.ELECTION_TICKS_MIN
COMES = Change(FOUR, address(FOUR))


def led(size: int = 3) -> Network:
    """Return a group that replica 1 leads, and everybody knows it."""
    net = Network(size)
    net.elect(ONE)
    net.tick(limits.HEARTBEAT_TICKS)
    return net


def membership(net: Network, at: ReplicaId) -> Membership:
    return net[at].core.status().membership


def proposed_by(net: Network, me: ReplicaId) -> set[Slot]:
    return {accept.slot for accept in net.said(m.Accept, by=me)}


def unfinished(change: Change, *, seen_by: ReplicaId) -> Network:
    """Return a group whose leader died when its change had reached one other acceptor."""
    net = led()
    net[ONE].slow_disk = True
    net.step(ONE, ChangeRequested(1, change))
    (accept,) = net.said(m.Accept, to=seen_by)
    net.letters.clear()
    net.crash(ONE)
    net.tell(seen_by, ONE, accept)
    net.letters.clear()
    return net


# --- phase 1 behind a change -----------------------------------------------------------------------------------------


def test_the_leader_prepares_its_own_ballot_again_behind_each_change() -> None:
    net = led()
    net.propose(ONE, "a")
    net.add(FOUR)
    net.tick(SETTLING)
    prepared = [(prepare.ballot, prepare.first) for prepare in net.said(m.Prepare, by=ONE, to=TWO)]
    mine = net[ONE].core.status().ballot
    assert prepared == [(mine, 1), (mine, 3), (mine, 4)]
    assert net.log(ONE) == ["a", "[1 2 3 +4]", "[1 2 3 4]"]


def test_behind_a_change_nothing_is_proposed_before_those_who_vote_there_have_promised() -> None:
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Promise)
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    net.talk()
    net.propose(ONE, "a")
    assert membership(net, ONE).voters == (ONE, TWO)
    assert proposed_by(net, ONE) == {1}


def test_a_new_voters_promise_is_needed_where_it_decides() -> None:
    """Of two voters both have to promise."""
    net = led(1)
    net.loses = lambda letter: isinstance(letter.message, m.Promise)
    net.add(TWO)
    assert membership(net, ONE).voters == (ONE, TWO)
    assert not net[ONE].leads
    net.heal()
    net.tick(4 * limits.ELECTION_TICKS_MAX)
    net.propose(net.leader, "a")
    assert net.commands(ONE) == net.commands(TWO) == ["a"]


def test_a_leader_that_prepares_again_takes_commands_and_asks_itself_nothing_over_the_wire() -> None:
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Promise)
    net.remove(THREE)
    assert not net[ONE].leads
    assert net[ONE].core.accepts_proposals()
    net.propose(ONE, "a")
    net.ask_barrier(ONE)
    assert "ask again" in (net.change(ONE, COMES) or "")
    assert net[ONE].barriers == []
    promise = net.said(m.Promise, by=TWO, to=ONE)[-1]
    net.heal()
    net.tell(ONE, TWO, promise)
    net.talk()
    assert net.commands(TWO) == ["a"]
    net.tick(limits.RESEND_TICKS)
    assert [barrier.slot for barrier in net[ONE].barriers] == [2]


def test_a_leader_that_waits_in_vain_for_those_promises_steps_down() -> None:
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Promise)
    net.remove(THREE)
    net.tick(limits.ELECTION_TICKS_MIN + 1, ONE)
    assert net[ONE].core.status().role == "follower"
    assert net[ONE].traces[-1].what == "step_down"


# --- a change left unfinished ----------------------------------------------------------------------------------------


def test_a_new_leader_finishes_the_change_it_finds_before_anything_else() -> None:
    net = unfinished(COMES, seen_by=TWO)
    net.loses = lambda letter: isinstance(letter.message, m.Accept)
    net.elect(TWO)
    net.propose(TWO, "a")
    net.ask_barrier(TWO)
    net.tick(limits.RESEND_TICKS)
    assert proposed_by(net, TWO) == {1}
    assert net[TWO].barriers == []
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net.log(TWO) == ["[1 2 3 +4]", "a"]
    assert [barrier.slot for barrier in net[TWO].barriers] == [2]
    assert len({prepare.ballot for prepare in net.said(m.Prepare, by=TWO)}) == 1
    assert {prepare.first for prepare in net.said(m.Prepare, by=TWO)} == {1, 2}


def test_no_barrier_is_answered_before_it_is_known_what_lies_behind_the_change() -> None:
    """1 and 2 voted for the change, 1 and 3 for "x" behind it; 2 finds the change in its own vote, and leads with 3."""
    net = led()
    told_nothing = (m.Accepted, m.Heartbeat)
    net.loses = lambda letter: letter.to == THREE or (letter.to == TWO and isinstance(letter.message, told_nothing))
    assert net.change(ONE, COMES) == ""
    net.cut(TWO)
    net.tick(limits.ELECTION_TICKS_MIN + 1, ONE)
    net.elect(ONE)
    net.propose(ONE, "x")
    assert net.log(ONE) == ["[1 2 3 +4]", "x"]
    net.crash(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Accept)
    net.elect(TWO)
    net.ask_barrier(THREE)
    net.talk()
    assert net[THREE].barriers == []
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net.log(TWO) == ["[1 2 3 +4]", "x"]
    assert [barrier.slot for barrier in net[THREE].barriers] == [2]


def test_a_new_leader_that_finds_its_own_removal_finishes_it_and_steps_down() -> None:
    net = unfinished(Change(TWO, None), seen_by=TWO)
    net.loses = lambda letter: letter.sender == THREE and isinstance(letter.message, m.Canvass)
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert membership(net, TWO).voters == (ONE, THREE)
    assert not net[TWO].leads
    assert "no voter any more" in [trace.detail.get("why") for trace in net[TWO].traces]


def test_a_change_is_proposed_once_all_before_it_is_chosen() -> None:
    """Sooner, a later leader might make another in an open slot, and then have to adopt this one behind it.

    Had it force there, it would undo a change that was answered, and an id could be given twice.
    """
    net = led()
    net.step(ONE, Proposed(value("a")))
    net.step(ONE, ChangeRequested(1, COMES))
    assert {letter.message.slot for letter in net.letters if isinstance(letter.message, m.Accept)} == {1}
    net.loses = lambda letter: isinstance(letter.message, m.Accepted)
    assert net.change(TWO, Change(THREE, None)) == "another change is under way; ask again"
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net.log(TWO) == ["a", "[1 2 3 +4]"]
    assert net[ONE].answers[1] == ""


def test_a_change_made_for_an_older_membership_is_void() -> None:
    net = led()
    assert net.change(ONE, Change(FOUR, "elsewhere:1")) == ""
    older = members(1, 2, 3, version=1, learners=(4,))
    net.tell(THREE, ONE, m.Accept(net[ONE].core.status().ballot, 2, older.batch(), 1))
    net.letters.clear()
    net.crash(ONE)
    net.elect(THREE)
    net.propose(THREE, "a")
    net.tick(limits.HEARTBEAT_TICKS)
    assert net.log(THREE) == ["[1 2 3 +4]", "[1 2 3 +4]", "a"]
    for me in (TWO, THREE):
        assert membership(net, me).version == 1
        assert dict(membership(net, me).addresses)[FOUR] == "elsewhere:1"
        assert membership(net, me) == net[me].membership


def test_behind_a_void_change_what_was_voted_is_still_found() -> None:
    """Phase 1 left out what lay behind it, so it has to be run again there too."""
    net = Network()
    void = members(1, 2, version=7, last_id=3).batch()
    for slot, batch in ((1, void), (2, value("b"))):
        net.tell(TWO, ONE, m.Accept(ballot(1, ONE), slot, batch, 0))
    net.crash(ONE)
    net.letters.clear()
    net.elect(TWO)
    assert membership(net, TWO) == members(1, 2, 3)
    assert net.log(TWO) == ["[1 2]", "b"]


# --- those who lag ---------------------------------------------------------------------------------------------------


def two_changes_on(*, told: bool) -> Network:
    """Return a group of five of which replica 1 knows only its founding by three.

    Replica 2 voted for both changes, and was told that they are chosen or not. "x" was chosen by 3, 4 and 5 alone.
    """
    net = Network()
    net.elect(THREE)
    net.cut(ONE)
    net.add(FOUR, at=THREE)
    net.tick(SETTLING, TWO, THREE, FOUR)
    net.add(FIVE, at=THREE)

    def lost(letter: Letter) -> bool:
        hidden = isinstance(letter.message, m.Accepted | m.Heartbeat) and letter.to == TWO and not told
        return ONE in (letter.sender, letter.to) or hidden

    net.loses = lost
    net.tick(limits.ELECTION_TICKS_MIN, THREE, FOUR, FIVE)
    assert membership(net, THREE).voters == (ONE, TWO, THREE, FOUR, FIVE)
    net.cut(ONE, TWO)
    net.propose(THREE, "x")
    assert net.commands(FIVE) == ["x"]
    return net


@pytest.mark.parametrize("told", [True, False])
def test_who_lags_two_changes_behind_chooses_nothing_against_the_newer_quorum(told: bool) -> None:
    """1 and 2 are a quorum of the three founders, 3, 4 and 5 of the five: they share nobody."""
    net = two_changes_on(told=told)
    assert membership(net, ONE) == members(1, 2, 3)
    others = {THREE, FOUR, FIVE}
    net.loses = lambda letter: (letter.sender in others) != (letter.to in others)
    before = dict(net.chosen)
    for _ in range(6 * limits.ELECTION_TICKS_MAX):
        net.tick(1, ONE, TWO)
        for me in (ONE, TWO):
            if net[me].core.accepts_proposals():
                net.propose(me, "y")
    assert net.said(m.Prepare, by=ONE) or net.said(m.Prepare, by=TWO), "they did try"
    assert net.chosen == before
    net.heal()
    net.tick(6 * limits.ELECTION_TICKS_MAX)
    net.propose(net.leader, "z")
    net.tick(2 * limits.RESEND_TICKS)
    assert len({tuple(net.log(me)) for me in net.ids}) == 1
    assert net.commands(ONE)[0] == "x"
    assert membership(net, ONE).voters == (ONE, TWO, THREE, FOUR, FIVE)


def test_a_candidate_that_lags_learns_who_votes_from_the_promises() -> None:
    net = two_changes_on(told=True)
    net.crash(FIVE)
    net.crash(THREE)
    net.heal()
    net.elect(ONE)
    net.propose(ONE, "y")
    assert net.commands(ONE) == ["x", "y"]


def test_who_was_removed_is_not_supported_even_by_those_who_hear_no_leader() -> None:
    net = led()
    net.cut(THREE)
    net.remove(THREE)
    net.heal()
    net.crash(ONE)
    for _ in range(limits.ELECTION_TICKS_MIN):
        net.step(TWO, Tick())
    net.letters.clear()
    net.tick(limits.ELECTION_TICKS_MAX, THREE)
    assert net.said(m.Canvass, by=THREE, to=TWO)
    assert net.said(m.Support, by=TWO, to=THREE) == []


def test_a_leader_that_lost_its_ballot_gives_what_waits_to_the_one_who_took_it() -> None:
    net = led()
    net.cut(ONE)
    for number in range(limits.AHEAD_SLOTS + 2):
        net.step(ONE, Proposed(value(str(number))))
    net.letters.clear()
    net.heal()
    higher = net[ONE].core.status().ballot._replace(round=9, replica=TWO)
    net.tell(ONE, TWO, m.Prepare(higher, 1))
    forwarded = [letter for letter in net.letters if letter.to == TWO and not isinstance(letter.message, m.Promise)]
    assert [letter.message.batch for letter in forwarded] == [
        value(str(limits.AHEAD_SLOTS)),
        value(str(limits.AHEAD_SLOTS + 1)),
    ]
