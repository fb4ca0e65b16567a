"""Each server and each service of the classic deployment is stopped and started once: nothing accepted is lost.

Unlike in the replicated deployment, much stands still meanwhile; docs/deployments.md tells what.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from deploy.classic import Classic
from deploy.process import Server, workspace
from tests.e2e.people import arrived, chat_until, judge, signed_in

CLIENTS = 20
STOPPED_SECONDS = 2.0
CALM_SECONDS = 1.0


@pytest.mark.timeout(400)
async def test_nothing_accepted_is_lost_when_parts_are_stopped_and_started() -> None:
    draw = random.Random(1)
    with workspace() as directory:
        async with Classic(directory) as chat, AsyncExitStack() as stack:
            clients = await signed_in([chat.gateway.url], CLIENTS, draw)
            await asyncio.gather(*(stack.enter_async_context(client.online()) for client in clients))
            stopping = asyncio.create_task(stop_and_start([*chat.servers, *chat.services]))
            accepted = {}
            while not stopping.done():
                end = asyncio.get_running_loop().time() + CALM_SECONDS
                accepted |= await chat_until(end, clients, draw)
            await stopping
            await arrived(clients, accepted)
    judge(clients, accepted)


async def stop_and_start(parts: Sequence[Server]) -> None:
    """Stop one after the other, and start it again after a while."""
    for part in parts:
        await part.stop()
        await asyncio.sleep(STOPPED_SECONDS)
        await part.start()
        await asyncio.sleep(CALM_SECONDS)
