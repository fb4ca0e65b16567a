"""What the papers say of changing who votes, and how far the rule as built follows them.

"The Part-Time Parliament" (Lamport, 1998) is cited by section. "Reconfiguring a State Machine" (Lamport, Malkhi and
Zhou, 2010) by the names of its methods: in R-alpha, a command that changes the configuration is in force alpha slots
after its own, so that alpha slots may be in flight. As built, alpha is 1 behind a change and the window is open
otherwise: the leader itself proposes nothing behind a change that is not chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.consensus.conversation import FOUR, ONE, THREE, TWO, Network, address, ballot, members, value, vote

from quorate import limits
from quorate.consensus.core import Change, ChangeRequested, Proposed, Reconfigured
from quorate.consensus.messages import Learned
from quorate.consensus.paxos import messages as m
from quorate.types import Membership, Vote

SETTLING = 2 * limits.ELECTION_TICKS_MIN
CHANGE = members(1, 2, version=1, last_id=3)


def led(size: int = 3) -> Network:
    net = Network(size)
    net.elect(ONE)
    net.tick(limits.HEARTBEAT_TICKS)
    return net


# --- "The Part-Time Parliament" --------------------------------------------------------------------------------------


def test_who_votes_on_a_decree_is_itself_decreed() -> None:
    """§3.3.6, Choosing New Legislators: the change is a value of the log, which every replica learns in its slot."""
    net = led()
    net.propose(ONE, "a")
    net.remove(THREE)
    net.propose(ONE, "b")
    assert net.log(ONE) == ["a", "[1 2]", "b"]
    assert Membership.of(net.chosen[2]) == CHANGE


def test_votes_on_a_decree_are_counted_among_its_own_legislators() -> None:
    """§3.3.6: not among those of today, nor those of the one who counts."""
    net = Network()
    net.tell(THREE, ONE, m.Accept(ballot(1, 1), 2, value("b"), 0))
    net.tell(THREE, ONE, m.Accepted(ballot(1, 1), 2))
    assert net[THREE].delivered == 0
    grown = members(1, 2, 3, 4, 5, version=1)
    net.tell(THREE, ONE, Learned(1, (Vote(ballot(1, 1), grown.batch()),), 1))
    assert net[THREE].delivered == 1, "two of the three who were, but not of the five who are"
    net.tell(THREE, FOUR, m.Accepted(ballot(1, 1), 2))
    assert net[THREE].delivered == 2


def test_a_new_legislator_learns_what_was_decreed_before_it_came() -> None:
    """§3.3.6: it must know the law; here it votes only once it has caught up."""
    net = led()
    names = [str(number) for number in range(2 * limits.AHEAD_SLOTS)]
    net.propose(ONE, *names)
    net.add(FOUR)
    net.tick(SETTLING)
    promoted = next(slot for slot, batch in net.chosen.items() if batch == members(1, 2, 3, 4, version=2).batch())
    assert net.commands(FOUR) == names
    assert net[FOUR].delivered >= promoted


def test_old_decrees_are_replaced_by_the_state_they_led_to() -> None:
    """§3.3.2, Long Ledgers: who asks for what was thrown away is told so, and gets the state instead."""
    net = led()
    net.propose(ONE, "a", "b")
    snapshot = net.trim(ONE)
    net.join(FOUR)
    net.install(FOUR, snapshot)
    net.tell(FOUR, ONE, Learned(3, (vote(1, 1, "c"),), 3))
    assert net[FOUR].delivered == 3


# --- "Reconfiguring a State Machine" ---------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1, limits.AHEAD_SLOTS - 1])
def test_a_change_is_in_force_in_the_very_next_slot(before: int) -> None:
    """R-alpha with alpha = 1."""
    net = led()
    in_force: list[int] = []
    net.watch = lambda me, effect: in_force.append(net[me].delivered) if isinstance(effect, Reconfigured) else None
    for number in range(before):
        net.step(ONE, Proposed(value(str(number))))
    net.remove(THREE)
    assert set(in_force) == {before + 1}
    assert net[ONE].core.status().membership == CHANGE


def test_no_idle_slots_are_needed_for_a_change_to_come_into_force() -> None:
    """R-alpha has to fill up to alpha slots with no-ops when no commands come; here there is nothing to fill."""
    net = led()
    net.remove(THREE)
    net.tick(SETTLING)
    assert net.log(ONE) == net.log(TWO) == ["[1 2]"]


def test_around_a_change_the_window_is_closed() -> None:
    """The price of alpha = 1, paid at changes alone.

    What comes before is chosen first too: otherwise another leader might make a change of its own in an open slot, and
    then have to adopt this one, which was made for a configuration that is no more.
    """
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Accepted)
    for name in "ab":
        net.step(ONE, Proposed(value(name)))
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    for name in "cd":
        net.step(ONE, Proposed(value(name)))
    net.talk()
    assert {accept.slot for accept in net.said(m.Accept, by=ONE)} == {1, 2}
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net.log(ONE) == ["a", "b", "[1 2]", "cd"]


def test_the_same_configuration_chooses_the_change_as_chose_what_came_before_it() -> None:
    """A change is chosen by those it replaces; of two voters the one that goes has to agree."""
    net = led(2)
    net.cut(TWO)
    assert net.change(ONE, Change(TWO, None)) is None
    assert net.chosen == {}
    net.heal()
    net.tick(limits.RESEND_TICKS)
    assert net.log(ONE) == ["[1]"]


def recovering(lose: Callable[[Network], None]) -> Network:
    net = led()
    lose(net)
    net.step(ONE, ChangeRequested(1, Change(FOUR, address(FOUR))))
    net.talk()
    net.heal()
    net.crash(ONE)
    net.tick(3 * limits.ELECTION_TICKS_MAX)
    return net


def test_a_change_that_may_have_been_chosen_survives_its_leader() -> None:
    """As any value does (P2c): whether anybody was told of it or not."""
    net = recovering(lambda net: setattr(net, "loses", lambda letter: isinstance(letter.message, m.Accepted)))
    assert net[net.leader].core.status().membership.learners == (FOUR,)


def test_a_change_that_nobody_voted_for_is_gone_with_its_leader() -> None:
    net = recovering(lambda net: net.cut(ONE))
    assert net[net.leader].core.status().membership == members(1, 2, 3)
    assert net.change(net.leader, Change(FOUR, address(FOUR))) == ""
