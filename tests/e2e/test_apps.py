"""Services of earlier systems as they are: the K8ShMiR contract and the log of lines."""

from __future__ import annotations

import json

import pytest
from tests.e2e.harness import COUNTERS, Client, Cluster, Clusters, PersistentClient, add, eventually


@pytest.mark.parametrize("kind", COUNTERS)
def test_a_service_that_keeps_its_own_index(clusters: Clusters, kind: str) -> None:
    """`--state contract`: the sidecar resumes after what the app says it has, which is nothing after its death."""
    counter = clusters.start(kind, "--state", "contract")
    for number in range(1, 51):
        write(counter, number)
    applied = counter.settled().replicas[1].applied
    before = last_indexes(counter)
    assert len(set(before)) == 1
    read_at(counter, 2)
    assert last_indexes(counter)[1] == applied, "a read off the log must bear the applied index"
    pid = counter.replica("r2").app_pid
    counter.kill("r2", "app")
    write(counter, 1000)
    eventually(lambda: counter.replica("r2").app_pid not in (pid, None), 15, "the app is started again")
    counter.settled()
    assert counter.app_values() == [2275] * 3
    after = last_indexes(counter)
    assert len(set(after)) == 1
    assert after > before


def write(cluster: Cluster, amount: int) -> None:
    with PersistentClient(cluster.urls(), first=amount % 3) as client:
        client.write("/integer", add(amount))


def last_indexes(cluster: Cluster) -> list[int]:
    found = []
    for replica in cluster.status().replicas:
        with Client(replica.app_url) as app:
            found.append(int(json.loads(app.ask("GET", "/last-index").body)["index"]))
    return found


def read_at(cluster: Cluster, replica: int) -> None:
    with Client(cluster.urls()[replica - 1]) as client:
        assert client.ask("GET", "/integer").status == 200


def test_health_check_of_k8shmir(counter: Cluster) -> None:
    """200 in sync; 412, or no answer, while a rebuilt app is not."""
    admin_url = counter.replica("r2").admin_url
    with Client(admin_url) as admin:
        assert admin.ask("GET", "/healthcheck").status == 200
        counter.kill("r2", "app")
        eventually(lambda: admin.ask("GET", "/healthcheck").status == 412, 5, "out of sync")
        eventually(lambda: admin.ask("GET", "/healthcheck").status == 200, 15, "in sync again")


def test_lines_written_anywhere_are_read_everywhere(clusters: Clusters) -> None:
    log = clusters.start("log")
    clients = [Client(url) for url in log.urls()]
    for number in range(30):
        answer = clients[number % 3].ask("POST", "/insert", f"line {number} ü".encode())
        assert (answer.status, answer.body) == (200, b"written")
        for client in clients:
            assert json.loads(client.ask("GET", "/line/0").body) == f"line {number} ü"
    log.kill("r3", "app", "sidecar")
    log.wait_ready()
    log.settled()
    for client in clients:
        client.close()
        assert json.loads(client.ask("GET", "/line/1001").body) == "line 0 ü"
        assert client.ask("GET", "/").body == b"A log of 1030 lines."
        client.close()
