"""How long writes stand still when the leader dies: kill -9 of its sidecar, again and again, under a light load.

What is timed is from the kill to the first answer to a write that was begun after it. One begun before may have been
ordered by the old leader and only need its answer, so it says nothing of the new one. Each writer keeps an
Idempotency-Key until its write is acknowledged, by whichever replica, so that the counter must end at the number of
acknowledged writes.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import math
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from bench.machine import calibration_ms
from bench.report import Found, at_most, say
from bench.sides import Quorate, cluster, run_options, wait_until

from quorate.ops.demo import counter_value
from quorate.ops.writers import is_acknowledged

WRITERS_PER_FRONT = 2
PAUSE_SECONDS = 0.01
"""Between two writes of one writer."""
RETRY_SECONDS = 0.02
ANSWER_SECONDS_MAX = 3.0
WRITE_SECONDS_MAX = 20.0
BETWEEN_SECONDS = (0.5, 1.5)
"""From the moment that all replicas are back to the next kill: drawn, so that kills keep no step with any timer."""
GOAL_SECONDS = 2.0


class Row(NamedTuple):
    """One kill."""

    killed: str
    next_leader: str
    seconds: float
    """Until the next successful write."""
    back_seconds: float
    """Until all replicas were ready again."""
    calibration_ms: float


class Write(NamedTuple):
    """When an acknowledged write was sent for the first time, and when its answer was there: time.monotonic()."""

    sent: float
    answered: float


class Writers:
    """Clients that write one after the other's answer, from entering the block to leaving it."""

    def __init__(self, fronts: Sequence[str]) -> None:
        self.fronts = [urlsplit(front).netloc for front in fronts]
        self.writes: list[Write] = []
        self.retries = 0
        self.abandoned = 0
        """Writes of unknown outcome."""
        self._stop = threading.Event()
        homes = [home for home in range(len(fronts)) for _ in range(WRITERS_PER_FRONT)]
        self._threads = [threading.Thread(target=self._write_on, args=(home,)) for home in homes]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write_on(self, home: int) -> None:
        connections = [http.client.HTTPConnection(front, timeout=ANSWER_SECONDS_MAX) for front in self.fronts]
        while not self._stop.wait(PAUSE_SECONDS):
            self._write(connections, home)
        for connection in connections:
            connection.close()

    def _write(self, connections: Sequence[http.client.HTTPConnection], home: int) -> None:
        """Send one write, to `home` first and then to whoever answers."""
        key, sent = f'"{uuid.uuid4()}"', time.monotonic()
        for number in itertools.count(home):
            if is_acknowledged(connections[number % len(connections)], key):
                self.writes.append(Write(sent, time.monotonic()))
                return
            self.retries += 1
            if time.monotonic() > sent + WRITE_SECONDS_MAX:
                self.abandoned += 1
                return
            time.sleep(RETRY_SECONDS)


def measure(options: argparse.Namespace, directory: Path) -> Found:
    """Kill one leader after the other, each once the cluster is whole again."""
    with cluster(options.app, (*run_options(options), "--snapshot", "http"), directory) as one:
        fronts = [replica["client_url"] for replica in one.replicas()]
        since = time.monotonic()
        with Writers(fronts) as writers:
            rows = [one_kill(one, writers, number) for number in range(options.kills)]
        rate = len(writers.writes) / (time.monotonic() - since)
        wait_until(lambda: one.is_ready() and one.backlog() == 0, "all replicas are level")
        apart = max(abs(counter_value(front) - len(writers.writes)) for front in fronts)
    seconds = [row.seconds for row in rows]
    return Found(
        rows,
        [
            at_most(f"next write after a kill, p99 of {len(rows)}, s", GOAL_SECONDS, percentile(seconds, 0.99)),
            at_most("writes never acknowledged", 0, writers.abandoned),
            at_most("acknowledged writes lost, or done twice", 0, apart),
        ],
        {
            "next write": f"p50 {percentile(seconds, 0.5):.2f} s, p99 {percentile(seconds, 0.99):.2f} s,"
            f" max {max(seconds):.2f} s",
            "load": f"{len(fronts) * WRITERS_PER_FRONT} writers, {rate:.0f} writes/s in all, {writers.retries} retries",
        },
        [row.calibration_ms for row in rows],
    )


def one_kill(one: Quorate, writers: Writers, number: int) -> Row:
    """Kill the leader's sidecar, with which its service goes, and see what came of it."""
    wait_until(lambda: is_whole(one.replicas()), "all replicas are ready and one leads")
    calibration = calibration_ms()
    time.sleep(random.uniform(*BETWEEN_SECONDS))
    leader = one.row(one.leader())
    seen, killed_at = len(writers.writes), time.monotonic()
    os.kill(leader["sidecar_pid"], signal.SIGKILL)

    def since() -> list[float]:
        return [write.answered for write in writers.writes[seen:] if write.sent > killed_at]

    wait_until(since, "a write is acknowledged after the kill")
    wait_until(lambda: is_whole(one.replicas()), "all replicas are ready and one leads")
    row = Row(
        killed=leader["name"],
        next_leader=one.leader(),
        seconds=min(since()) - killed_at,
        back_seconds=time.monotonic() - killed_at,
        calibration_ms=calibration,
    )
    say(f"kill {number + 1}: {row.killed}, next write after {row.seconds:.2f} s, whole after {row.back_seconds:.1f} s")
    return row


def is_whole(replicas: Sequence[dict[str, Any]]) -> bool:
    leaders = sum(replica["role"] == "leader" for replica in replicas)
    return leaders == 1 and all(replica["state"] == "ready" for replica in replicas)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of all stayed within: with 50 of them, p99 is the largest."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
