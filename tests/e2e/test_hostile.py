"""The whole table of bad input against a living cluster: each row is answered, and not one command enters the order."""

from __future__ import annotations

import socket
import urllib.parse
from contextlib import suppress

from tests.e2e.harness import Client, Cluster, add
from tests.intercept.hostile import HOSTILE, answers_of


def test_hostile_bytes_never_enter_the_order(counter: Cluster) -> None:
    urls = counter.urls()
    before = [(replica.applied, replica.proposed, replica.digest) for replica in counter.settled().replicas]
    for number, case in enumerate(HOSTILE):
        answers = answers_of(exchange(urls[number % 3], case.data))
        assert [answer.status for answer in answers] == [case.status], case.name
        assert answers[0].fields["connection"] == "close", case.name
    assert [(replica.applied, replica.proposed, replica.digest) for replica in counter.settled().replicas] == before
    assert counter.app_values() == [0] * 3
    with Client(urls[0]) as client:
        assert client.ask("POST", "/integer", add(1)).value == 1


def exchange(url: str, data: bytes) -> bytes:
    """Send exact bytes on a fresh connection, and return what came until the other side closed it."""
    address = urllib.parse.urlsplit(url)
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        # An answer to the head may come, and the connection close, before the last byte of a long request is sent.
        with suppress(ConnectionError):
            connection.sendall(data)
        with suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
    return received
