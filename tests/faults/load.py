"""Clients that write to a counter and read it while the cluster is hurt, and the history of what they saw.

Each client stays with a replica until that fails it, then asks the next. A write bears an Idempotency-Key and is sent
with it until answered, so that at the end there is no unknown outcome: a write that was answered took effect, once.
All amounts are positive, so each answer tells the write's own place in the order.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from tests.e2e.harness import LOST, Answer, Client, NotSent, add, eventually

from quorate.sim.checker import Add, Operation, Read

ANSWER_SECONDS_MAX = 15.0
"""Longer than any replica is stopped: one that wakes up is to have its chance to answer wrong."""
RETRY_SECONDS = 0.02
WRITE_SECONDS_MAX = 60.0
"""A write without an answer for so long has hung."""
REFUSALS = (409, 503, 504, 507)
"""Statuses after which the same request is sent again."""
READ_SHARE = 0.2
AMOUNT_MAX = 9


class Span(NamedTuple):
    """A stretch of time.monotonic()."""

    start: float
    end: float


class Load:
    """Clients at work from `start` to `stop`."""

    def __init__(self, urls: Sequence[str], clients: int, seed: int, think_seconds: float = 0.0) -> None:
        self.urls = urls
        self.seed = seed
        self.think_seconds = think_seconds
        self.history: list[Operation] = []
        self.tally: Tally[str] = Tally()
        self.troubles: list[BaseException] = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._live, args=(number,)) for number in range(clients)]
        self.seconds = 0.0

    def __enter__(self) -> Load:
        self.started = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish what it has begun. Raises what a client raised."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        self.seconds = self.seconds or time.monotonic() - self.started
        if self.troubles:
            raise self.troubles[0]

    def go_on(self, seconds: float) -> Span:
        """Let the clients work for so long, or until one of them is in trouble; returns when that was."""
        start = time.monotonic()
        while time.monotonic() - start < seconds and not self.troubles:
            time.sleep(0.05)
        return Span(start, time.monotonic())

    def wait_progress(self, seconds_max: float, writes: int = 1) -> None:
        """Wait until so many writes that were begun after this call are answered. Raises TimeoutError."""
        called, seen = time.monotonic(), len(self.history)

        def look() -> bool:
            begun = [one for one in self.history[seen:] if one.called > called and isinstance(one.action, Add)]
            return len(begun) >= writes or bool(self.troubles)

        eventually(look, seconds_max, "clients make progress")

    def written_within(self, span: Span) -> int:
        """Return how many writes were both begun and answered in that time."""
        return sum(span.start < write.called and (write.returned or span.end) < span.end for write in self.writes())

    def writes(self) -> list[Operation]:
        """Return the answered writes."""
        return [operation for operation in self.history if isinstance(operation.action, Add)]

    def longest_gap(self) -> float:
        """Return the longest time, in seconds, in which no write was answered."""
        times = sorted(operation.returned or 0.0 for operation in self.writes())
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    def _live(self, number: int) -> None:
        client = PatientClient(self, number)
        try:
            while not self.stopping.is_set():
                (client.read if client.random.random() < READ_SHARE else client.write)()
                self.stopping.wait(self.think_seconds * client.random.random())
        except BaseException as trouble:  # not lost with the thread: `stop` raises it
            self.troubles.append(trouble)
        finally:
            client.close()


class PatientClient:
    """One client, with a connection to each replica."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.number = number
        self.random = random.Random(f"{load.seed} client {number}")
        self.clients = [Client(url, ANSWER_SECONDS_MAX) for url in load.urls]
        self.at = number % len(self.clients)

    def read(self) -> None:
        """Ask once; a read without an answer constrains nothing."""
        called = time.monotonic()
        answer = self._ask("GET")
        if answer:
            assert answer.status == 200, answer
            self._record(Read(), answer, called)

    def write(self) -> None:
        """Send one write until it is answered."""
        action = Add(self.random.randint(1, AMOUNT_MAX))
        key = f'"{uuid.uuid4()}"'
        called = time.monotonic()
        while (answer := self._ask("POST", add(action.amount), Idempotency_Key=key)) is None:
            assert time.monotonic() - called < WRITE_SECONDS_MAX, "a write is never answered"
            time.sleep(RETRY_SECONDS)
        assert answer.status == 201, answer
        self._record(action, answer, called)

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def _ask(self, method: str, body: object = None, **fields: str) -> Answer | None:
        with suppress(NotSent, *LOST):
            answer = self.clients[self.at].ask(method, "/integer", body, **fields)
            if answer.status not in REFUSALS:
                return answer
            self.load.tally[f"{answer.status} {answer.code}"] += 1
        self.load.tally["failed over"] += 1
        self.at = (self.at + 1) % len(self.clients)
        return None

    def _record(self, action: Read | Add, answer: Answer, called: float) -> None:
        self.load.history.append(Operation(self.number, "counter", action, answer.value, called, time.monotonic()))
