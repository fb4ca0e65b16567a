"""The answer desk: every call is answered once, and what a refusal says is true (P6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.replica.parts import (
    FINGERPRINT,
    Held,
    MemoryOrdering,
    TinyService,
    batch_of,
    call,
    command,
    http,
    raw,
    until,
)

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import Applier
from quorate.replica.reads import Reads
from quorate.replica.replica import KEY_IN_FLIGHT, NOT_READY, OVERLOADED, Replica
from quorate.replica.sessions import KEY_REUSED
from quorate.replica.tunnels import Tunnels, Upgrade
from quorate.replica.upstream import Upstream
from quorate.types import Ballot, Batch, Command, Index, Outcome, ReadMode, ReplicaId, Reply
from quorate.wire import decode_batch

OTHER = b"o" * 16


class Copy:
    """A replica over an order in memory and a service; it is ready as long as the test says so."""

    def __init__(self, service: TinyService, log: list[Batch] | None = None) -> None:
        self.ordering = MemoryOrdering(log)
        self.ready = True
        self._upstreams = [Upstream(service.address, HttpLimits(), size) for size in (1, 4, 4)]
        self.applier = Applier(self.ordering, self._upstreams[0])
        reads = Reads(self.ordering, self.applier, self._upstreams[1], self._upstreams[2], exclusive=False)
        self.tunnels = Tunnels(service.address, HttpLimits(), 1)
        self.latencies: list[float] = []
        self.replica = Replica(self.ordering, self.applier, reads, self.tunnels, self, self.latencies.append)
        self.ordering.on_delivered = self.applier.advance
        self.applier.start()

    def submit(
        self, body: bytes = b"", key: bytes | None = None, fingerprint: bytes = FINGERPRINT, seconds: float = 60
    ) -> list[Reply]:
        """Submit a call; the list returned fills with its reply."""
        replies: list[Reply] = []
        deadline = asyncio.get_running_loop().time() + seconds
        self.replica.submit(call(body), key, fingerprint, deadline, replies.append)
        return replies

    def read(self, mode: ReadMode = ReadMode.LINEARIZABLE, at_least: Index = 0, seconds: float = 60) -> list[Reply]:
        replies: list[Reply] = []
        deadline = asyncio.get_running_loop().time() + seconds
        self.replica.read(call(method=b"GET"), mode, at_least, deadline, replies.append)
        return replies

    def proposed(self) -> list[Command]:
        return [one for batch in self.ordering.proposed for one in decode_batch(batch)]

    async def close(self) -> None:
        self.replica.close()
        await self.tunnels.close()
        for one in self._upstreams:
            await one.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(limits, "REPROPOSE_SECONDS", 0.05)
    monkeypatch.setattr(limits, "UNPROPOSED_SECONDS_MAX", 0.1)


@pytest.fixture
async def copy(service: TinyService) -> AsyncIterator[Copy]:
    copy = Copy(service)
    yield copy
    await copy.close()


async def answer(replies: list[Reply]) -> Reply:
    await until(lambda: replies)
    assert len(replies) == 1
    return replies[0]


async def passed(seconds: float) -> None:
    """Return after so long: what has not happened until then is not about to."""
    end = asyncio.get_running_loop().time() + seconds
    await until(lambda: asyncio.get_running_loop().time() > end)


def code(reply: Reply) -> str:
    document = msgspec.json.decode(reply.outcome.body)
    assert document["status"] == reply.outcome.status
    return str(document["code"])


# --- the usual way ---------------------------------------------------------------------------------------------------


async def test_a_call_is_ordered_executed_and_answered(copy: Copy, service: TinyService) -> None:
    reply = await answer(copy.submit(b"hello"))
    assert (reply.outcome.status, reply.outcome.body, reply.index, reply.replayed) == (200, b"1", 1, False)
    assert service.got[0].fields["quorate-request-id"] == reply.request_id.hex()
    assert service.bodies() == [b"hello"]
    assert len(copy.latencies) == 1


async def test_calls_of_one_turn_of_the_loop_share_a_batch(copy: Copy) -> None:
    asked = [copy.submit(b"%d" % n) for n in range(20)]
    for replies in asked:
        await answer(replies)
    assert len(copy.ordering.proposed) == 1
    assert [(await answer(replies)).outcome.body for replies in asked] == [b"%d" % n for n in range(1, 21)]


async def test_a_command_bears_what_must_be_decided_once(copy: Copy) -> None:
    await answer(copy.submit(b"first"))
    await answer(copy.submit(b"second", key=b"k"))
    first, second = copy.proposed()
    assert (first.stamp, second.stamp) == (0, 1)
    assert first.request_id != second.request_id
    assert first.seed != second.seed
    assert 0 < first.time_ms <= second.time_ms
    assert (first.fingerprint, second.fingerprint) == (b"", FINGERPRINT)


async def test_a_command_of_another_replica_answers_nobody_here(copy: Copy) -> None:
    copy.ordering.deliver(batch_of(command(1)))
    await until(lambda: copy.applier.applied == 1)
    assert (await answer(copy.submit())).index == 2
    assert len(copy.latencies) == 1


async def test_an_order_that_is_settled_within_its_proposal_takes_each_command_once(copy: Copy) -> None:
    """The refusal of a reused key is told while the batch that holds it is still being proposed."""
    copy.ordering.at_once = True
    copy.ordering.leads = False
    reused = copy.submit(key=b"k")
    fresh = [copy.submit(b"%d" % n) for n in range(3)]
    await until(lambda: copy.ordering.refused)
    mine = decode_batch(copy.ordering.refused[0])[0]
    copy.ordering.deliver(batch_of(msgspec.structs.replace(mine, fingerprint=OTHER)))
    await until(lambda: copy.applier.applied == 1)
    copy.ordering.leads = True
    assert (await answer(reused)).outcome == KEY_REUSED
    for replies in fresh:
        assert (await answer(replies)).outcome.status == 200
    assert [one.body for one in copy.proposed()] == [b"", b"0", b"1", b"2"]
    assert copy.replica.statistics().proposed == 4


async def test_large_calls_are_spread_over_batches(copy: Copy) -> None:
    asked = [copy.submit(b"x" * (limits.BATCH_BYTES_MAX // 2)) for _ in range(4)]
    for replies in asked:
        await answer(replies)
    assert all(len(batch.payload) < 2 * limits.BATCH_BYTES_MAX for batch in copy.ordering.proposed)
    assert len(copy.ordering.proposed) > 1


# --- keys ------------------------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_stored_answer_at_its_old_index(copy: Copy, service: TinyService) -> None:
    first = await answer(copy.submit(b"a", key=b"k"))
    await answer(copy.submit(b"b"))
    retry = await answer(copy.submit(b"a", key=b"k"))
    assert (retry.outcome, retry.index, retry.request_id) == (first.outcome, 1, first.request_id)
    assert (first.replayed, retry.replayed) == (False, True)
    assert service.bodies() == [b"a", b"b"]
    assert copy.replica.statistics().replayed == 1


async def test_a_retry_at_another_replica_gets_the_stored_answer_too(copy: Copy, service: TinyService) -> None:
    first = await answer(copy.submit(b"a", key=b"k"))
    other = Copy(service, copy.ordering.log)
    await until(lambda: other.applier.applied == 1)
    retry = await answer(other.submit(b"a", key=b"k"))
    assert (retry.index, retry.request_id, retry.replayed) == (1, first.request_id, True)
    await other.close()


async def test_a_retry_at_another_replica_that_has_yet_to_apply_the_first_is_told_so(
    copy: Copy, service: TinyService
) -> None:
    first = await answer(copy.submit(b"a", key=b"k"))
    other = Copy(service, copy.ordering.log)
    other.applier.stop()
    replies = other.submit(b"a", key=b"k")
    await until(lambda: other.proposed())
    other.applier.start()
    retry = await answer(replies)
    assert (retry.index, retry.request_id) == (first.index, first.request_id)
    assert (first.replayed, retry.replayed) == (False, True)
    await other.close()


async def test_a_key_is_refused_while_its_first_request_is_under_way(copy: Copy) -> None:
    copy.ordering.chooses = False
    first = copy.submit(key=b"k")
    second = await answer(copy.submit(key=b"k"))
    assert second.outcome == KEY_IN_FLIGHT
    copy.ordering.deliver(*copy.ordering.proposed)
    await until(lambda: copy.proposed())
    copy.ordering.deliver(*copy.ordering.proposed)
    assert (await answer(first)).outcome.status == 200


async def test_a_key_used_for_another_request_is_refused(copy: Copy, service: TinyService) -> None:
    await answer(copy.submit(key=b"k"))
    reply = await answer(copy.submit(key=b"k", fingerprint=OTHER))
    assert reply.outcome == KEY_REUSED
    assert len(service.got) == 1


async def test_a_key_used_for_another_request_elsewhere_at_the_same_time_is_refused_in_turn(copy: Copy) -> None:
    copy.ordering.chooses = False
    replies = copy.submit(key=b"k")
    await until(lambda: copy.proposed())
    mine = copy.proposed()[0]
    theirs = msgspec.structs.replace(mine, fingerprint=OTHER, seed=mine.seed ^ 1)
    copy.ordering.deliver(batch_of(theirs), batch_of(mine))
    reply = await answer(replies)
    assert (reply.outcome, reply.index) == (KEY_REUSED, 2)


async def test_the_same_request_elsewhere_at_the_same_time_is_executed_once(copy: Copy, service: TinyService) -> None:
    copy.ordering.chooses = False
    replies = copy.submit(key=b"k")
    await until(lambda: copy.proposed())
    mine = copy.proposed()[0]
    theirs = msgspec.structs.replace(mine, seed=mine.seed ^ 1)
    copy.ordering.deliver(batch_of(theirs), batch_of(mine))
    reply = await answer(replies)
    await until(lambda: copy.applier.applied == 2)
    assert (reply.index, reply.replayed, len(service.got)) == (1, True, 1)


async def test_the_outcome_of_an_earlier_request_can_be_asked_for(copy: Copy) -> None:
    first = await answer(copy.submit())
    found = copy.replica.outcome(first.request_id)
    assert found == Reply(first.outcome, 1, first.request_id, replayed=True)
    assert copy.replica.outcome(b"?" * 16) is None


# --- refusals that tell the truth ------------------------------------------------------------------------------------


async def test_what_found_no_leader_was_not_proposed_and_never_is(copy: Copy, service: TinyService) -> None:
    copy.ordering.leads = False
    reply = await answer(copy.submit())
    assert (reply.outcome.status, code(reply)) == (503, "not_proposed")
    copy.ordering.leads = True
    await answer(copy.submit(b"next"))
    assert [one.body for one in copy.proposed()] == [b"next"]
    assert service.bodies() == [b"next"]


async def test_what_finds_a_leader_late_is_executed(copy: Copy) -> None:
    copy.ordering.leads = False
    replies = copy.submit()
    await until(lambda: copy.ordering.refused)
    copy.ordering.leads = True
    assert (await answer(replies)).outcome.status == 200


async def test_what_left_this_replica_has_an_unknown_outcome(copy: Copy) -> None:
    copy.ordering.chooses = False
    reply = await answer(copy.submit(seconds=0.05))
    assert (reply.outcome.status, code(reply)) == (504, "outcome_unknown")
    assert msgspec.json.decode(reply.outcome.body)["request_id"] == reply.request_id.hex()
    copy.ordering.deliver(copy.ordering.proposed[0])
    await until(lambda: copy.replica.outcome(reply.request_id))


async def test_a_lost_command_is_proposed_again_under_its_id(copy: Copy, service: TinyService) -> None:
    copy.ordering.chooses = False
    replies = copy.submit()
    await until(lambda: len(copy.ordering.proposed) >= 2)
    assert len({one.request_id for one in copy.proposed()}) == 1
    copy.ordering.deliver(*copy.ordering.proposed[:2])
    assert (await answer(replies)).index == 1
    await until(lambda: copy.applier.applied >= 2)
    assert len(service.got) == 1


async def test_a_command_that_went_to_who_led_before_is_proposed_again_to_who_leads_now(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and once: also if it is the same replica, which forgot it when it died."""
    monkeypatch.setattr(limits, "REPROPOSE_SECONDS", 3600)
    copy.ordering.chooses = False
    replies = copy.submit()
    await until(lambda: len(copy.ordering.proposed) == 1)
    copy.ordering.leads = False
    await passed(5 * limits.SWEEP_SECONDS)
    assert len(copy.ordering.proposed) == 1
    copy.ordering.leads, copy.ordering.leadership = True, Ballot(2, ReplicaId(1))
    await until(lambda: len(copy.ordering.proposed) == 2)
    await passed(5 * limits.SWEEP_SECONDS)
    copy.ordering.deliver(*copy.ordering.proposed)
    assert (await answer(replies)).index == 1
    assert len(copy.ordering.proposed) == 2


