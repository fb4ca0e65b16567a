"""The bus of a deployment with Kafka: each event waits at its topic until the service there has handled it.

- What was published is acknowledged by all replicas in sync. A conversation's events keep their order: it is their key.
- A batch is handled, what comes of it is published, and only then its offsets are committed. A crash in between has the
  batch handled again, so handlers know events by their `messageUid`.
- A batch that can't be handled for now holds up its partitions until it can. One that is refused is handled event by
  event, and what is refused alone goes to the dead letters; so does what is no event, or not due at the topic.
- Pushes go to a topic of the instance's own, which keeps them for minutes. Nobody notes how far it was read: an
  instance that starts has no sockets yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, TopicAlreadyExistsError, for_code
from pydantic import TypeAdapter, ValidationError

from chat import limits, observe
from chat.adapters.bus import PushHandler
from chat.adapters.patience import patiently, reach
from chat.events import Event, Handler, Topic
from chat.problems import Refused, Unavailable, Unknown
from chat.pushes import Push

DEAD_LETTERS = "dead-letters"
"""Holds the bytes of records that nobody could handle; headers say why, and where they came from."""
BROKERS_DEFAULT = -1
"""How many replicas a topic has is for the brokers to say."""
POLL_MS = 1000
"""How long a fetch waits for records, if there are none."""
PUSH: TypeAdapter[Push] = TypeAdapter(Push)
log = structlog.get_logger()


class Letter(NamedTuple):
    """A record to be sent."""

    topic: str
    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Due(NamedTuple):
    """An event, and the record that it came in."""

    record: ConsumerRecord
    event: Event


class KafkaBus:
    """Publishes and handles by Kafka at `kafka://host:port`; see `Bus`."""

    def __init__(self, url: str) -> None:
        self._servers = urlsplit(url).netloc.split(",")
        self._producer: AIOKafkaProducer
        self._renewing = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make the topics that aren't there, and be able to publish; raises Unavailable if Kafka isn't there."""
        topics = [_topic(topic, limits.TOPIC_PARTITIONS) for topic in Topic]
        await self._make(*topics, _topic(DEAD_LETTERS, 1, limits.DEAD_LETTERS_KEPT_SECONDS))
        self._producer = await reach("Kafka", self._new_producer)
        try:
            yield
        finally:
            await _end(self._producer)

    async def publish(self, events: Sequence[Event]) -> None:
        """Send events on, in their order; raises Unknown if they may have been sent or not: send them again."""
        await self._send(
            [
                Letter(event.event_destinations[0], event.json_bytes(), str(event.conversation_id).encode())
                for event in events
            ]
        )

    async def push(self, instance: str, pushes: Sequence[Push]) -> None:
        """Send to the instance's own topic; raises Unavailable."""
        try:
            await self._send([Letter(_own_topic(instance), PUSH.dump_json(push, by_alias=True)) for push in pushes])
        except Unknown as error:  # a push may come twice
            raise Unavailable("Kafka") from error

    @asynccontextmanager
    async def handling(self, topic: Topic, handler: Handler) -> AsyncIterator[None]:
        """See `Bus`. All who handle the same topic share its partitions."""
        consumer = partial(self._consumer, topic, group_id=f"chat.{topic}", auto_offset_reset="earliest")
        async with _beside(_consume(consumer, partial(self._handle_some, topic, handler))):
            yield

    @asynccontextmanager
    async def receiving(self, instance: str, handler: PushHandler) -> AsyncIterator[None]:
        """See `Bus`. What is pushed once the context is entered arrives; raises Unavailable."""
        topic = _own_topic(instance)
        await self._make(_topic(topic, 1, limits.PUSHES_KEPT_SECONDS))
        at_the_end = asyncio.Event()

        async def start(consumer: AIOKafkaConsumer) -> None:
            await consumer.seek_to_end()
            at_the_end.set()

        consumer = partial(self._consumer, topic, auto_offset_reset="latest")
        async with _beside(_consume(consumer, partial(_receive_some, handler), start)):
            await reach("Kafka", at_the_end.wait)
            yield

    async def _make(self, *topics: NewTopic) -> None:
        async def attempt() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
            try:
                await admin.start()
                response = await admin.create_topics(topics)
            except (KafkaError, OSError) as error:
                raise Unavailable("Kafka") from error
            finally:
                await admin.close()
            for name, code, *_ in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)(name)

        await reach("Kafka", attempt)

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(bootstrap_servers=self._servers, acks="all", enable_idempotence=True)
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise Unavailable("Kafka") from error
        return producer

    async def _send(self, letters: Sequence[Letter]) -> None:
        producer = self._producer
        try:
            async with asyncio.timeout(limits.PUBLISH_SECONDS_MAX):
                acknowledgements = [await producer.send(*letter[:3], headers=letter.headers) for letter in letters]
                await asyncio.gather(*acknowledgements)
        except TimeoutError as error:  # it keeps trying, in the same order, and Kafka knows what it has already
            raise Unknown from error
        except KafkaError as error:
            log.warning("publishing failed", why=repr(error))
            await self._renew(producer)
            raise Unknown from error

    async def _renew(self, failed: AIOKafkaProducer) -> None:
        """Replace a producer: once one of its records is given up, Kafka finds the numbers of the next ones amiss."""
        async with self._renewing:
            if self._producer is failed:
                self._producer = await self._new_producer()
                await _end(failed)

    def _consumer(self, topic: str, **settings: object) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=self._servers,
            enable_auto_commit=False,
            max_partition_fetch_bytes=limits.FETCH_BYTES_MAX,
            **settings,
        )

    async def _handle_some(self, topic: Topic, handler: Handler, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=limits.CHAIN_BATCH_MAX)
        if not fetched:
            return
        due = []
        for record in (record for records in fetched.values() for record in records):
            try:
                due.append(Due(record, _event(topic, record)))
            except ValueError as error:
                await self._bury(record, str(error))
        await self._settle(topic, handler, due)
        try:
            await consumer.commit({partition: records[-1].offset + 1 for partition, records in fetched.items()})
        except (CommitFailedError, IllegalStateError) as error:  # the partition is another's now, who handles it again
            log.info("not committed", topic=topic, why=repr(error))

    async def _settle(self, topic: Topic, handler: Handler, due: Sequence[Due]) -> None:
        """Handle events and publish what comes of them, however long it takes; bury what is refused."""

        def again() -> None:
            observe.EVENTS.labels(topic, "retried").inc(len(due))

        if not due:
            return
        try:
            onward = await patiently(lambda: handler([event for _, event in due]), again)
        except Refused as refused:
            if len(due) == 1:
                await self._bury(due[0].record, f"{refused.code}: {refused.title}")
                return
            for one in due:
                await self._settle(topic, handler, [one])
            return
        await patiently(lambda: self.publish(onward), again)
        observe.EVENTS.labels(topic, "handled").inc(len(due))

    async def _bury(self, record: ConsumerRecord, reason: str) -> None:
        origin = {"topic": record.topic, "partition": str(record.partition), "offset": str(record.offset)}
        log.error("dead letter", reason=reason[: limits.REASON_CHARACTERS_MAX], **origin)
        headers = {"reason": reason[: limits.REASON_CHARACTERS_MAX], **origin}
        encoded = [(name, value.encode(errors="replace")) for name, value in headers.items()]
        await patiently(lambda: self._send([Letter(DEAD_LETTERS, record.value or b"", record.key, encoded)]))
        observe.EVENTS.labels(record.topic, "dead").inc()


