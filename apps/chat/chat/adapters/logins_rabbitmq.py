"""The events of logins by RabbitMQ: a fanout exchange, and a queue for each instance that handles them.

- Exchange, queues and events are durable, and an event counts as published when the broker has confirmed it. The queue
  of an instance stays while the instance is down, for a day.
- An event that no queue would get, because no instance has ever been up, goes to the queue `….unclaimed`, which all
  instances share: whoever comes first handles it.
- An event is acknowledged when it has been handled. One that can't be handled for now goes back to its queue, after a
  pause; one that is refused, or is none, goes to the queue `….dead`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import structlog
from aio_pika.abc import (
    AbstractChannel,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustConnection,
    DeliveryMode,
    ExchangeType,
)
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from pamqp.common import FieldTable
from pydantic import ValidationError

from chat import limits
from chat.adapters.logins import LoginHandler, UserLogin
from chat.adapters.patience import reach
from chat.problems import Refused, Unavailable, Unknown

EXCHANGE = "user_login_event"
UNCLAIMED = f"{EXCHANGE}.unclaimed"
DEAD = f"{EXCHANGE}.dead"
FULL: FieldTable = {"x-max-length": limits.LOGINS_WAITING_MAX, "x-overflow": "reject-publish"}
"""A full queue refuses, and so is noticed, instead of losing what was confirmed."""
BURIED: FieldTable = {"x-dead-letter-exchange": DEAD}
LOST = (AMQPError, ChannelInvalidStateError, ConnectionError)
"""What it looks like when the connection is gone, or not yet back."""
log = structlog.get_logger()


class RabbitLogins:
    """Publishes and handles by RabbitMQ at `amqp://…`; see `Logins`. `instance` names the queue of this process."""

    def __init__(self, url: str, instance: str) -> None:
        self._url = url
        self._instance = instance
        self._connection: AbstractRobustConnection
        self._exchange: AbstractExchange

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a connection, and the exchange; raises Unavailable if RabbitMQ isn't there."""
        self._connection = await reach("RabbitMQ", self._connect)
        async with self._connection:
            self._exchange, _ = await _declare(await self._connection.channel())
            yield

    async def publish(self, login: UserLogin) -> None:
        """Return once RabbitMQ has it on disk; raises Unavailable, or Unknown: then publish the same again."""
        message = aio_pika.Message(
            login.json_bytes(),
            content_type="application/json",
            message_id=str(login.id),
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        try:
            async with asyncio.timeout(limits.PUBLISH_SECONDS_MAX):
                await self._exchange.publish(message, routing_key="")
        except DeliveryError as error:
            raise Unavailable("the notification service") from error
        except (*LOST, TimeoutError) as error:
            raise Unknown from error

    @asynccontextmanager
    async def handling(self, handler: LoginHandler) -> AsyncIterator[None]:
        """See `Logins`. From the first time on, no event is missed, even while nobody handles them."""
        under_way: set[asyncio.Task[None]] = set()

        async def take(message: AbstractIncomingMessage) -> None:
            task = asyncio.create_task(_take(handler, message))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.wait((task,))

        async with await self._connection.channel() as channel:
            await channel.set_qos(prefetch_count=limits.LOGINS_AT_ONCE)
            for queue in await self._queues(channel):
                await queue.consume(take)
            yield
        for task in under_way:
            task.cancel()  # the broker gives what they held to the next

    async def _connect(self) -> AbstractRobustConnection:
        try:
            return await aio_pika.connect_robust(self._url, reconnect_interval=limits.RETRY_SECONDS_MAX)
        except LOST as error:
            raise Unavailable("RabbitMQ") from error

    async def _queues(self, channel: AbstractChannel) -> tuple[AbstractQueue, AbstractQueue]:
        exchange, unclaimed = await _declare(channel)
        kept: FieldTable = {"x-expires": 1000 * limits.LOGINS_KEPT_SECONDS}
        own = await channel.declare_queue(
            f"{EXCHANGE}.{self._instance}", durable=True, arguments={**FULL, **BURIED, **kept}
        )
        await own.bind(exchange)
        return own, unclaimed


async def _declare(channel: AbstractChannel) -> tuple[AbstractExchange, AbstractQueue]:
    """Make what must be there before an event is published; return the exchange, and the queue of the unclaimed."""
    unclaimed = await _fanout(channel, UNCLAIMED)
    dead = await _fanout(channel, DEAD)
    unclaimed_queue = await channel.declare_queue(UNCLAIMED, durable=True, arguments={**FULL, **BURIED})
    await unclaimed_queue.bind(unclaimed)
    dead_queue = await channel.declare_queue(DEAD, durable=True, arguments={"x-max-length": limits.LOGINS_WAITING_MAX})
    await dead_queue.bind(dead)
    return await _fanout(channel, EXCHANGE, {"alternate-exchange": UNCLAIMED}), unclaimed_queue


async def _fanout(channel: AbstractChannel, name: str, arguments: FieldTable | None = None) -> AbstractExchange:
    return await channel.declare_exchange(name, ExchangeType.FANOUT, durable=True, arguments=arguments)


async def _take(handler: LoginHandler, message: AbstractIncomingMessage) -> None:
    try:
        await _handle(handler, message)
    except LOST as error:
        log.info("a login will come again", why=repr(error))


async def _handle(handler: LoginHandler, message: AbstractIncomingMessage) -> None:
    """Handle an event, and tell the broker; raises one of LOST if it can't be told."""
    try:
        await handler(UserLogin.model_validate_json(message.body))
    except (Unavailable, Unknown) as passing:
        log.info("a login can't be handled for now", why=passing.title)
        await _give_back(message)
    except (Refused, ValidationError) as final:
        log.error("dead letter", queue=EXCHANGE, reason=type(final).__name__)
        await message.reject(requeue=False)
    except Exception:
        log.exception("a login failed unforeseen")
        if message.redelivered:
            await message.reject(requeue=False)
        else:
            await _give_back(message)
    else:
        await message.ack()


async def _give_back(message: AbstractIncomingMessage) -> None:
    await asyncio.sleep(limits.RETRY_SECONDS_MAX)
    await message.nack(requeue=True)
