"""An Idempotency-Key is answered once: the same bytes on every replica, also when the leader died in between."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.harness import LOST, Answer, Client, Cluster, NotSent, add, eventually

STORM = 100


def ask(url: str, key: str, body: object) -> Answer | None:
    """Send a keyed write once; None where it has to be sent again."""
    try:
        with Client(url) as client:
            answer = client.ask("POST", "/integer", body, Idempotency_Key=key)
    except (NotSent, *LOST):
        return None
    return None if answer.status in (409, 503, 504) else answer


def settled_answer(urls: list[str], first: int, key: str, body: object) -> Answer:
    """Retry round the replicas, beginning with `first`, until there is an answer."""
    turns = iter(range(first, first + 10_000))
    return eventually(lambda: ask(urls[next(turns) % len(urls)], key, body), 30, "the write is answered")


def test_another_replica_gives_the_same_answer(counter: Cluster) -> None:
    urls = counter.urls()
    key = f'"{uuid.uuid4()}"'
    answers = [ask(url, key, add(5)) for url in urls]
    first, *replays = answers
    assert first is not None
    assert (first.status, first.value, first.headers.get("idempotency-replayed")) == (201, 5, None)
    for replay in replays:
        assert replay is not None
        assert (replay.status, replay.body) == (first.status, first.body)
        assert replay.headers["idempotency-replayed"] == "true"
        assert replay.headers["content-type"] == first.headers["content-type"]
        assert replay.headers["quorate-index"] == first.headers["quorate-index"]


def test_an_error_of_the_service_is_an_answer_too(counter: Cluster) -> None:
    urls = counter.urls()
    key = f'"{uuid.uuid4()}"'
    first, replay = (ask(url, key, {"op": "MUL", "value": 2}) for url in urls[:2])
    assert first is not None
    assert replay is not None
    assert (first.status, first.body) == (replay.status, replay.body) == (500, b'{"error":"op must be INC or DEC"}')
    assert replay.headers["idempotency-replayed"] == "true"


def test_a_key_used_for_something_else_is_refused(counter: Cluster) -> None:
    urls = counter.urls()
    key = f'"{uuid.uuid4()}"'
    ask(urls[0], key, add(5))
    other = ask(urls[1], key, add(6))
    assert other is not None
    assert (other.status, other.code) == (422, "key_reused")
    assert counter.settled()
    assert counter.app_values() == [5] * 3


def test_the_answer_outlives_the_leader(counter: Cluster) -> None:
    urls = counter.urls()
    key = f'"{uuid.uuid4()}"'
    first = settled_answer(urls, 0, key, add(5))
    counter.kill(counter.leader().name, "app", "sidecar")
    for number in range(3):
        replay = settled_answer(urls, number, key, add(5))
        assert (replay.status, replay.body) == (first.status, first.body)
        assert replay.headers["idempotency-replayed"] == "true"
    counter.settled()
    assert counter.app_values() == [5] * 3


def test_a_storm_of_retries_across_a_leader_change_executes_once(counter: Cluster) -> None:
    """FAULTS.md row 45: one key a hundred times, the leader killed among them."""
    urls = counter.urls()
    key = f'"{uuid.uuid4()}"'
    leader = counter.leader().name
    start = threading.Barrier(STORM + 1)

    def retry(number: int) -> bytes:
        start.wait()
        return settled_answer(urls, number, key, add(7)).body

    with ThreadPoolExecutor(STORM) as pool:
        retries = [pool.submit(retry, number) for number in range(STORM)]
        start.wait()
        counter.kill(leader, "sidecar")
        assert {done.result() for done in retries} == {b'{"value":7}'}
    counter.settled()
    assert counter.app_values() == [7] * 3
