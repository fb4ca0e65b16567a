"""The six test scenarios of K8ShMiR, with real processes and both counters: replicas end equal and complete.

Amounts differ, so that a lost or doubled message shows in the value, and no other message can make up for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.e2e.harness import COUNTERS, Client, Cluster, Clusters, PersistentClient, add

MESSAGES = 250
KILL_AFTER = 80
"""Messages answered before something is killed: well inside the stream."""


@pytest.fixture(scope="module", params=COUNTERS)
def clusters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    started = Clusters(tmp_path_factory.mktemp(request.param))
    try:
        started.start(request.param)
        yield started
    finally:
        started.stop()


@pytest.fixture
def counter(clusters: Clusters) -> Cluster:
    """The module's cluster, settled, with the counter at 0."""
    cluster = clusters.started[0]
    cluster.settled()
    with Client(cluster.urls()[0]) as client:
        assert client.ask("POST", "/integer/reset").value == 0
    return cluster


class Stream:
    """MESSAGES alternating INC and DEC to one replica; `reached` is set when KILL_AFTER of them are answered."""

    def __init__(self, cluster: Cluster, replica: int, amount: int) -> None:
        self.client = PersistentClient(cluster.urls(), first=replica - 1)
        self.amounts = [(amount + number) * (-1) ** number for number in range(MESSAGES)]
        self.reached = threading.Event()

    def send(self) -> None:
        try:
            for number, amount in enumerate(self.amounts):
                answer = self.client.write("/integer", add(amount))
                assert answer.status == 201, answer
                if number == KILL_AFTER:
                    self.reached.set()
        finally:
            self.reached.set()
            self.client.close()


def run(cluster: Cluster, replicas: tuple[int, ...], meanwhile: Callable[[], None]) -> list[Stream]:
    """Send a stream to each of `replicas` in parallel; check the value that they must leave everywhere."""
    streams = [Stream(cluster, replica, amount=1000 * replica) for replica in replicas]
    with ThreadPoolExecutor() as pool:
        sending = [pool.submit(stream.send) for stream in streams]
        for stream in streams:
            assert stream.reached.wait(60)
        meanwhile()
        for done in sending:
            done.result()
    cluster.settled()
    expected = sum(sum(stream.amounts) for stream in streams)
    assert cluster.app_values() == [expected] * 3
    for url in cluster.urls():
        with Client(url) as client:
            assert client.ask("GET", "/integer").value == expected
    return streams


def nothing() -> None:
    """Let the streams pass undisturbed."""


def test_1_messages_to_replica_1_show_on_replica_2(counter: Cluster) -> None:
    one, two = (Client(url) for url in counter.urls()[:2])
    with one, two:
        for number in range(1, 51):
            assert one.ask("POST", "/integer", add(1)).value == number
            assert two.ask("GET", "/integer").value == number


def test_2_both_receive_messages_in_parallel(counter: Cluster) -> None:
    streams = run(counter, (1, 2), nothing)
    assert [stream.client.retries for stream in streams] == [0, 0]


def test_3_app_of_replica_2_is_killed_while_replica_1_receives(counter: Cluster) -> None:
    (stream,) = run(counter, (1,), lambda: counter.kill("r2", "app"))
    assert stream.client.retries == 0, "the client of a healthy replica noticed"


def test_4_sidecar_of_replica_2_is_killed_while_replica_1_receives(counter: Cluster) -> None:
    run(counter, (1,), lambda: counter.kill("r2", "sidecar"))


def test_5_app_of_replica_2_is_killed_while_both_receive(counter: Cluster) -> None:
    run(counter, (1, 2), lambda: counter.kill("r2", "app"))


def test_6_sidecar_of_replica_2_is_killed_while_both_receive(counter: Cluster) -> None:
    run(counter, (1, 2), lambda: counter.kill("r2", "sidecar"))
