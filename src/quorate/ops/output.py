"""What replicas print: from pipe bytes to bounded lines, into a log file of bounded size, and back out for `logs`.

A replica's sidecar and service share one pipe, which outlives them both, so nothing is lost over a restart. Sidecars
write JSON lines; services write what they like. Lines are kept as they came and made readable only when shown.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from quorate import limits

FOLLOW_SECONDS = 0.2


class LineSplitter(asyncio.Protocol):
    """Cuts a pipe's bytes into lines of at most LOG_LINE_BYTES_MAX and hands each on, without its end."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self.ended = asyncio.Event()
        """All who wrote into the pipe have closed it."""
        self._on_line = on_line
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Hand on every line that is complete, and what is too long to wait for."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            for start in range(0, max(len(line), 1), limits.LOG_LINE_BYTES_MAX):
                self._on_line(line[start : start + limits.LOG_LINE_BYTES_MAX])
        while len(self._rest) >= limits.LOG_LINE_BYTES_MAX:
            self._on_line(self._rest[: limits.LOG_LINE_BYTES_MAX])
            self._rest = self._rest[limits.LOG_LINE_BYTES_MAX :]

    def eof_received(self) -> None:
        """Hand on what was left without an end."""
        if self._rest:
            self._on_line(self._rest)
        self.ended.set()


class LogFile:
    """Appends lines to a file and, once it is full, turns it into the one old file that is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("ab")

    def write(self, line: bytes) -> None:
        """Append one line; it is readable at once."""
        self._file.write(line + b"\n")
        self._file.flush()
        if self._file.tell() >= limits.LOG_FILE_BYTES_MAX:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab")

    def close(self) -> None:
        """End the file."""
        self._file.close()


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines of a log file; empty when there is none."""
    try:
        with path.open("rb") as file:
            return list(deque((line.rstrip(b"\n") for line in file), maxlen=count))
    except FileNotFoundError:
        return []


def follow(paths: dict[str, Path], alive: Callable[[], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, line) as lines are appended, until `alive` says no more will come. Blocks between them."""
    positions = {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}
    while True:
        more_to_come = alive()
        for name, path in paths.items():
            for line in _read_on(path, positions, name):
                yield name, line
        if not more_to_come:
            return
        time.sleep(FOLLOW_SECONDS)


def _read_on(path: Path, positions: dict[str, int], name: str) -> Iterator[bytes]:
    """Complete lines after the known position; a file that became shorter was replaced and is read from its start."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.seek(0, 2) < positions[name]:
            positions[name] = 0
        file.seek(positions[name])
        for line in file:
            if not line.endswith(b"\n"):
                return
            positions[name] += len(line)
            yield line.rstrip(b"\n")


def readable(line: bytes) -> str:
    """A line for people: a sidecar's JSON as `time level event key=value`, anything else as it is."""
    text = line.decode(errors="replace")
    if not text.startswith("{"):
        return text
    try:
        fields = json.loads(text)
    except ValueError:
        return text
    if not isinstance(fields, dict) or "event" not in fields:
        return text
    clock = str(fields.pop("timestamp", ""))[11:19]
    level = str(fields.pop("level", "info"))
    event = str(fields.pop("event"))
    rest = (f"{key}={value}" for key, value in fields.items() if key not in ("replica", "cluster"))
    return " ".join(filter(None, [clock, f"{level:<7}", event, *rest]))
