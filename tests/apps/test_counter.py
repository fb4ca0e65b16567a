"""The counter, in both languages: what it answers, and that the two answer with the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.apps.service import Service, running

KINDS = ("counter-python", "counter-node")

REQUESTS: tuple[tuple[str, str, bytes | None, int], ...] = (
    ("GET", "/integer", None, 200),
    ("POST", "/integer", b'{"op":"INC","value":5}', 201),
    ("POST", "/integer", b' {"value" : 2e1, "op":"DEC", "extra":[1,{}]}\n', 201),
    ("GET", "/integer?fresh=1", None, 200),
    ("HEAD", "/integer", None, 200),
    ("POST", "/integer", b'{"op":"INC","value":-0.0}', 201),
    ("POST", "/integer", b'{"op":"MUL","value":2}', 500),
    ("POST", "/integer", b'{"op":["INC"],"value":2}', 500),
    ("POST", "/integer", b"{}", 500),
    ("POST", "/integer", b'{"op":"INC"}', 400),
    ("POST", "/integer", b'{"op":"INC","value":"5"}', 400),
    ("POST", "/integer", b'{"op":"INC","value":true}', 400),
    ("POST", "/integer", b'{"op":"INC","value":1.5}', 400),
    ("POST", "/integer", b'{"op":"INC","value":NaN}', 400),
    ("POST", "/integer", b'{"op":"INC","value":1e999}', 400),
    ("POST", "/integer", b'{"op":"INC","value":9007199254740992}', 400),
    ("POST", "/integer", b'{"op":"INC","value":9007199254740991}', 201),
    ("POST", "/integer", b'{"op":"INC","value":9007199254740991}', 422),
    ("POST", "/integer", b'{"op":"DEC","value":9007199254740991}', 201),
    ("POST", "/integer", b'{"op":"INC","value":5,}', 400),
    ("POST", "/integer", b'\xef\xbb\xbf{"op":"INC","value":5}', 400),
    ("POST", "/integer", b'{"op":"INC\xff","value":5}', 400),
    ("POST", "/integer", b"[" * 1024, 400),
    ("POST", "/integer", b"[]", 400),
    ("POST", "/integer", b"null", 400),
    ("POST", "/integer", b"", 400),
    ("POST", "/integer", b'{"op":"INC","value":1}' + b" " * 1024, 413),
    ("POST", "/integer", b" " * 100_000, 413),
    ("PUT", "/integer", b'{"op":"INC","value":1}', 405),
    ("DELETE", "/last-index", None, 405),
    ("GET", "/integer/reset", None, 405),
    ("GET", "/integer/", None, 404),
    ("GET", "/%69nteger", None, 404),
    ("GET", "/last-index", None, 200),
    ("GET", "/integer", None, 200),
    ("GET", "/snapshot", None, 200),
    ("HEAD", "/snapshot", None, 200),
    ("POST", "/snapshot", b"{}", 405),
    ("PUT", "/snapshot", b'{"value":1}', 400),
    ("PUT", "/snapshot", b'{"value":1,"index":"2"}', 400),
    ("PUT", "/snapshot", b"no state", 400),
    ("PUT", "/snapshot", b" " * 1025, 413),
    ("GET", "/snapshot", None, 200),
    ("POST", "/integer/reset", None, 200),
    ("POST", "/integer/reset", b"anything", 200),
    ("GET", "/integer", None, 200),
)


@pytest.fixture(params=KINDS)
def counter(request: pytest.FixtureRequest) -> Iterator[Service]:
    with running(request.param) as service:
        yield service


def test_both_answer_with_the_same_bytes() -> None:
    with running(KINDS[0]) as one, running(KINDS[1]) as other:
        for method, path, body, status in REQUESTS:
            first, second = one.ask(method, path, body), other.ask(method, path, body)
            assert first.status == status, (method, path, body)
            assert first[:2] == second[:2], (method, path, body)
            for name in ("content-type", "content-length", "allow"):
                assert first.headers.get(name) == second.headers.get(name), (method, path, name)


def test_it_counts(counter: Service) -> None:
    assert counter.ask("GET", "/integer").body == b'{"value":0}'
    assert counter.ask("POST", "/integer", b'{"op":"INC","value":7}')[:2] == (201, b'{"value":7}')
    assert counter.ask("POST", "/integer", b'{"op":"DEC","value":9}')[:2] == (201, b'{"value":-2}')
    assert counter.ask("GET", "/integer").body == b'{"value":-2}'
    assert counter.ask("POST", "/integer/reset")[:2] == (200, b'{"value":0}')


def test_a_refused_request_changes_nothing(counter: Service) -> None:
    counter.ask("POST", "/integer", b'{"op":"INC","value":7}')
    for method, path, body, status in REQUESTS:
        if status >= 400 and status != 422:
            counter.ask(method, path, body)
    assert counter.ask("GET", "/integer").body == b'{"value":7}'


def test_every_request_that_bears_a_log_index_moves_it(counter: Service) -> None:
    assert counter.ask("GET", "/last-index").body == b'{"index":0}'
    delivered = (("POST", "/integer", b'{"op":"INC","value":1}'), ("GET", "/integer", None), ("GET", "/nowhere", None))
    for index, (method, path, body) in enumerate(delivered, start=3):
        counter.ask(method, path, body, Log_Index=str(index))
        assert counter.ask("GET", "/last-index").body == b'{"index":%d}' % index
    counter.ask("GET", "/integer", Log_Index="soon")
    assert counter.ask("GET", "/last-index").body == b'{"index":5}'


def test_a_fresh_copy_goes_on_from_a_snapshot(counter: Service) -> None:
    counter.ask("POST", "/integer", b'{"op":"DEC","value":7}', Log_Index="12")
    snapshot = counter.ask("GET", "/snapshot")
    assert snapshot.body == b'{"value":-7,"index":12}'
    for kind in KINDS:
        with running(kind) as fresh:
            assert fresh.ask("PUT", "/snapshot", snapshot.body)[:2] == (200, snapshot.body)
            assert fresh.ask("GET", "/last-index").body == b'{"index":12}'
            assert fresh.ask("POST", "/integer", b'{"op":"INC","value":1}').body == b'{"value":-6}'
