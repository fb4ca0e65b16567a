"""Writers acknowledge each write once, whatever the cluster answers on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from quorate.ops.writers import Writers


class Moody(BaseHTTPRequestHandler):
    """Answers each write 503, then by a cut, then 201; counts keys."""

    seen: dict[str, int]
    guard = threading.Lock()
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.guard:
            times = self.seen[self.headers["Idempotency-Key"]] = self.seen.get(self.headers["Idempotency-Key"], 0) + 1
        if times == 2:
            self.close_connection = True
            return
        self.send_response(201 if times == 3 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it so
        """Quiet."""


@pytest.fixture
def front() -> Iterator[str]:
    Moody.seen = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_each_write_is_retried_under_its_key_until_acknowledged(front: str) -> None:
    writers = Writers([front, front])
    writers.start()
    while len(Moody.seen) < 20:
        assert writers.longest_gap() < 5
    writers.stop()
    assert writers.acknowledged == len(Moody.seen)
    assert set(Moody.seen.values()) == {3}
    assert writers.retried == 2 * writers.acknowledged
    assert writers.abandoned == 0
