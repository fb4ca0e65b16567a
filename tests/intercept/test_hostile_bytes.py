"""Every row of the table of bad input, over a real socket: the right answer, framed, closing, and nothing proposed."""

from __future__ import annotations

import json

import pytest
from tests.intercept.doors import Door
from tests.intercept.hostile import HOSTILE, Case, answers_of


@pytest.mark.parametrize("case", HOSTILE, ids=[case.name for case in HOSTILE])
async def test_hostile_bytes_are_answered_and_never_proposed(door: Door, case: Case) -> None:
    answers = answers_of(await door.exchange(case.data))
    assert [answer.status for answer in answers] == [case.status]
    assert answers[0].fields["connection"] == "close"
    assert answers[0].fields["content-type"] == "application/problem+json"
    document = json.loads(answers[0].body)
    assert document["status"] == case.status
    assert document["type"] == "/problems/" + document["code"]
    assert door.replica.calls == []
    assert sum(door.server.statistics().refused.values()) == 1


async def test_what_comes_before_hostile_bytes_is_answered_first(door: Door) -> None:
    good = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    for case in HOSTILE:
        answers = answers_of(await door.exchange(good + case.data))
        assert [answer.status for answer in answers] == [200, case.status], case.name
    assert {(call.method, call.body) for call in door.replica.calls} == {(b"POST", b"x")}


def test_the_table_has_a_name_for_each_case() -> None:
    assert len({case.data for case in HOSTILE}) == len({case.name for case in HOSTILE}) == len(HOSTILE)
