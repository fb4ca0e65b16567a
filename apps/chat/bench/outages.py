"""What stands still while a part of the chat is down, and for how long: `python -m bench.outages`.

One part after the other is stopped and started again: each server and each service of the classic deployment; of the
replicated one an app, a sidecar and whole copies are killed, which are started again at once. Meanwhile users do what
users do (`bench.probes`); each outage has users of its own. Something stood still as long as somebody had to wait who
came at the worst moment and kept trying, if that is longer than in the seconds before. Writes its figures to
bench/results, and prints them as tables in Markdown.

Refused: a run in which an accepted message did not reach everybody exactly once, or in which something still fails a
minute after a part was back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from bench.probes import ATTEMPT_SECONDS_MAX, Attempt, Probe, Spoilt, Users
from bench.report import standstills
from deploy.classic import Classic
from deploy.process import START_SECONDS, Server, ServerFailed, workspace
from deploy.replicated import POLL_SECONDS, Replicated

RESULTS = Path(__file__).parent / "results"
CLASSIC = {
    "postgresql": "PostgreSQL",
    "kafka": "Kafka",
    "rabbitmq": "RabbitMQ",
    "redis": "Redis",
    "objects": "the object store",
    "gateway": "nginx",
    "users-1": "users",
    "auth-1": "auth",
    "router-1": "router",
    "autoreply-1": "autoreply",
    "scripts-1": "scripts",
    "web-1": "web, one of two",
    "notifications-1": "notifications, one of two",
}
REPLICATED = {
    "app": "the app of a copy",
    "sidecar": "the sidecar of a copy",
    "copy": "a copy, both",
    "leader": "the leader's copy, both",
}
"""What can be stopped, and how tables call it."""
WARM_UP_SECONDS = 3.0
CALM_SECONDS = 5.0
AFTER_SECONDS = 12.0
"""Sockets find within ten seconds what they missed."""
WELL_SECONDS_MAX = 60.0
BEYOND_SECONDS = 0.5
"""Longer than usual by so much is standing still; less may be this machine's doing."""

Hurt = Callable[[], Awaitable[None]]
"""Stops a part, and returns when it is back."""


class Outage(NamedTuple):
    """When a part was told to stop, and when it was back."""

    begun: float
    back: float


class Wait(NamedTuple):
    """From the beginning of an attempt until it, or one that was begun later, had worked."""

    begun: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long that was; infinite if nothing worked any more."""
        return self.ended - self.begun


def waits(attempts: Sequence[Attempt]) -> list[Wait]:
    """Return how long each had to wait who made one of these attempts and kept trying."""
    found, soonest = [], float("inf")
    for attempt in sorted(attempts, reverse=True):
        if attempt.worked:
            soonest = min(soonest, attempt.ended)
        found.append(Wait(attempt.begun, soonest))
    return found


def figures(probes: Sequence[Probe], outage: Outage) -> dict[str, Any]:
    """Return how long these stood still: the worst of them. All is in seconds.

    `longest` and `usual_again`, which is after the part was told to stop, are None if all was as usual; `slowest` is
    the time of one attempt, even if others went on meanwhile.
    """
    found = [wait for probe in probes for wait in waits(probe.attempts)]
    usual = max(wait.seconds for wait in found if wait.ended < outage.begun)
    unusual = [one for one in found if one.ended >= outage.begun and one.seconds > usual + BEYOND_SECONDS]
    since = [attempt for probe in probes for attempt in probe.attempts if attempt.ended >= outage.begun]
    return {
        "usual": round(usual, 3),
        "longest": round(max(one.seconds for one in unusual), 3) if unusual else None,
        "usual_again": round(max(one.ended for one in unusual) - outage.begun, 3) if unusual else None,
        "slowest": round(max(attempt.ended - attempt.begun for attempt in since), 3),
        "attempts": len(since),
        "failed": sum(not attempt.worked for attempt in since),
    }


async def record(urls: Sequence[str], prefix: str, hurt: Hurt) -> dict[str, Any]:
    """Return what one outage does; raises Spoilt."""
    print(f"{prefix} ...", file=sys.stderr, flush=True)
    unbounded = httpx2.Limits(max_connections=None)
    async with AsyncExitStack() as stack:
        http = httpx2.AsyncClient(timeout=ATTEMPT_SECONDS_MAX, limits=unbounded, trust_env=False)
        users = Users(await stack.enter_async_context(http), urls, prefix)
        await users.prepare()
        for client in users.clients:
            await stack.enter_async_context(client.online())
        outage = await watched(users, hurt)
        await users.judge()
    names = dict.fromkeys(probe.name for probe in users.probes)
    return {
        "down": round(outage.back - outage.begun, 3),
        "sockets_lost": sum(client.reconnects for client in users.clients),
        "probes": {name: figures([one for one in users.probes if one.name == name], outage) for name in names},
    }


async def watched(users: Users, hurt: Hurt) -> Outage:
    """Have an outage, and users do what they do before, meanwhile and after it; raises Spoilt."""
    over = asyncio.Event()
    probing = asyncio.create_task(users.probing(over))
    try:
        await asyncio.sleep(WARM_UP_SECONDS)
        for probe in users.probes:
            probe.attempts.clear()
        await asyncio.sleep(CALM_SECONDS)
        begun = time.perf_counter()
        await hurt()
        back = time.perf_counter()
        await well(users.probes)
    finally:
        over.set()
        await probing
    return Outage(begun, back)


async def well(probes: Sequence[Probe]) -> None:
    """Return some time later, when all is well; raises Spoilt if it won't be."""
    await asyncio.sleep(AFTER_SECONDS)
    end = time.perf_counter() + WELL_SECONDS_MAX
    while ill := sorted({probe.name for probe in probes if not probe.is_well}):
        if time.perf_counter() > end:
            raise Spoilt(f"these still fail, long after the part was back: {', '.join(ill)}")
        await asyncio.sleep(0.1)


