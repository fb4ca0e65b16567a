"""The delivery loop: index order, exactly once, the agreed facts of a delivery, and stops at what is unclear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.replica.parts import (
    FINGERPRINT,
    Answer,
    Held,
    MemoryOrdering,
    Request,
    TinyService,
    batch_of,
    command,
    echo,
    hang,
    hang_up,
    http,
    raw,
    until,
)

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import NOBODY, ORIGIN, OUTCOME_FORGOTTEN, Applied, Applier, extend_digest
from quorate.replica.sessions import KEY_REUSED, SessionTable
from quorate.replica.upstream import CallFailed, Fate, Upstream
from quorate.storage.snapshots import Facts
from quorate.types import NOOP, Membership, Outcome, ReplicaId


class Copy:
    """An applier between an order and a service, and what it told."""

    def __init__(self, service: TinyService, ordering: MemoryOrdering | None = None, depth: int = 1) -> None:
        self.service = service
        self.ordering = ordering or MemoryOrdering()
        self.lane = Upstream(service.address, HttpLimits(), 1, depth=depth)
        self.applier = Applier(self.ordering, self.lane, depth)
        self.applied: list[Applied] = []
        self.troubles: list[CallFailed] = []
        self.applier.on_applied = self.applied.append
        self.applier.on_trouble = self.troubles.append
        self.ordering.on_delivered = self.applier.advance

    async def reaches(self, index: int) -> None:
        await until(lambda: self.applier.applied == index)

    def answers(self) -> list[bytes]:
        return [one.outcome.body for one in self.applied]


@pytest.fixture
async def copy(service: TinyService) -> AsyncIterator[Copy]:
    copy = Copy(service)
    yield copy
    await copy.lane.close()


@pytest.fixture
async def pipelined(service: TinyService) -> AsyncIterator[Copy]:
    """A copy with up to 4 commands at a service that answers each with its own body."""
    service.answer = echo
    copy = Copy(service, depth=4)
    yield copy
    await copy.lane.close()


# --- order -----------------------------------------------------------------------------------------------------------


async def test_commands_reach_the_service_in_index_order_and_once(copy: Copy) -> None:
    copy.ordering.log = [batch_of(*(command(10 * slot + n) for n in range(3))) for slot in range(1, 8)]
    copy.applier.start()
    await copy.reaches(21)
    expected = [b"%d" % (10 * slot + n) for slot in range(1, 8) for n in range(3)]
    assert copy.service.bodies() == expected
    assert [one.index for one in copy.applied] == list(range(1, 22))
    assert copy.answers() == [b"%d" % n for n in range(1, 22)]


async def test_what_is_delivered_later_is_applied_later(copy: Copy) -> None:
    copy.applier.start()
    for name in range(1, 4):
        copy.ordering.deliver(batch_of(command(name)))
        await copy.reaches(name)
    assert copy.service.bodies() == [b"1", b"2", b"3"]


async def test_one_command_is_at_the_service_at_a_time(copy: Copy) -> None:
    copy.service.answer = hang
    copy.applier.start()
    copy.ordering.deliver(batch_of(command(1), command(2)))
    await until(lambda: copy.service.got)
    assert (copy.applier.current_index, copy.applier.backlog) == (1, 1)
    assert copy.service.bodies() == [b"1"]


async def test_no_ops_move_the_point_but_not_the_index(copy: Copy) -> None:
    copy.ordering.log = [NOOP, batch_of(command(1)), NOOP, NOOP]
    copy.applier.start()
    await until(lambda: copy.applier.point == 4)
    assert copy.applier.applied == 1


async def test_a_point_is_reached_with_the_last_command_of_its_batch(copy: Copy) -> None:
    points: list[tuple[int, int]] = []
    copy.applier.on_progress = lambda: points.append((copy.applier.point, copy.applier.applied))
    copy.ordering.log = [batch_of(command(1), command(2)), batch_of(command(3))]
    copy.applier.start()
    await copy.reaches(3)
    assert points == [(1, 2), (2, 3)]


# --- exactly once ----------------------------------------------------------------------------------------------------


async def test_a_command_that_was_ordered_twice_is_executed_once(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1), command(2), command(1)), batch_of(command(2))]
    copy.applier.start()
    await copy.reaches(4)
    assert copy.service.bodies() == [b"1", b"2"]
    assert copy.answers() == [b"1", b"2", b"1", b"2"]
    assert [one.replayed for one in copy.applied] == [False, False, True, True]


async def test_a_reused_key_is_refused_without_the_service(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1, fingerprint=FINGERPRINT), command(1, fingerprint=b"o" * 16))]
    copy.applier.start()
    await copy.reaches(2)
    assert copy.applied[1].outcome == KEY_REUSED
    assert len(copy.service.got) == 1


# --- what is injected ------------------------------------------------------------------------------------------------


async def test_a_delivery_bears_the_agreed_facts(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1, time_ms=1000))]
    copy.applier.start()
    await copy.reaches(1)
    fields = copy.service.got[0].fields
    assert fields["quorate-index"] == fields["log-index"] == "1"
    assert fields["quorate-time"] == "1000"
    assert fields["quorate-seed"] == "1"
    assert fields["quorate-request-id"] == command(1).request_id.hex()
    assert "quorate-replay" not in fields


async def test_a_replay_says_so(copy: Copy) -> None:
    copy.applier.replaying = True
    copy.ordering.log = [batch_of(command(1))]
    copy.applier.start()
    await copy.reaches(1)
    assert copy.service.got[0].fields["quorate-replay"] == "1"


async def test_agreed_time_never_goes_back(copy: Copy) -> None:
    copy.ordering.log = [batch_of(*(command(n, time_ms=time) for n, time in enumerate((5, 3, 9, 7), 1)))]
    copy.applier.start()
    await copy.reaches(4)
    assert [request.fields["quorate-time"] for request in copy.service.got] == ["5", "5", "9", "9"]


async def test_agreed_time_is_the_same_after_commands_were_passed_over(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1, time_ms=5000), command(2, time_ms=4000))]
    copy.applier.pass_over(1)
    copy.applier.start()
    await copy.reaches(2)
    assert copy.service.got[0].fields["quorate-time"] == "5000"


# --- trouble ---------------------------------------------------------------------------------------------------------


async def test_a_call_without_a_proper_answer_stops_the_loop(copy: Copy) -> None:
    copy.service.answer = hang_up
    copy.ordering.log = [batch_of(command(1), command(2))]
    copy.applier.start()
    await until(lambda: copy.troubles)
    assert [failed.fate for failed in copy.troubles] == [Fate.LOST]
    copy.applier.advance()
    assert (copy.applier.applied, copy.applier.current_index) == (0, 1)
    assert copy.service.bodies() == [b"1"]


async def test_a_settled_command_is_recorded_and_the_loop_goes_on(copy: Copy) -> None:
    copy.service.answer = raw(b"nonsense\r\n\r\n")
    copy.ordering.log = [batch_of(command(1), command(2))]
    copy.applier.start()
    await until(lambda: copy.troubles)
    copy.service.answer = copy.service.count
    copy.applier.settle(Outcome(502, b"", b"bad"))
    await copy.reaches(2)
    assert copy.answers() == [b"bad", b"2"]


async def test_an_answer_that_comes_after_a_stop_is_ignored_and_its_command_taken_again(copy: Copy) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    copy.service.answer = keep
    copy.ordering.log = [batch_of(command(1), command(2))]
    copy.applier.start()
    await until(lambda: writers)
    copy.applier.stop()
    writers[0].write(http(b"too late"))
    copy.service.answer = copy.service.count
    copy.applier.start()
    await copy.reaches(2)
    assert copy.service.bodies() == [b"1", b"1", b"2"]
    assert b"too late" not in copy.answers()


async def test_a_stopped_applier_takes_nothing(copy: Copy) -> None:
    copy.ordering.deliver(batch_of(command(1)))
    copy.applier.start()
    await copy.reaches(1)
    copy.applier.stop()
    copy.ordering.deliver(batch_of(command(2)))
    copy.applier.advance()
    assert copy.applier.current_index == 0
    copy.applier.start()
    await copy.reaches(2)


async def test_readers_hold_up_the_next_command(copy: Copy) -> None:
    copy.applier.holds = 1
    copy.applier.start()
    copy.ordering.deliver(batch_of(command(1)))
    assert copy.applier.current_index == 0
    copy.applier.holds = 0
    copy.applier.advance()
    await copy.reaches(1)


# --- going back and passing over -------------------------------------------------------------------------------------


async def test_after_forgetting_everything_is_replayed_to_the_same_end(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(n), command(n)) for n in range(1, 6)]
    copy.applier.start()
    await copy.reaches(10)
    end = (copy.applier.digest, copy.applier.point, copy.applier.time_ms, len(copy.applier.sessions))
    first = copy.answers()
    copy.applier.stop()
    copy.applier.forget()
    assert (copy.applier.applied, copy.applier.point, copy.applier.digest) == (0, 0, ORIGIN)
    copy.service.got.clear()
    copy.applier.start()
    await copy.reaches(10)
    assert (copy.applier.digest, copy.applier.point, copy.applier.time_ms, len(copy.applier.sessions)) == end
    assert copy.answers() == first * 2


async def test_from_a_snapshots_facts_it_ends_where_it_would_have_from_the_beginning(copy: Copy) -> None:
    """With the table of sessions: 7 comes again behind the snapshot, and is not executed again."""
    copy.ordering.log = [batch_of(command(n), command(n + 1)) for n in range(1, 12)]
    copy.applier.due = lambda before, after: after.commands == 8
    taken: list[tuple[Facts, list[bytes]]] = []
    copy.applier.on_quiet = lambda stretch: taken.append((copy.applier.facts(), [*copy.applier.sessions.dump()]))
    copy.applier.start()
    await until(lambda: taken)
    copy.applier.resume(copy.applier.stretch)
    await copy.reaches(22)
    end = copy.applier.facts(), [*copy.applier.sessions.dump()], copy.answers()[8:]
    copy.applied.clear()
    copy.applier.stop()
    facts, sessions = taken[0]
    copy.applier.load(facts, SessionTable.load(sessions))
    assert (copy.applier.applied, copy.applier.point) == (8, 4)
    copy.service.got = [Request("POST / HTTP/1.1", {}, b"")] * 5  # what it had executed by then
    copy.applier.start()
    await copy.reaches(22)
    assert (copy.applier.facts(), [*copy.applier.sessions.dump()], copy.answers()) == end


async def test_a_quiet_moment_that_a_stop_has_ended_is_not_resumed_later(pipelined: Copy) -> None:
    lives: list[int] = []
    pipelined.applier.due = lambda before, after: after.commands % 2 == 0
    pipelined.applier.on_quiet = lives.append
    pipelined.ordering.log = [batch_of(command(n)) for n in range(1, 9)]
    pipelined.applier.start()
    await until(lambda: len(lives) == 1)
    pipelined.applier.stop()
    pipelined.applier.start()
    await until(lambda: len(lives) == 2)
    pipelined.applier.resume(lives[0])
    assert (pipelined.applier.applied, pipelined.applier.in_flight) == (4, 0)
    pipelined.applier.resume(lives[1])
    await pipelined.reaches(6)


async def test_nothing_is_quiet_about_what_is_passed_over(copy: Copy) -> None:
    quiet: list[int] = []
    copy.applier.due = lambda before, after: True
    copy.applier.on_quiet = quiet.append
    copy.ordering.log = [batch_of(command(n)) for n in range(1, 6)]
    copy.applier.pass_over(4)
    assert (copy.applier.applied, quiet) == (4, [])
    copy.applier.start()
    await until(lambda: len(quiet) == 1)


async def test_a_change_of_members_takes_its_slot_and_no_index(copy: Copy) -> None:
    changed = Membership(1, (ReplicaId(1),), (), (), ReplicaId(1))
    copy.ordering.log = [batch_of(command(1)), changed.batch(), batch_of(command(2))]
    copy.applier.start()
    await copy.reaches(2)
    assert (copy.applier.point, copy.applier.membership) == (3, changed)
    copy.applier.stop()
    copy.applier.forget()
    assert copy.applier.membership == NOBODY


async def test_what_the_service_has_is_passed_over(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1), command(2)), NOOP, batch_of(command(3), command(4))]
    copy.applier.pass_over(3)
    assert (copy.applier.applied, copy.applier.point, copy.applier.digest_complete) == (3, 2, False)
    copy.applier.start()
    await copy.reaches(4)
    assert copy.service.bodies() == [b"4"]
    assert copy.applier.point == 3


async def test_a_retry_of_what_was_passed_over_is_not_executed(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1), command(1))]
    copy.applier.pass_over(1)
    copy.applier.start()
    await copy.reaches(2)
    assert copy.service.got == []
    assert copy.applied[1].outcome == OUTCOME_FORGOTTEN


async def test_the_command_at_the_service_may_be_passed_over(copy: Copy) -> None:
    """It was executed, and the service died before it answered."""
    copy.service.answer = hang_up
    copy.ordering.log = [batch_of(command(1), command(2))]
    copy.applier.start()
    await until(lambda: copy.troubles)
    copy.applier.stop()
    copy.applier.pass_over(1)
    copy.service.answer = copy.service.count
    copy.applier.start()
    await copy.reaches(2)
    assert copy.service.bodies() == [b"1", b"2"]


async def test_a_duplicate_that_is_passed_over_is_stored_once(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be evicted twice."""
    monkeypatch.setattr(limits, "SESSION_WINDOW", 6)
    copy.ordering.log = [batch_of(command(1), command(2), command(1)), batch_of(command(1), command(3))]
    copy.applier.pass_over(5)
    assert [(one.index, one.replayed) for one in copy.applied] == [
        (1, False),
        (2, False),
        (3, True),
        (4, True),
        (5, False),
    ]
    assert len(copy.applier.sessions) == 3
    first = copy.applier.sessions.find(command(1).request_id)
    assert first is not None
    assert first.index == 1
    copy.ordering.log += [batch_of(*(command(n, stamp=n) for n in range(6, 16)))]
    copy.applier.start()
    await copy.reaches(15)
    assert len(copy.applier.sessions) == 6


