from __future__ import annotations

import json

from quorate.protocols.problems import problem


def test_a_problem_says_what_happened_and_what_to_do() -> None:
    outcome = problem(
        503, "overloaded", "Too busy", "Try again.", retryable=True, retry_after=2, request_id=b"\x00\xff" * 8
    )
    assert outcome.status == 503
    assert outcome.head == (b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 2\r\n")
    assert json.loads(outcome.body) == {
        "type": "/problems/overloaded",
        "title": "Too busy",
        "status": 503,
        "code": "overloaded",
        "hint": "Try again.",
        "retryable": True,
        "request_id": "00ff" * 8,
    }


def test_a_problem_without_an_id_or_a_time_to_wait() -> None:
    outcome = problem(400, "bad_request", "Malformed", "Look at it.")
    assert b"Retry-After" not in outcome.head
    document = json.loads(outcome.body)
    assert "request_id" not in document
    assert document["retryable"] is False
