"""What a majority lost, everything lost, and a long absence do to a cluster of real processes."""

from __future__ import annotations

import socket
import struct
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.e2e.harness import (
    COUNTERS,
    LOST,
    Answer,
    Client,
    Cluster,
    Clusters,
    NotSent,
    PersistentClient,
    Replica,
    add,
    eventually,
)

RESTART_SECONDS_MAX = 10.0
FAIL_OVER_SECONDS_MAX = 2.0
"""P5: a lost leader costs no more."""
DEADLINE_SECONDS = 10.0
"""Of a request, by default."""
AWAY_ENTRIES = 3000


@pytest.mark.parametrize("kind", COUNTERS)
def test_everything_is_killed_at_once_and_comes_back(clusters: Clusters, kind: str) -> None:
    first = clusters.start(kind)
    for number in range(3):
        with PersistentClient(first.urls(), first=number) as client:
            value = [client.write("/integer", add(n)).value for n in range(1, 101)][-1]
    assert value == 3 * 5050
    first.kill_everything()
    started = time.monotonic()
    again = clusters.start(kind)
    again.settled()
    assert again.app_values() == [value] * 3
    assert time.monotonic() - started < RESTART_SECONDS_MAX


def test_with_two_of_three_gone_nothing_is_answered_as_done(counter: Cluster) -> None:
    survivor, *gone = counter.urls()
    with Client(survivor) as client:
        assert client.ask("POST", "/integer", add(5)).value == 5
        for name in ("r2", "r3"):
            counter.command(name, "pause")
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(refused_in_time, survivor, method) for method in ("POST", "POST", "GET")]
            writes = [asking.result() for asking in asked][:2]
        for name in ("r2", "r3"):
            counter.command(name, "resume")
        with PersistentClient(gone) as returned:
            value = returned.write("/integer", add(1000)).value
        assert value - 1005 in range(len([code for code in writes if code == "outcome_unknown"]) + 1)
    counter.settled()
    assert len(set(counter.app_values())) == 1


def refused_in_time(url: str, method: str) -> str:
    """Ask a replica without a quorum; return the code of its refusal."""
    started = time.monotonic()
    with Client(url) as client:
        answer = client.ask(method, "/integer", add(1) if method == "POST" else None)
    assert time.monotonic() - started < DEADLINE_SECONDS + 2
    to_write, to_read = {(503, "not_proposed"), (504, "outcome_unknown")}, {(503, "no_quorum"), (503, "not_ready")}
    assert (answer.status, answer.code) in (to_write if method == "POST" else to_read), answer
    return answer.code


def test_a_leader_that_was_stopped_gives_no_stale_read(counter: Cluster) -> None:
    """It wakes up believing that it leads; its reads must show what the others wrote meanwhile."""
    leader = counter.leader()
    others = [url for url in counter.urls() if url != leader.client_url]
    with Client(leader.client_url) as client:
        client.ask("POST", "/integer", add(1))
        counter.command(leader.name, "pause")
        with PersistentClient(others) as writer:
            assert writer.write("/integer", add(10)).value == 11
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(client.ask, "GET", "/integer")
            counter.command(leader.name, "resume")
            answer = reading.result()
    assert answer.status == 503 or answer.value == 11
    counter.settled()


def test_a_lost_leader_costs_two_seconds_at_most(counter: Cluster) -> None:
    leader = counter.leader()
    with PersistentClient([url for url in counter.urls() if url != leader.client_url]) as client:
        client.write("/integer", add(1))
        counter.kill(leader.name, "sidecar")
        started = time.monotonic()
        assert client.write("/integer", add(1)).value == 2
        assert time.monotonic() - started < FAIL_OVER_SECONDS_MAX
    counter.settled()


def test_a_replica_that_was_away_catches_up_before_it_is_ready(clusters: Clusters) -> None:
    """Its app died with it, so thousands of entries are replayed and thousands more are fetched."""
    counter = clusters.start("counter-node")
    write_many(counter.urls(), AWAY_ENTRIES)
    absent = counter.replica("r3")
    counter.command("r3", "pause")
    write_many(counter.urls()[:2], AWAY_ENTRIES)
    counter.kill("r3", "app", "sidecar")
    first_ready = eventually(lambda: ready(absent), 30, "r3 is ready again")
    assert first_ready.applied is not None
    assert first_ready.applied >= 2 * AWAY_ENTRIES
    counter.settled()
    assert counter.app_values() == [2 * AWAY_ENTRIES] * 3


def test_a_replica_that_slept_answers_nothing_old(clusters: Clusters) -> None:
    """Its app and its connections are alive, and it does not know how long it was away."""
    counter = clusters.start("counter-node")
    *others, sleeper = counter.urls()
    counter.command("r3", "pause")
    write_many(others, AWAY_ENTRIES)
    with Client(sleeper) as client:
        counter.command("r3", "resume")
        answer = eventually(lambda: answered(client.ask("GET", "/integer")), 30, "r3 answers")
    assert answer.value == AWAY_ENTRIES
    counter.settled()


def answered(answer: Answer) -> Answer | None:
    return answer if answer.status == 200 else None


def write_many(urls: list[str], entries: int) -> None:
    """Add 1 to the counter `entries` times, from as many clients as it takes to be quick."""
    clients = 20

    def write_some(number: int) -> None:
        with PersistentClient(urls, first=number % len(urls)) as client:
            for _ in range(entries // clients):
                client.write("/integer", add(1))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(write_some, range(clients)))


def ready(absent: Replica) -> Replica | None:
    """Ask the replica itself; None while it refuses to be ready. A look that comes too late proves nothing less."""
    try:
        with Client(absent.admin_url) as admin:
            if admin.ask("GET", "/readyz").status != 200:
                return None
            return msgspec.json.decode(admin.ask("GET", "/status").body, type=Replica)
    except (NotSent, *LOST):
        return None


def test_a_client_that_leaves_after_sending_is_served_once(counter: Cluster) -> None:
    """FAULTS.md row 44: a reset right behind the body; the write happens once, and a retry gets its answer."""
    urls = counter.urls()
    for number in range(1, 21):
        key = f'"{uuid.uuid4()}"'
        send_and_reset(urls[number % 3], key)
        with Client(urls[(number + 1) % 3]) as client:
            answer = eventually(lambda: first_answer(client, key), 20, "the write is answered")  # noqa: B023
        assert answer == number
    counter.settled()
    assert counter.app_values() == [20] * 3


def send_and_reset(url: str, key: str) -> None:
    address = urllib.parse.urlsplit(url)
    body = b'{"op":"INC","value":1}'
    fields = f"Host: {address.netloc}\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n"
    head = f"POST /integer HTTP/1.1\r\n{fields}\r\n"
    connection = socket.create_connection((address.hostname, address.port), timeout=5)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(head.encode() + body)
    connection.close()


def first_answer(client: Client, key: str) -> int | None:
    answer = client.ask("POST", "/integer", b'{"op":"INC","value":1}', Idempotency_Key=key)
    assert answer.status in (201, 409, 503, 504), answer
    return answer.value if answer.status == 201 else None