async def test_a_reused_key_that_is_passed_over_is_refused_as_at_the_first_time(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1, fingerprint=FINGERPRINT), command(1, fingerprint=b"o" * 16))]
    copy.applier.pass_over(2)
    assert [one.outcome for one in copy.applied] == [OUTCOME_FORGOTTEN, KEY_REUSED]


async def test_nothing_is_passed_over_beyond_the_known_order(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(1))]
    copy.applier.pass_over(5)
    assert copy.applier.applied == 1


# --- the same everywhere ---------------------------------------------------------------------------------------------


async def test_copies_of_one_order_have_one_digest_whatever_their_pace(service: TinyService) -> None:
    log = [batch_of(*(command(n % 7, time_ms=100 - n) for n in range(slot, slot + 3))) for slot in range(1, 10)]
    digests = set()
    for depth in (1, 4):
        await service.stop()
        service.got.clear()
        await service.start()
        copy = Copy(service, MemoryOrdering(list(log)), depth)
        copy.applier.start()
        await copy.reaches(27)
        digests.add((copy.applier.digest, copy.applier.time_ms))
        await copy.lane.close()
    assert len(digests) == 1


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(100, 599))
def test_a_digest_tells_histories_apart(body: bytes, other: bytes, status: int) -> None:
    one = extend_digest(ORIGIN, 1, command(1), Outcome(status, b"", body))
    assert one == extend_digest(ORIGIN, 1, command(1), Outcome(status, b"Date: now\r\n", body))
    assert (one == extend_digest(ORIGIN, 1, command(1), Outcome(status, b"", other))) == (body == other)
    assert one != extend_digest(ORIGIN, 2, command(1), Outcome(status, b"", body))
    assert one != extend_digest(one, 1, command(1), Outcome(status, b"", body))