async def test_a_command_that_waits_for_its_turn_is_not_proposed_again(copy: Copy, service: TinyService) -> None:
    copy.applier.holds = 1
    replies = copy.submit()
    await passed(3 * limits.REPROPOSE_SECONDS)
    assert len(copy.ordering.proposed) == 1
    copy.applier.holds = 0
    copy.applier.advance()
    await answer(replies)
    assert len(service.got) == 1


async def test_an_unready_copy_refuses_all_but_passed_calls(copy: Copy) -> None:
    copy.ready = False
    assert (await answer(copy.submit())).outcome == NOT_READY
    for mode in (ReadMode.LINEARIZABLE, ReadMode.STALE):
        assert (await answer(copy.read(mode))).outcome == NOT_READY
    assert (await answer(copy.read(ReadMode.PASS))).outcome.status == 200


async def test_calls_past_the_bound_are_refused(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_MAX", 3)
    copy.ordering.chooses = copy.ordering.quorum = False
    held = [copy.submit(), copy.submit(), copy.read()]
    assert (await answer(copy.submit())).outcome == OVERLOADED
    assert (await answer(copy.read())).outcome == OVERLOADED
    assert not any(held)
    assert copy.replica.in_flight() == 3


async def test_passed_calls_past_their_bound_leave_room_for_what_they_ask(
    copy: Copy, service: TinyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PASSED_MAX", 2)
    held = Held()
    service.answer = held.keep
    passed = [copy.read(ReadMode.PASS), copy.read(ReadMode.PASS)]
    await until(lambda: len(held.waiting) == 2)
    assert (await answer(copy.read(ReadMode.PASS))).outcome == OVERLOADED
    service.answer = service.count
    assert (await answer(copy.submit())).outcome.status == 200
    assert (await answer(copy.read())).outcome.status == 200
    held.answer_all()
    assert [(await answer(one)).outcome.status for one in passed] == [200, 200]


async def test_upgrades_past_the_bound_are_refused_and_a_closed_replica_takes_none(
    copy: Copy, service: TinyService
) -> None:
    service.answer = raw(http(b"", 401))
    answers: list[tuple[Outcome, Upgrade | None]] = []

    def upgrade() -> None:
        copy.replica.upgrade(call(method=b"GET"), b"", float("inf"), lambda *answer: answers.append(answer))

    upgrade()
    upgrade()
    assert answers == [(OVERLOADED, None)]
    assert copy.replica.statistics().tunnels == 1
    await until(lambda: len(answers) == 2 and not copy.replica.statistics().tunnels)
    assert answers[1][0].status == 401
    copy.replica.close()
    upgrade()
    assert answers[2] == (NOT_READY, None)


async def test_bytes_past_the_bound_are_refused_until_there_is_room(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_BYTES_MAX", 1000)
    copy.ordering.chooses = False
    first = copy.submit(b"x" * 2000)
    assert (await answer(copy.submit())).outcome == OVERLOADED
    await until(lambda: copy.ordering.proposed)
    copy.ordering.chooses = True
    copy.ordering.deliver(*copy.ordering.proposed)
    await answer(first)
    assert copy.replica.statistics().in_flight_bytes == 0
    assert (await answer(copy.submit())).outcome.status == 200


async def test_a_closed_replica_still_answers_what_is_under_way(copy: Copy) -> None:
    copy.ordering.chooses = False
    under_way = copy.submit()
    await until(lambda: copy.ordering.proposed)
    copy.replica.close()
    assert (await answer(copy.submit())).outcome == NOT_READY
    assert (await answer(copy.read(ReadMode.PASS))).outcome == NOT_READY
    copy.ordering.deliver(copy.ordering.proposed[0])
    assert (await answer(under_way)).outcome.status == 200


async def test_a_read_without_a_quorum_is_refused_at_its_deadline(copy: Copy) -> None:
    copy.ordering.quorum = False
    assert code(await answer(copy.read(seconds=0.03))) == "no_quorum"
    assert copy.replica.in_flight() == 0


async def test_the_statistics_add_up(copy: Copy) -> None:
    for _ in range(3):
        await answer(copy.submit(key=b"k"))
    await answer(copy.submit())
    statistics = copy.replica.statistics()
    assert (statistics.submitted, statistics.proposed, statistics.executed) == (2, 2, 2)
    assert (statistics.replayed, statistics.sessions, statistics.in_flight) == (2, 2, 0)