async def stopped(server: Server, seconds: float) -> None:
    """Stop a part, and start it after so many seconds."""
    await server.stop()
    await asyncio.sleep(seconds)
    await server.start()


async def killed(chat: Replicated, name: str, what: Sequence[str]) -> None:
    """Kill processes of a copy; return when others have taken their place and it serves; raises TimeoutError."""
    before = now = await row_of(chat, name)
    await chat.kill(name, *what)
    async with asyncio.timeout(START_SECONDS):
        while now["state"] != "ready" or all(now[pid] == before[pid] for pid in ("app_pid", "sidecar_pid")):
            await asyncio.sleep(POLL_SECONDS)
            now = await row_of(chat, name)


async def row_of(chat: Replicated, name: str) -> dict[str, Any]:
    """Return what is known of a copy."""
    rows = await asyncio.to_thread(chat.replicas)
    return next(row for row in rows if row["name"] == name)


async def classic(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what each outage does, by the name of what is stopped."""
    found = {}
    async with Classic(directory) as chat:
        parts = {part.directory.name: part for part in chat.parts}
        for name in (name for name in CLASSIC if name in options.parts):
            hurt = partial(stopped, parts[name], options.down)
            found[CLASSIC[name]] = await record([chat.gateway.url], name, hurt)
    return found


async def replicated(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what each outage does, by the name of what is killed."""
    found = {}
    async with Replicated(directory) as chat:
        for name in (name for name in REPLICATED if name in options.parts):
            copies = [row["name"] for row in chat.replicas() if (row["role"] == "leader") == (name == "leader")]
            what = [f"--{name}"] if name in ("app", "sidecar") else []
            found[REPLICATED[name]] = await record(chat.urls, name, partial(killed, chat, copies[0], what))
    return found


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Record the deployments that were asked for."""
    found: dict[str, Any] = {}
    with workspace() as directory:
        if "replicated" in options.deployments and REPLICATED.keys() & options.parts:
            found["replicated"] = await replicated(directory, options)
        if "classic" in options.deployments and CLASSIC.keys() & options.parts:
            found["classic"] = await classic(directory, options)
    return found


def main() -> int:
    """Be the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.outages", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("deployments", nargs="*", default=["replicated", "classic"])
    parts = [*REPLICATED, *CLASSIC]
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts, metavar="PART", help=", ".join(parts))
    parser.add_argument("--down", type=float, default=5.0, help="seconds until a part of the classic is started again")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        found = asyncio.run(run(options))
    except (Spoilt, ServerFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = {"machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}"}
    about |= {"outages": f"parts of the classic deployment stayed down for {options.down:g} s"}
    options.out.mkdir(exist_ok=True)
    (options.out / "outages.json").write_text(json.dumps({"about": about, "deployments": found}, indent=1) + "\n")
    print(standstills(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