# --- several commands at the service ---------------------------------------------------------------------------------


async def test_pipelined_commands_keep_order_and_answers(pipelined: Copy) -> None:
    names = [10 * slot + n for slot in range(1, 20) for n in range(5)]
    pipelined.ordering.log = [batch_of(*map(command, names[start : start + 5])) for start in range(0, 95, 5)]
    pipelined.applier.start()
    await pipelined.reaches(95)
    assert pipelined.service.bodies() == pipelined.answers() == [b"%d" % name for name in names]
    assert pipelined.service.connections == 1


async def test_commands_go_out_before_the_answers_to_those_ahead(pipelined: Copy) -> None:
    held = Held()
    pipelined.service.answer = held.keep
    pipelined.ordering.log = [batch_of(*map(command, range(1, 7)))]
    pipelined.applier.start()
    await held.gets(b"1", b"2", b"3", b"4")
    assert (pipelined.applier.current_index, pipelined.applier.in_flight, pipelined.applier.backlog) == (1, 4, 2)
    held.answer_all()
    await held.gets(b"5", b"6")
    assert pipelined.answers() == [b"1", b"2", b"3", b"4"]
    held.answer_all()
    await pipelined.reaches(6)
    assert pipelined.answers() == [b"%d" % n for n in range(1, 7)]


