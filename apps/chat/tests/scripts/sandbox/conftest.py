"""One sandbox for all tests that only run programs: its workers are what the service has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat.scripts.sandbox import Direction, Language, Sandbox, Task
from chat.scripts.sandbox.interpreters import CACHE

INPUT = {"messageBody": "good day", "ownID": 1, "recipientIDs": [1, 2], "senderID": 7}
NOW_MS = 1_700_000_000_123
SEED = bytes(range(16))


def task(language: Language, source: str, direction: Direction = "outgoing", **changes: Any) -> Task:
    given: dict[str, Any] = {"input": INPUT, "now_ms": NOW_MS, "seed": SEED, **changes}
    return Task(language, source, direction, **given)


def handler(language: Language, body: str) -> str:
    """Return a program whose `handle` consists of `body`, from line 2 on."""
    if language == "python":
        return "def handle(message):\n" + "\n".join(f"    {line}" for line in body.split("\n"))
    return f"function handle(message)\n{body}\nend"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(CACHE, workers=1) as running:
        yield running
