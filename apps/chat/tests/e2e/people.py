"""People who chat for the chaos tests, and the verdict on what reached them."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from deploy.client import Client

THINK_SECONDS = (0.5, 3.0)
ARRIVAL_SECONDS = 30.0
"""Until what was accepted has reached everybody."""

Accepted = dict[str, tuple[int, ...]]
"""By messageUid: sender and recipients."""


async def signed_in(urls: Sequence[str], number: int, draw: random.Random) -> list[Client]:
    """Return so many users, each of whom tries the addresses in an order of their own."""
    clients = [Client(draw.sample(urls, len(urls)), f"user{one}", f"the password of {one}") for one in range(number)]
    for client in clients:
        await client.register()
        await client.log_in()
    return clients


async def chat_until(end: float, clients: Sequence[Client], draw: random.Random) -> Accepted:
    """Have all of them chat until that time of the event loop; returns what was accepted."""
    accepted: Accepted = {}
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(_talk(client, clients, accepted, random.Random(draw.random()), end))
    return accepted


async def _talk(client: Client, clients: Sequence[Client], accepted: Accepted, draw: random.Random, end: float) -> None:
    others = [other.id for other in clients if other is not client]
    while asyncio.get_running_loop().time() < end:
        recipients = tuple(draw.sample(others, draw.choice((1, 1, 2, 5))))
        uid = await client.send(f"{client.username} says {draw.random()}", *recipients)
        accepted[uid] = (client.id, *recipients)
        await asyncio.sleep(draw.uniform(*THINK_SECONDS))


async def arrived(clients: Sequence[Client], accepted: Accepted) -> None:
    """Return once nothing is missing, or after ARRIVAL_SECONDS: what is missing then is for `judge` to tell."""
    wanted = sum(map(len, accepted.values()))
    end = asyncio.get_running_loop().time() + ARRIVAL_SECONDS
    while sum(len(client.received) for client in clients) < wanted and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.1)


def judge(clients: Sequence[Client], accepted: Accepted) -> None:
    """Check that what was accepted has reached everybody exactly once, and any two of them in the same order."""
    assert not [trouble for client in clients for trouble in client.out_of_turn]
    expected = defaultdict(set)
    for uid, users in accepted.items():
        for user in users:
            expected[user].add(uid)
    orders = {client.id: [message["messageUid"] for message in client.received] for client in clients}
    for user, order in orders.items():
        assert len(order) == len(set(order)), f"user {user} got a message twice"
        assert set(order) == expected[user], f"user {user} misses {len(expected[user] - set(order))} accepted messages"
    for one, other in combinations(orders.values(), 2):
        common = set(one) & set(other)
        assert [uid for uid in one if uid in common] == [uid for uid in other if uid in common]