async def test_a_repeated_command_waits_for_the_first_in_the_pipeline(pipelined: Copy) -> None:
    pipelined.ordering.log = [batch_of(command(1), command(2), command(1), command(3))]
    pipelined.applier.start()
    await pipelined.reaches(4)
    assert pipelined.service.bodies() == [b"1", b"2", b"3"]
    assert pipelined.answers() == [b"1", b"2", b"1", b"3"]


async def test_a_suspect_goes_alone(pipelined: Copy) -> None:
    held = Held()
    pipelined.service.answer = held.keep
    pipelined.applier.alone = 3
    pipelined.ordering.log = [batch_of(*map(command, range(1, 7)))]
    pipelined.applier.start()
    for together in ([b"1", b"2"], [b"3"], [b"4", b"5", b"6"]):
        await held.gets(*together)
        held.answer_all()
    await pipelined.reaches(6)


def times(copy: Copy) -> list[str]:
    return [request.fields["quorate-time"] for request in copy.service.got]


async def test_agreed_time_is_the_same_with_one_or_many_at_the_service(service: TinyService) -> None:
    """It never goes back, and commands that are not executed move it too."""
    clock = (5, 3, 9, 7, 12, 12, 1, 30, 2, 40)
    repeated = command(2, time_ms=20)
    commands = [command(n, time_ms=time) for n, time in enumerate(clock, 1)]
    log = [batch_of(*commands[:4], repeated, *commands[4:7]), batch_of(*commands[7:], repeated)]
    seen = []
    for depth in (1, 2, 4, 8):
        service.got.clear()
        copy = Copy(service, MemoryOrdering(list(log)), depth)
        copy.applier.start()
        await copy.reaches(12)
        seen.append(times(copy))
        await copy.lane.close()
    assert seen == [["5", "5", "9", "9", "20", "20", "20", "30", "30", "40"]] * 4


