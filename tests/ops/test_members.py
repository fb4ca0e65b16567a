"""Members at a sidecar's admin listener, over real replicas: what is told, what is changed, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.ordering.cluster import Cluster, Host, until

from quorate import limits
from quorate.ops.members import Members
from quorate.protocols.fields import HttpLimits
from quorate.protocols.requests import Request, RequestParser
from quorate.types import Outcome, ReplicaId

ONE, TWO = ReplicaId(1), ReplicaId(2)
ADD = {"add": {"replica": 2, "address": "127.0.0.1:7"}}


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.03)


class Desk:
    """The members' page of one replica, and a client's view of it."""

    def __init__(self, host: Host) -> None:
        self.members = Members(host.ordering)

    def version(self) -> int:
        version: int = self.members.document()["version"]
        return version

    async def post(self, body: object, version: str | None = None, *fields: str) -> tuple[int, dict[str, Any]]:
        """Ask for a change as `curl` would; `version` is If-Match, by default the present one."""
        answers: list[Outcome] = []
        expected = f'If-Match: "{self.version()}"' if version is None else version
        lines = [expected, *(fields or ["Content-Type: application/json"])]
        self.members.change(parsed(body, [line for line in lines if line]), lambda *answer: answers.append(answer[0]))
        await until(lambda: answers)
        (answer,) = answers
        return answer.status, msgspec.json.decode(answer.body)

    def roles(self) -> dict[str, str]:
        return {member["name"]: member["role"] for member in self.members.document()["members"]}


def parsed(body: object, fields: list[str]) -> Request:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = ["POST /members HTTP/1.1", "Host: admin", f"Content-Length: {len(content)}", *fields]
    parser = RequestParser(HttpLimits())
    parser.feed("".join(f"{line}\r\n" for line in [*lines, ""]).encode() + content)
    request = parser.next_event()
    assert isinstance(request, Request)
    return request


@pytest.fixture
async def single(tmp_path: Path) -> AsyncIterator[Desk]:
    """A replica that leads itself."""
    cluster = Cluster(tmp_path, size=1)
    await cluster.start()
    yield Desk(await cluster.leader())
    await cluster.stop()


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three replicas, not started."""
    cluster = Cluster(tmp_path)
    yield cluster
    await cluster.stop()


async def test_a_cluster_of_one_and_its_version_are_told(single: Desk) -> None:
    outcome = single.members.tell()
    assert outcome.status == 200
    assert b'ETag: "0"\r\n' in outcome.head
    document = msgspec.json.decode(outcome.body)
    (member,) = document.pop("members")
    assert document == {"version": 0, "last_id": 1, "leader": "r1"}
    assert member["address"].startswith("127.0.0.1:")
    assert (member["name"], member["replica"], member["role"], member["reached"]) == ("r1", 1, "voter", 0)


async def test_a_replica_comes_and_goes_and_its_id_is_never_given_again(single: Desk) -> None:
    status, document = await single.post(ADD)
    assert (status, document["version"], document["last_id"]) == (200, 1, 2)
    assert single.roles() == {"r1": "voter", "r2": "learner"}
    assert (await single.post({"remove": {"replica": 2}}))[0] == 200
    assert single.roles() == {"r1": "voter"}
    status, document = await single.post(ADD)
    assert status == 409
    assert document["title"] == "id 2 was given before and is never given again; the next is 3"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"remove": {"replica": 7}}, "replica 7 is no member"),
        ({"remove": {"replica": 1}}, "replica 1 is the last voter"),
        ({"add": {"replica": 1, "address": "127.0.0.1:7"}}, "id 1 was given before"),
    ],
)
async def test_a_refusal_of_the_leader_is_a_conflict(single: Desk, body: object, words: str) -> None:
    status, document = await single.post(body)
    assert (status, document["code"]) == (409, "change_refused")
    assert words in document["title"]
    assert single.version() == 0


@pytest.mark.parametrize("version", ['If-Match: "1"', "If-Match: *", 'If-Match: W/"0"', 'If-Match: "0", "1"'])
async def test_a_change_of_another_version_is_a_conflict(single: Desk, version: str) -> None:
    status, document = await single.post(ADD, version)
    assert (status, document["title"]) == (409, "the membership is at version 0 by now; ask again")
    assert single.roles() == {"r1": "voter"}


async def test_a_change_must_say_what_it_changes(single: Desk) -> None:
    status, document = await single.post(ADD, "")
    assert (status, document["code"]) == (428, "precondition_required")
    assert single.roles() == {"r1": "voter"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        [],
        {},
        {**ADD, "remove": {"replica": 1}},
        {"add": {"replica": 0, "address": "127.0.0.1:7"}},
        {"add": {"replica": limits.REPLICA_ID_MAX + 1, "address": "127.0.0.1:7"}},
        {"add": {"replica": 2, "address": "nowhere"}},
        {"add": {"replica": 2}},
        {"remove": {"replica": "r1"}},
        {"remove": {"replica": 1}, "force": True},
    ],
)
async def test_what_is_not_one_change_is_refused(single: Desk, body: object) -> None:
    status, document = await single.post(body)
    assert (status, document["code"]) == (400, "bad_change")
    assert single.roles() == {"r1": "voter"}


async def test_a_web_page_can_do_nothing(single: Desk) -> None:
    """A page can send a form or text across origins, but neither another content type nor without an Origin."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/jsonp"):
        assert (await single.post(ADD, None, f"Content-Type: {kind}"))[0] == 415
    assert (await single.post(ADD, None, "Accept: application/json"))[0] == 415
    for origin in ("http://evil.example", "null"):
        assert (await single.post(ADD, None, "Content-Type: application/json", f"Origin: {origin}"))[0] == 403
    assert single.roles() == {"r1": "voter"}
    assert (await single.post(ADD, None, "content-type: Application/JSON; charset=utf-8"))[0] == 200


async def test_any_replica_passes_a_change_on_to_the_leader(three: Cluster) -> None:
    await three.start()
    follower = await three.follower()
    status, document = await Desk(follower).post({"add": {"replica": 4, "address": "127.0.0.1:7"}})
    assert (status, document["members"][3]["role"]) == (200, "learner")


async def test_without_a_leader_nothing_is_changed(three: Cluster) -> None:
    await three.start(ONE)
    status, document = await Desk(three.hosts[ONE]).post({"remove": {"replica": 2}})
    assert (status, document["title"]) == (409, "no leader is known")


async def test_a_replica_that_only_starts_says_so(three: Cluster) -> None:
    status, document = await Desk(three.make(ONE)).post({"remove": {"replica": 2}})
    assert status == 409
    assert document["title"].endswith("ask again")


async def test_a_change_that_is_not_answered_in_time_may_have_been_made(
    three: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANGE_SECONDS_MAX", 0.2)
    await three.start()
    leader = await three.leader()
    await three.stop(*(me for me in tuple(three.hosts) if me != leader.me))
    status, document = await Desk(leader).post({"add": {"replica": 4, "address": "127.0.0.1:7"}})
    assert (status, document["code"]) == (504, "change_unknown")
