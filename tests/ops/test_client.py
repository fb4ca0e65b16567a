"""Asking an admin listener that answers, refuses, talks nonsense, or is not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from quorate import limits
from quorate.errors import Misbehaviour, Misuse, NetworkRefused
from quorate.ops.client import ask


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A listener that sends `answer` to one connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/status"
        thread.join()


def response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def test_an_object_is_returned() -> None:
    with answering(response(200, b'{"pid": 1}')) as url:
        assert ask(url) == {"pid": 1}


def test_a_refusal_is_raised_in_its_own_words() -> None:
    document = b'{"title": "no replica r9", "hint": "did you mean r1?"}'
    with answering(response(404, document)) as url, pytest.raises(Misuse, match=r"no replica r9 - did you mean r1\?"):
        ask(url, "POST")


def test_no_answer_in_time_for_whoever_was_asked_is_none_for_us() -> None:
    document = b'{"title": "No leader has answered in time", "hint": "look again"}'
    with (
        answering(response(504, document)) as url,
        pytest.raises(NetworkRefused, match="No leader has answered in time - look again"),
    ):
        ask(url, "POST")


def test_a_body_is_sent_as_json_with_the_fields_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        got: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while not got or b"}" not in got[-1]:
                    got.append(connection.recv(4096))
                connection.sendall(response(200, b"{}"))

        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(f"http://127.0.0.1:{port}/x?y=1", "POST", body={"a": 1}, fields={"If-Match": '"3"'}) == {}
        thread.join()
    head, _, body = b"".join(got).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /x?y=1 HTTP/1.1"
    assert {b"Content-Type: application/json", b'If-Match: "3"'} <= set(lines)
    assert body == b'{"a": 1}'


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'"' + b"x" * limits.STATUS_BYTES_MAX + b'"'])
def test_nonsense_is_misbehaviour(body: bytes) -> None:
    with answering(response(200, body)) as url, pytest.raises(Misbehaviour, match="without a JSON object"):
        ask(url)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n"])
def test_no_proper_answer_is_a_network_error(answer: bytes) -> None:
    with answering(answer) as url, pytest.raises(NetworkRefused, match="no answer: "):
        ask(url)


def test_silence_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(NetworkRefused, match="timed out"):
        ask(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=0.05)
