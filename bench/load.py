"""Puts load on one or more addresses at once with wrk, and merges what each wrk saw."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from quorate.errors import Misbehaviour

Kind = Literal["write", "read"]

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 15
"""Above a request's deadline, so that what wrk counts as lost is lost."""


class Target(NamedTuple):
    """An address like http://127.0.0.1:8001, and how many connections to keep busy there."""

    url: str
    connections: int


class Load(NamedTuple):
    """What came back: all requests of all targets, and the distribution of their latencies in microseconds."""

    requests: int
    seconds: float
    refused: int
    """Answers of 400 and above."""
    failed: int
    """Connections that broke, and requests that were never answered."""
    latencies: Counter[int]

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds that `share` (0 to 1) of the requests stayed within."""
        rank = share * self.latencies.total()
        for microseconds in sorted(self.latencies):
            rank -= self.latencies[microseconds]
            if rank <= 0:
                return microseconds / 1000
        raise Misbehaviour("not one request was answered")


def put_load(targets: Sequence[Target], kind: Kind, seconds: int) -> Load:
    """Load all targets at the same time with one wrk each; rates add up, and so do the distributions."""
    running = [
        subprocess.Popen(command(target, kind, seconds), stdout=subprocess.PIPE, text=True) for target in targets
    ]
    seen = [json.loads(wrk.communicate()[0].splitlines()[-1]) for wrk in running]
    latencies: Counter[int] = Counter()
    for one in seen:
        latencies.update(dict(one["latency"]))
    return Load(
        requests=sum(one["requests"] for one in seen),
        seconds=max(one["microseconds"] for one in seen) / 1e6,
        refused=sum(one["refused"] for one in seen),
        failed=sum(one["failed"] for one in seen),
        latencies=latencies,
    )


def command(target: Target, kind: Kind, seconds: int) -> list[str]:
    size = ["-t1", f"-c{target.connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_SECONDS}s"]
    return ["wrk", *size, "-s", str(SCRIPT), target.url, "--", kind]
