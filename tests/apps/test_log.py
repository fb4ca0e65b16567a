"""The log app: append_line and get_line over a file that starts anew each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.apps.service import Service, running


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Service]:
    with running("log", QUORATE_STATE_DIR=str(tmp_path)) as service:
        yield service


def test_it_starts_with_a_thousand_lines(log: Service, tmp_path: Path) -> None:
    assert log.ask("GET", "/line/1").body == b'"automatic-populated-0"'
    assert log.ask("GET", "/line/1000").body == b'"automatic-populated-999"'
    assert log.ask("GET", "/").body == b"A log of 1000 lines."
    assert len((tmp_path / "lines.txt").read_bytes().splitlines()) == 1000


def test_it_appends(log: Service, tmp_path: Path) -> None:
    line = 'a "first" line: übermäßig'
    answer = log.ask("POST", "/insert", line.encode())
    assert answer[:2] == (200, b"written")
    for number in (1001, 0, -1):
        assert json.loads(log.ask("GET", f"/line/{number}").body) == line
    assert log.ask("POST", "/insert", b"").body == b"written"
    assert log.ask("GET", "/line/0").body == b'""'
    assert (tmp_path / "lines.txt").read_text().splitlines()[1000:] == [line, ""]


@pytest.mark.parametrize("number", [1001, -2, 10**17])
def test_a_missing_line_is_null(log: Service, number: int) -> None:
    assert log.ask("GET", f"/line/{number}")[:2] == (200, b"null")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/insert", b"two\nlines", 400),
        ("POST", "/insert", b"\xff", 400),
        ("POST", "/insert", b"x" * (64 * 1024 + 1), 413),
        ("PUT", "/snapshot", b"one\ntwo", 400),
        ("POST", "/snapshot", b"", 405),
        ("GET", "/insert", None, 405),
        ("POST", "/line/1", b"", 405),
        ("GET", "/line/one", None, 404),
        ("GET", "/line/", None, 404),
        ("GET", "/lines", None, 404),
    ],
)
def test_what_it_refuses_changes_nothing(log: Service, method: str, path: str, body: bytes | None, status: int) -> None:
    assert log.ask(method, path, body).status == status
    assert log.ask("GET", "/").body == b"A log of 1000 lines."


def test_it_starts_anew_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with running("log", QUORATE_STATE_DIR=str(tmp_path)) as log:
            log.ask("POST", "/insert", b"more")
            assert log.ask("GET", "/").body == b"A log of 1001 lines."


def test_without_a_state_directory_it_keeps_an_unnamed_file() -> None:
    with running("log") as log:
        assert log.ask("POST", "/insert", b"more").body == b"written"
        assert log.ask("GET", "/line/0").body == b'"more"'


def test_a_fresh_copy_goes_on_from_a_snapshot(log: Service) -> None:
    for line in ("more", "", "a\rb\u2028c", "x" * 64 * 1024):
        log.ask("POST", "/insert", line.encode())
    snapshot = log.ask("GET", "/snapshot").body
    with running("log") as fresh:
        assert fresh.ask("PUT", "/snapshot", snapshot)[:2] == (200, b"restored")
        fresh.ask("POST", "/insert", b"last")
        log.ask("POST", "/insert", b"last")
        assert fresh.ask("GET", "/snapshot").body == log.ask("GET", "/snapshot").body
        assert json.loads(fresh.ask("GET", "/line/1003").body) == "a\rb\u2028c"
        assert fresh.ask("GET", "/").body == b"A log of 1005 lines."


def test_a_snapshot_may_be_empty(log: Service) -> None:
    assert log.ask("PUT", "/snapshot", b"").status == 200
    assert log.ask("GET", "/").body == b"A log of 0 lines."
