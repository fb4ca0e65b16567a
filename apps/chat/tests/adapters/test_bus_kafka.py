"""The bus on a real Kafka: order, nothing lost, and what becomes of what nobody can handle.

All tests share one Kafka and its topics, so a handler looks at its own test's events only, and lets others go.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from chat import limits, observe
from chat.adapters.bus_kafka import DEAD_LETTERS, KafkaBus
from chat.events import Event, Topic
from chat.problems import Refused, Unavailable, Unknown
from chat.pushes import Push, ReadMark
from deploy.servers import Kafka
from tests.adapters.conftest import event, until


@pytest.fixture
async def bus(kafka: Kafka) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(kafka.url)
    async with bus.running():
        yield bus


class Handled:
    """A handler that keeps those of `expected` that it was given, in their order, and sends nothing on."""

    def __init__(self, expected: Sequence[Event]) -> None:
        self._expected = {one.message_uid for one in expected}
        self.events: list[Event] = []

    async def __call__(self, events: Sequence[Event]) -> Sequence[Event]:
        self.events += [one for one in events if one.message_uid in self._expected]
        return ()

    def all(self) -> bool:
        return {one.message_uid for one in self.events} == self._expected


@asynccontextmanager
async def graves(kafka: Kafka) -> AsyncIterator[Callable[[bytes], ConsumerRecord | None]]:
    """Give a function that finds a dead letter that was buried from now on, by what is in it."""
    found: dict[bytes, ConsumerRecord] = {}
    consumer = AIOKafkaConsumer(DEAD_LETTERS, bootstrap_servers=kafka.url.removeprefix("kafka://"))
    await consumer.start()
    await consumer.seek_to_end()

    async def look() -> None:
        async for record in consumer:
            found[record.value] = record

    task = asyncio.create_task(look())
    yield found.get
    task.cancel()
    await asyncio.wait((task,))
    await consumer.stop()


async def send_raw(kafka: Kafka, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.url.removeprefix("kafka://"))
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value, key=b"raw")
    await producer.stop()


def outcomes(topic: Topic, outcome: str) -> float:
    return observe.REGISTRY.get_sample_value("chat_events_total", {"topic": topic, "outcome": outcome}) or 0


async def test_the_order_of_each_conversation_is_kept(bus: KafkaBus) -> None:
    """Many conversations, several in one batch, published at once by several senders."""
    conversations = [
        [event(Topic.AUTOREPLY, sender, 1000, str(number)) for number in range(40)] for sender in range(1, 9)
    ]
    every = [one for conversation in conversations for one in conversation]
    handled = Handled(every)

    async def talk(conversation: list[Event]) -> None:
        for start in range(0, len(conversation), 8):
            await bus.publish(conversation[start : start + 8])

    async with bus.handling(Topic.AUTOREPLY, handled):
        await asyncio.gather(*map(talk, conversations))
        await until(handled.all)
    for conversation in conversations:
        assert [one for one in handled.events if one.sender_id == conversation[0].sender_id] == conversation


async def test_what_a_handler_returns_goes_on(bus: KafkaBus) -> None:
    first = event(Topic.SCRIPTS_OUTGOING, 1, 2, "as it was", Topic.ROUTER)
    last = Handled([first])

    async def change(events: Sequence[Event]) -> Sequence[Event]:
        return [one.taken(Topic.SCRIPTS_OUTGOING, message_body="changed") for one in events if one == first]

    async with bus.handling(Topic.SCRIPTS_OUTGOING, change), bus.handling(Topic.ROUTER, last):
        await bus.publish([first])
        await until(last.all)
    assert last.events[0] == first.model_copy(update={"message_body": "changed", "event_destinations": (Topic.ROUTER,)})


async def test_a_batch_whose_consumer_died_is_handled_by_the_next(bus: KafkaBus) -> None:
    """The first is cancelled in the middle: nothing was committed, so all comes again."""
    events = [event(Topic.SCRIPTS_INCOMING, sender, 50) for sender in range(1, 20)]
    begun = asyncio.Event()

    async def dies(given: Sequence[Event]) -> Sequence[Event]:
        begun.set()
        await asyncio.Event().wait()
        return ()

    await bus.publish(events)
    async with bus.handling(Topic.SCRIPTS_INCOMING, dies):
        await begun.wait()
    handled = Handled(events)
    async with bus.handling(Topic.SCRIPTS_INCOMING, handled):
        await until(handled.all)


async def test_what_was_handled_does_not_come_again(bus: KafkaBus) -> None:
    events = [event(Topic.SCRIPTS_INCOMING, sender, 50) for sender in range(1, 20)]
    again, after = Handled(events), event(Topic.SCRIPTS_INCOMING, 1, 50, "after")
    first, second = Handled(events), Handled([after])
    before = outcomes(Topic.SCRIPTS_INCOMING, "handled")

    async def both(given: Sequence[Event]) -> Sequence[Event]:
        await again(given)
        return await second(given)

    await bus.publish(events)
    async with bus.handling(Topic.SCRIPTS_INCOMING, first):
        await until(lambda: outcomes(Topic.SCRIPTS_INCOMING, "handled") >= before + len(events))
        # Counted before it is committed: one more batch, and the commit of those is over.
        await bus.publish([event(Topic.SCRIPTS_INCOMING, sender, 50, "between") for sender in range(1, 20)])
        await until(lambda: outcomes(Topic.SCRIPTS_INCOMING, "handled") >= before + 2 * len(events))
    await bus.publish([after])
    async with bus.handling(Topic.SCRIPTS_INCOMING, both):
        await until(second.all)
    assert first.all()
    assert again.events == []


async def test_two_instances_share_a_topic(kafka: Kafka, bus: KafkaBus) -> None:
    """Both get some, between them all; and when one of them goes, the other gets all of the rest."""
    other = KafkaBus(kafka.url)
    seen: tuple[list[Event], list[Event]] = ([], [])

    def keeping(mine: list[Event]) -> Callable[[Sequence[Event]], object]:
        async def keep(events: Sequence[Event]) -> Sequence[Event]:
            mine.extend(events)
            return ()

        return keep

    sent: list[Event] = []

    async def send() -> None:
        batch = [event(Topic.AUTOREPLY, random.randrange(1, 1 << 20), 7) for _ in range(30)]
        sent.extend(batch)
        await bus.publish(batch)

    def missing() -> set[uuid.UUID]:
        return {one.message_uid for one in sent} - {one.message_uid for mine in seen for one in mine}

    async with bus.handling(Topic.AUTOREPLY, keeping(seen[0])):
        async with other.running(), other.handling(Topic.AUTOREPLY, keeping(seen[1])):
            while not (seen[0] and seen[1]):
                await send()
                await until(lambda: not missing())
        await send()
        await until(lambda: not missing())


async def test_what_is_no_event_or_not_due_is_buried_with_the_reason(kafka: Kafka, bus: KafkaBus) -> None:
    """Garbage, an event of another topic, an event with a field that nobody knows, and nothing at all."""
    misrouted = event(Topic.ROUTER, 1, 2).json_bytes()
    strange = event(Topic.AUTOREPLY, 1, 2).json_bytes()[:-1] + b',"priority":1}'
    garbage = b"\xff\x00{" + uuid.uuid4().bytes
    good = event(Topic.AUTOREPLY, 1, 2, "still handled")
    handled, before = Handled([good]), outcomes(Topic.AUTOREPLY, "dead")
    async with graves(kafka) as grave, bus.handling(Topic.AUTOREPLY, handled):
        await send_raw(kafka, Topic.AUTOREPLY, garbage, misrouted, strange)
        await bus.publish([good])
        await until(lambda: handled.all() and all(map(grave, (garbage, misrouted, strange))))
        reasons = {}
        for letter in (garbage, misrouted, strange):
            headers = dict(grave(letter).headers)
            assert headers["topic"] == b"autoreply"
            assert int(headers["partition"]) in range(limits.TOPIC_PARTITIONS)
            assert int(headers["offset"]) >= 0
            reasons[letter] = headers["reason"].decode()
    assert "Invalid JSON" in reasons[garbage]
    assert reasons[misrouted] == "the event is due at router, not at autoreply"
    assert reasons[strange] == "priority: Extra inputs are not permitted"
    assert outcomes(Topic.AUTOREPLY, "dead") == before + 3


async def test_of_a_batch_that_is_refused_only_what_is_refused_alone_is_buried(kafka: Kafka, bus: KafkaBus) -> None:
    events = [event(Topic.ROUTER, 1, 2, str(number)) for number in range(10)]
    bad = events[4]
    handled = Handled(events)

    async def refuse(given: Sequence[Event]) -> Sequence[Event]:
        if bad in given:
            raise Refused(422, "unwanted", "Nobody wants this")
        return await handled(given)

    async with graves(kafka) as grave, bus.handling(Topic.ROUTER, refuse):
        await bus.publish(events)
        await until(lambda: grave(bad.json_bytes()) is not None and len(handled.events) == 9)
        assert dict(grave(bad.json_bytes()).headers)["reason"] == b"unwanted: Nobody wants this"
    assert handled.events == [one for one in events if one is not bad]


async def test_what_fails_unforeseen_is_tried_again_and_buried_in_the_end(kafka: Kafka, bus: KafkaBus) -> None:
    events = [event(Topic.ROUTER, 1, 2, str(number)) for number in range(2)]
    attempts = 0
    handled = Handled(events)

    async def fail(given: Sequence[Event]) -> Sequence[Event]:
        nonlocal attempts
        if events[0] in given:
            attempts += 1
            raise ZeroDivisionError("a bug")
        return await handled(given)

    async with graves(kafka) as grave, bus.handling(Topic.ROUTER, fail):
        await bus.publish(events)
        await until(lambda: grave(events[0].json_bytes()) is not None and bool(handled.events))
        assert dict(grave(events[0].json_bytes()).headers)["reason"] == b"failed: ZeroDivisionError: a bug"
    assert attempts >= limits.SURPRISES_MAX
    assert handled.events == [events[1]]


@pytest.mark.parametrize("passing", [Unavailable("the database"), Unknown()])
async def test_what_cannot_be_handled_for_now_is_kept_and_tried_again(bus: KafkaBus, passing: Refused) -> None:
    """In its order, with pauses that grow: five attempts take more than half a second."""
    events = [event(Topic.SCRIPTS_OUTGOING, 1, 2, str(number)) for number in range(5)]
    handled, attempts, before = Handled(events), [], outcomes(Topic.SCRIPTS_OUTGOING, "retried")

    async def fail(given: Sequence[Event]) -> Sequence[Event]:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 5:
            raise passing
        return await handled(given)

    async with bus.handling(Topic.SCRIPTS_OUTGOING, fail):
        await bus.publish(events)
        await until(handled.all)
    assert handled.events == events
    assert attempts[4] - attempts[0] >= sum(limits.RETRY_SECONDS_MIN * 2**number for number in range(4))
    assert outcomes(Topic.SCRIPTS_OUTGOING, "retried") >= before + 4


async def test_pushes_reach_the_instance_that_is_there(bus: KafkaBus) -> None:
    """In their order; not those from before it was there, and not another's."""
    pushed: list[Push] = []

    async def receive(pushes: Sequence[Push]) -> None:
        pushed.extend(pushes)

    def mark(seq: int) -> ReadMark:
        return ReadMark(user_id=1, conversation_id=uuid.UUID(int=1), seq=seq)

    async with bus.receiving("web-1", receive), bus.receiving("web-2", receive):
        pass
    await bus.push("web-1", [mark(0)])
    async with bus.receiving("web-1", receive):
        await bus.push("web-2", [mark(1)])
        await bus.push("web-1", [mark(seq) for seq in range(2, 50)])
        await until(lambda: mark(49) in pushed)
    assert pushed == [mark(seq) for seq in range(2, 50)]