async def test_commands_taken_again_bear_the_same_time(pipelined: Copy) -> None:
    pipelined.service.answer = hang
    pipelined.ordering.log = [batch_of(*(command(n, time_ms=time) for n, time in enumerate((5, 3, 9, 7), 1)))]
    pipelined.applier.start()
    await until(lambda: len(pipelined.service.got) == 4)
    first = times(pipelined)
    pipelined.applier.stop()
    pipelined.lane.reset()
    pipelined.service.answer = echo
    pipelined.applier.start()
    await pipelined.reaches(4)
    assert times(pipelined) == first * 2 == ["5", "5", "9", "9"] * 2
    assert pipelined.answers() == [b"1", b"2", b"3", b"4"]


def hangs_up_at(body: bytes) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await (hang_up if request.body == body else echo)(request, writer)

    return answer


async def is_quiet(copy: Copy) -> None:
    """Return once the service has answered a call that was made after everything the copy may have sent."""
    probe = Upstream(copy.service.address, HttpLimits(), 1)
    for _ in range(3):
        answered = asyncio.Event()
        probe.call(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n", b"GET", lambda _: answered.set())  # noqa: B023
        await answered.wait()
    await probe.close()


@pytest.mark.parametrize("forgets", [False, True])
async def test_after_trouble_nothing_is_sent_until_the_loop_was_stopped(pipelined: Copy, forgets: bool) -> None:
    """Else the next command's answer would be taken for that of the one that failed."""
    pipelined.service.answer = hangs_up_at(b"2")
    pipelined.ordering.log = [batch_of(*map(command, range(1, 4)))]
    pipelined.applier.start()
    await until(lambda: pipelined.troubles)
    pipelined.service.answer = echo
    pipelined.ordering.deliver(batch_of(command(4)))
    pipelined.applier.advance()
    await is_quiet(pipelined)
    assert pipelined.service.bodies() in ([b"1", b"2"], [b"1", b"2", b"3"])
    assert (pipelined.applier.applied, pipelined.applier.current_index, len(pipelined.troubles)) == (1, 2, 1)
    pipelined.applier.stop()
    if forgets:
        pipelined.applier.forget()
        pipelined.applied.clear()
    pipelined.applier.start()
    await pipelined.reaches(4)
    assert [(one.index, one.outcome.body) for one in pipelined.applied] == [(n, b"%d" % n) for n in range(1, 5)]


async def test_after_trouble_nothing_is_sent_until_it_is_settled(pipelined: Copy) -> None:
    pipelined.service.answer = hangs_up_at(b"1")
    pipelined.ordering.log = [batch_of(command(1))]
    pipelined.applier.start()
    await until(lambda: pipelined.troubles)
    pipelined.ordering.deliver(batch_of(command(2)), batch_of(command(3)))
    await is_quiet(pipelined)
    assert pipelined.service.bodies() == [b"1"]
    pipelined.applier.settle(Outcome(502, b"", b"bad"))
    await pipelined.reaches(3)
    assert pipelined.answers() == [b"bad", b"2", b"3"]


async def test_what_comes_after_a_connection_that_was_closed_in_the_middle_is_not_sent(pipelined: Copy) -> None:
    """It is called before the loss of those ahead is known."""
    held = Held()
    pipelined.service.answer = held.keep
    pipelined.ordering.log = [batch_of(*map(command, range(1, 7)))]
    pipelined.applier.start()
    await held.gets(b"1", b"2", b"3", b"4")
    _, writer = held.waiting[0]
    pipelined.service.answer = echo
    writer.write(http(b"1", fields=b"Connection: close\r\n"))
    await until(lambda: pipelined.troubles)
    await is_quiet(pipelined)
    assert pipelined.service.bodies() == [b"1", b"2", b"3", b"4"]
    assert [(one.index, one.outcome.body) for one in pipelined.applied] == [(1, b"1")]
