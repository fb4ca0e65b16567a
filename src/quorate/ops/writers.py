"""Clients that keep writing to a cluster while it is being hurt: the demo's proof that nothing is lost or done twice.

Each writer adds 1 to the counter, again and again, under a fresh Idempotency-Key. Whatever goes wrong (a refused
connection, one cut short, 503, 504, 409) it sends the same write with the same key to the next replica, until it is
acknowledged. So the counter must end at exactly the number of acknowledged writes.
"""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from urllib.parse import urlsplit

BODY = b'{"op":"INC","value":1}'
PAUSE_SECONDS = 0.005
RETRY_SECONDS = 0.02
REPLY_SECONDS_MAX = 3.0
WRITE_SECONDS_MAX = 20.0


class Writers:
    """One writing thread per front. `stop` ends them; after that `acknowledged` and `abandoned` are final."""

    def __init__(self, fronts: list[str]) -> None:
        self.fronts = [urlsplit(front).netloc for front in fronts]
        self.acknowledged = 0
        self.retried = 0
        self.abandoned = 0
        """Writes whose outcome stayed unknown."""
        self._gap_seconds = 0.0
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write_on, args=(home,)) for home in range(len(fronts))]

    def start(self) -> None:
        """Begin to write."""
        self._last = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the writes under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def longest_gap(self) -> float:
        """Longest time without any acknowledged write since the last call, in seconds."""
        with self._lock:
            gap, self._gap_seconds = max(self._gap_seconds, time.monotonic() - self._last), 0.0
            return gap

    def _write_on(self, home: int) -> None:
        connections = [http.client.HTTPConnection(front, timeout=REPLY_SECONDS_MAX) for front in self.fronts]
        while not self._stop.is_set():
            self._write(connections, home)
            time.sleep(PAUSE_SECONDS)
        for connection in connections:
            connection.close()

    def _write(self, connections: list[http.client.HTTPConnection], home: int) -> None:
        """One write, to `home` first and then to whoever answers, until it is acknowledged."""
        key = f'"{uuid.uuid4()}"'
        deadline = time.monotonic() + WRITE_SECONDS_MAX
        attempt = home
        while not is_acknowledged(connections[attempt % len(connections)], key):
            attempt += 1
            with self._lock:
                self.retried += 1
                if time.monotonic() > deadline:
                    self.abandoned += 1
                    return
            time.sleep(RETRY_SECONDS)
        self._count()

    def _count(self) -> None:
        with self._lock:
            now = time.monotonic()
            self.acknowledged += 1
            self._gap_seconds = max(self._gap_seconds, now - self._last)
            self._last = now


def is_acknowledged(connection: http.client.HTTPConnection, key: str) -> bool:
    """Send one write under `key`, and say whether this replica acknowledged it."""
    try:
        connection.request("POST", "/integer", BODY, {"Content-Type": "application/json", "Idempotency-Key": key})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    return response.status == 201
