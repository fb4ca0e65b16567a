"""From send to receive, through the whole chain, with a thousand sockets open: `python -m bench.load`.

The deployments are measured one after the other, on the same machine as the load. Every user holds one socket; messages
go out at a steady rate, each from one user to another, drawn at random. A message's time runs from when it was due to
be sent, late or not, to when its recipient's socket has it: so a stall counts for all that it holds up. Writes its
figures to bench/results, and a plot.

Refused: a run in which a message was not accepted, or did not arrive.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
import psutil

from bench.report import draw, show
from chat.tokens import SERVICE_KEY, Tokens
from deploy.classic import Classic
from deploy.client import Client
from deploy.process import workspace
from deploy.replicated import Replicated

RESULTS = Path(__file__).parent / "results"
REGISTERING_AT_ONCE = 8
CONNECTING_AT_ONCE = 20
WARM_UP_SECONDS = 15.0
"""By then each copy has met most users."""
ARRIVAL_SECONDS = 20.0
BARS_MS = {"classic": 250.0, "replicated": 100.0}
"""At the 99th percentile."""

Deployment = Classic | Replicated


async def measure(chat: Deployment, urls: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one deployment: times in milliseconds, CPU in cores, memory in MiB.

    Of memory that processes share, each counts its share (proportional set size).
    """
    clients = await registered(chat, urls, options.sockets)
    took: list[float] = []
    async with AsyncExitStack() as stack:
        await connected(stack, clients)
        gc.collect()
        gc.freeze()  # or the load itself stands still for a sixth of a second, now and then
        for client in clients:
            client.on_message = lambda message, client=client: note(took, client.id, message)
        await send(clients, options.rate, WARM_UP_SECONDS)
        took.clear()
        parts, before = processes(), busy()
        sent = await send(clients, options.rate, options.seconds)
        cores = (busy() - before) / options.seconds
        await arrived(took, sent)
        memory = sum(part.memory_full_info().pss for part in parts) / 2**20
    sizes = {"sent": sent, "sockets": len(clients), "processes": len(parts)}
    return figures(took) | sizes | {"cores": cores, "memory_mib": memory}


async def registered(chat: Deployment, urls: Sequence[str], number: int) -> list[Client]:
    """Return so many users, with a token each: a thousand logins would be a measurement of Argon2id."""
    tokens = Tokens(chat.secrets["CHAT_TOKEN_SECRET"], chat.secrets["CHAT_SERVICE_KEY"])
    clients = [Client([urls[one % len(urls)], *urls], f"user{one}", "a password") for one in range(number)]
    turns = asyncio.Semaphore(REGISTERING_AT_ONCE)
    headers = {SERVICE_KEY: chat.secrets["CHAT_SERVICE_KEY"]}
    async with httpx2.AsyncClient(base_url=urls[0], headers=headers, timeout=60) as http:

        async def register(client: Client) -> None:
            async with turns:
                body = {"username": client.username, "password": "a password"}
                answer = await http.post("/users-ms/users", json=body)
                client.id = answer.raise_for_status().json()["id"]
            client.token, _ = tokens.issue(client.id, client.username)

        await asyncio.gather(*map(register, clients))
    return clients


async def connected(stack: AsyncExitStack, clients: Sequence[Client]) -> None:
    """Open all sockets, so many at once, and keep them until the stack unwinds."""
    for first in range(0, len(clients), CONNECTING_AT_ONCE):
        some = clients[first : first + CONNECTING_AT_ONCE]
        await asyncio.gather(*(stack.enter_async_context(client.online()) for client in some))


async def send(clients: Sequence[Client], rate: float, seconds: float) -> int:
    """Send at a steady rate; returns how many messages, once all are accepted."""
    begin, number = time.perf_counter(), int(rate * seconds)
    async with asyncio.TaskGroup() as group:
        for one in range(number):
            due = begin + one / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sender, recipient = random.sample(clients, 2)
            group.create_task(sender.send(f"{due} {recipient.id}", recipient.id))
    return number


def note(took: list[float], user: int, message: dict[str, Any]) -> None:
    """Take the time of a message that has reached its recipient; its sender gets it too."""
    due, recipient = message["body"].split()
    if int(recipient) == user:
        took.append(1000 * (time.perf_counter() - float(due)))


async def arrived(took: list[float], sent: int) -> None:
    """Return once all messages have arrived; raises TimeoutError."""
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while len(took) < sent:
            await asyncio.sleep(0.1)


def processes() -> list[psutil.Process]:
    """Return all processes of the deployment."""
    return psutil.Process().children(recursive=True)


def busy() -> float:
    """Return how many seconds of processor time the deployment's processes have taken."""
    total = 0.0
    for process in processes():
        times = process.cpu_times()
        total += times.user + times.system
    return total


def figures(took: Sequence[float]) -> dict[str, Any]:
    """Return percentiles, and what is needed to draw all of them."""
    cuts = quantiles(took, n=1000)
    return {"p50": cuts[499], "p90": cuts[899], "p99": cuts[989], "p99.9": cuts[998], "max": max(took), "cuts": cuts}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the deployments that were asked for."""
    found: dict[str, Any] = {}
    with workspace() as directory:
        if "replicated" in options.deployments:
            async with Replicated(directory) as replicated:
                found["replicated"] = await measure(replicated, replicated.urls, options)
        if "classic" in options.deployments:
            async with Classic(directory) as classic:
                found["classic"] = await measure(classic, [classic.gateway.url], options)
    return found


def main() -> None:
    """Be the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("deployments", nargs="*", default=["replicated", "classic"])
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200.0, help="messages per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = asyncio.run(run(options))
    about = {"machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}"}
    about |= {"load": f"{options.sockets} sockets, {options.rate:g} messages/s, {options.seconds:g} s"}
    options.out.mkdir(exist_ok=True)
    (options.out / "load.json").write_text(json.dumps({"about": about, "deployments": found}, indent=1) + "\n")
    draw(found, BARS_MS, options.out / "load.svg")
    print(show(found, BARS_MS))


if __name__ == "__main__":
    main()