async def test_while_kafka_is_away_nothing_acknowledged_is_lost(kafka: Kafka, bus: KafkaBus) -> None:
    """Killed and started again under load: what was acknowledged is handled, in order; the rest may be sent again."""
    acknowledged: list[Event] = []
    handled: list[Event] = []
    pushed: list[Push] = []

    async def keep(events: Sequence[Event]) -> Sequence[Event]:
        handled.extend(events)
        return ()

    async def receive(pushes: Sequence[Push]) -> None:
        pushed.extend(pushes)

    async def talk(sender: int) -> None:
        for number in range(150):
            one = event(Topic.SCRIPTS_OUTGOING, sender, 60, str(number))
            while one not in acknowledged:
                try:
                    await bus.publish([one])
                except Unknown:
                    continue
                acknowledged.append(one)
            await asyncio.sleep(0.02)

    async with bus.handling(Topic.SCRIPTS_OUTGOING, keep), bus.receiving("web-1", receive):
        talks = [asyncio.create_task(talk(sender)) for sender in range(1, 5)]
        await until(lambda: len(acknowledged) > 100)
        await kafka.kill()
        await asyncio.sleep(1)
        assert len(acknowledged) < 600
        await kafka.start()
        await asyncio.gather(*talks)
        await until(lambda: not {one.message_uid for one in acknowledged} - {one.message_uid for one in handled})
        mark = ReadMark(user_id=1, conversation_id=uuid.UUID(int=1), seq=1)
        await bus.push("web-1", [mark])
        await until(lambda: mark in pushed)
    for sender in range(1, 5):
        first_time = list(dict.fromkeys(int(one.message_body) for one in handled if one.sender_id == sender))
        assert first_time == list(range(150))


async def test_a_publisher_is_told_when_kafka_is_away(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not told that it was done; and once Kafka is back, the same publisher works."""
    bus = KafkaBus(kafka.url)
    async with bus.running():
        monkeypatch.setattr(limits, "PUBLISH_SECONDS_MAX", 0.5)
        await kafka.kill()
        try:
            with pytest.raises(Unknown):
                await bus.publish([event(Topic.AUTOREPLY, 1, 2)])
            with pytest.raises(Unavailable, match="Kafka"):
                await bus.push("web-1", [ReadMark(user_id=1, conversation_id=uuid.UUID(int=1), seq=1)])
        finally:
            await kafka.start()
        monkeypatch.undo()
        await bus.publish([event(Topic.AUTOREPLY, 1, 2)])


async def test_a_process_does_not_start_without_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "START_SECONDS_MAX", 0.5)
    with pytest.raises(Unavailable, match="Kafka"):
        async with KafkaBus("kafka://127.0.0.1:1").running():
            pass
