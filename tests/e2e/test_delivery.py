"""What the service sees: place, agreed time and randomness with each request, the same on every replica."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.e2e.harness import Client, Cluster, Clusters, eventually

ECHO = (sys.executable, str(Path(__file__).parent / "apps" / "echo.py"))
AGREED = ("quorate-index", "quorate-time", "quorate-seed", "quorate-request-id", "log-index", "x-forwarded-for", "body")
MESSAGES = 30

Deliveries = list[dict[str, str]]


@pytest.fixture
def echo(clusters: Clusters) -> Cluster:
    """Three echoes that have been sent MESSAGES posts through all replicas in turn."""
    cluster = clusters.start(ECHO)
    index = 0
    for number in range(MESSAGES):
        with Client(cluster.urls()[number % 3]) as client:
            forged = {"Quorate_Seed": "7", "Quorate_Replay": "1", "Quorate_Time": "1", "log_index": "9"}
            answer = client.ask("POST", "/echo", b"message %d" % number, **forged, X_Forwarded_For="192.0.2.7")
            assert answer.status == 200, answer
            assert int(answer.headers["quorate-index"]) > index
            index = int(answer.headers["quorate-index"])
    cluster.settled()
    return cluster


def deliveries(cluster: Cluster) -> list[Deliveries]:
    """Ask every copy of the app itself what it was delivered."""
    found = []
    for replica in cluster.status().replicas:
        with Client(replica.app_url) as app:
            found.append(json.loads(app.ask("GET", "/deliveries").body))
    return found


def test_every_copy_is_delivered_the_same(echo: Cluster) -> None:
    copies = deliveries(echo)
    agreed = [[{name: delivery[name] for name in AGREED} for delivery in copy] for copy in copies]
    assert agreed[0] == agreed[1] == agreed[2]
    assert [delivery["body"] for delivery in copies[0]] == [f"message {number}" for number in range(MESSAGES)]
    assert {delivery["x-forwarded-for"] for delivery in copies[0]} == {"192.0.2.7, 127.0.0.1"}


def test_index_time_and_seed_are_what_they_promise(echo: Cluster) -> None:
    (copy, *_) = deliveries(echo)
    indexes = [int(delivery["quorate-index"]) for delivery in copy]
    assert indexes == sorted(set(indexes))
    assert indexes[0] >= 1
    assert [delivery["log-index"] for delivery in copy] == [delivery["quorate-index"] for delivery in copy]
    times = [int(delivery["quorate-time"]) for delivery in copy]
    assert times == sorted(times)
    assert len({delivery["quorate-seed"] for delivery in copy}) == MESSAGES
    assert len({delivery["quorate-request-id"] for delivery in copy}) == MESSAGES


def test_only_what_is_delivered_again_says_so(echo: Cluster) -> None:
    """A client can't say it; a rebuilt copy is told for what came before, and not for what comes after."""
    assert not any("quorate-replay" in delivery for copy in deliveries(echo) for delivery in copy)
    before = echo.replica("r2").app_pid
    echo.kill("r2", "app")
    eventually(lambda: echo.replica("r2").app_pid not in (before, None), 15, "the app is started again")
    echo.settled()
    with Client(echo.urls()[0]) as client:
        assert client.ask("POST", "/echo", b"after").status == 200
    echo.settled()
    one, rebuilt, three = deliveries(echo)
    assert [delivery.get("quorate-replay") for delivery in rebuilt] == ["1"] * MESSAGES + [None]
    assert [delivery["quorate-index"] for delivery in rebuilt] == [delivery["quorate-index"] for delivery in one]
    assert not any("quorate-replay" in delivery for copy in (one, three) for delivery in copy)