def _own_topic(instance: str) -> str:
    return f"web.{instance}"


def _topic(name: str, partitions: int, kept_seconds: int | None = None) -> NewTopic:
    kept = {} if kept_seconds is None else dict.fromkeys(("retention.ms", "segment.ms"), str(1000 * kept_seconds))
    return NewTopic(name, partitions, BROKERS_DEFAULT, {}, kept)


def _event(topic: Topic, record: ConsumerRecord) -> Event:
    """Return the event of a record; raises ValueError, which says why it is none, but not what is in it."""
    try:
        event = Event.model_validate_json(record.value or b"")
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
        raise ValueError("; ".join(wrong)) from None
    event.taken(topic)
    return event


async def _receive_some(handler: PushHandler, consumer: AIOKafkaConsumer) -> None:
    fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=limits.CHAIN_BATCH_MAX)
    for records in fetched.values():
        await handler([PUSH.validate_json(record.value) for record in records])


async def _no_start(consumer: AIOKafkaConsumer) -> None:
    return


Work = Callable[[AIOKafkaConsumer], Awaitable[None]]


async def _consume(new: Callable[[], AIOKafkaConsumer], work: Work, start: Work = _no_start) -> None:
    """Do `work` over and over with a consumer, and after an error with a new one."""
    while True:
        consumer = new()
        try:
            await consumer.start()
            await start(consumer)
            while True:
                await work(consumer)
        except Exception:
            log.exception("a consumer starts again")
        finally:
            await consumer.stop()
        await asyncio.sleep(limits.RETRY_SECONDS_MAX)


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _end(producer: AIOKafkaProducer) -> None:
    """Stop it. What it still holds was acknowledged to nobody, so we don't wait for it any longer than for requests."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limits.DRAIN_SECONDS):
            await producer.stop()
