"""Fifty people chat while apps and sidecars die: what was accepted reaches everybody once, in one order."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploy.replicated import Replicated
from tests.e2e.people import arrived, chat_until, judge, signed_in

SEED = 1
"""Of what is said and killed when; what else the machine does is never the same."""
CLIENTS = 50
SECONDS = 60.0
CALM_SECONDS = (1.5, 4.0)
"""Between one kill and the next."""
KILLS_MIN = 10
WHAT = (("--app",), ("--sidecar",), ())


@pytest.mark.timeout(240)
async def test_what_was_accepted_reaches_everybody_once_and_in_one_order(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    async with Replicated(tmp_path) as chat, AsyncExitStack() as stack:
        clients = await signed_in(chat.urls, CLIENTS, draw)
        await asyncio.gather(*(stack.enter_async_context(client.online()) for client in clients))
        end = asyncio.get_running_loop().time() + SECONDS
        accepted, kills = await asyncio.gather(chat_until(end, clients, draw), kill_until(end, chat, draw))
        await arrived(clients, accepted)
        one, *others = await chat.dumps()
    assert kills >= KILLS_MIN
    assert sum(client.reconnects for client in clients), "nobody lost a socket: the kills hit nothing"
    judge(clients, accepted)
    assert others == [one, one], "the copies' databases differ"


async def kill_until(end: float, chat: Replicated, draw: random.Random) -> int:
    """Kill a copy's app, its sidecar or both, again and again; returns how often."""
    kills = 0
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(draw.uniform(*CALM_SECONDS))
        await chat.kill(f"r{draw.randint(1, 3)}", *draw.choice(WHAT))
        kills += 1
    return kills
