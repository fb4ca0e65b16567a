"""The admin listener's pages: codes for probes, status for people, metrics for Prometheus."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.replica.parts import MemoryOrdering

from quorate import __version__
from quorate.ops.admin import COUNTERS, GAUGES, Admin, commit_latency
from quorate.ops.members import Members
from quorate.protocols.fields import HttpLimits
from quorate.protocols.requests import Request, RequestParser
from quorate.types import Outcome

STATUS: dict[str, Any] = {
    "name": "r1",
    "state": "ready",
    "role": "leader",
    "leader": "r1",
    "service_restart_wanted": False,
    "refused": {"overloaded": 3, "bad_request": 1},
    **{key: number for number, key in enumerate((*GAUGES, *COUNTERS), 10)},
}


class Desk:
    """An admin handler over a status that the test may change."""

    def __init__(self) -> None:
        self.status = dict(STATUS)
        self.registry = CollectorRegistry()
        self.observe = commit_latency(self.registry)
        self._admin = Admin(lambda: self.status, Members(MemoryOrdering()), self.registry)

    def ask(self, target: str, method: str = "GET") -> tuple[Outcome, bytes]:
        answers: list[tuple[Outcome, bytes]] = []
        self._admin.handle(parsed(method, target), lambda outcome, extra, *_: answers.append((outcome, extra)))
        (answer,) = answers
        return answer

    def get(self, target: str) -> tuple[int, bytes]:
        outcome, _ = self.ask(target)
        return outcome.status, outcome.body

    def metrics(self) -> dict[str, Metric]:
        outcome, _ = self.ask("/metrics")
        return {family.name: family for family in text_string_to_metric_families(outcome.body.decode())}


def parsed(method: str, target: str) -> Request:
    parser = RequestParser(HttpLimits())
    parser.feed(f"{method} {target} HTTP/1.1\r\nHost: admin\r\n\r\n".encode())
    request = parser.next_event()
    assert isinstance(request, Request)
    return request


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("state", ["starting", "replaying", "ready", "lagging", "down", "draining"])
def test_liveness_never_depends_on_the_state(desk: Desk, state: str) -> None:
    desk.status["state"] = state
    assert desk.get("/livez") == desk.get("/healthz") == (200, b"ok\n")


@pytest.mark.parametrize(("page", "refusal"), [("/readyz", 503), ("/healthcheck", 412)])
@pytest.mark.parametrize("state", ["starting", "replaying", "lagging", "down", "draining"])
def test_only_a_ready_copy_is_ready(desk: Desk, page: str, refusal: int, state: str) -> None:
    assert desk.get(page) == (200, b"ok\n")
    desk.status["state"] = state
    assert desk.get(page) == (refusal, state.encode() + b"\n")


def test_readiness_tells_its_reasons_when_asked(desk: Desk) -> None:
    desk.status |= {"state": "replaying", "leader": None, "applied": 5, "lag": 7}
    status, body = desk.get("/readyz?verbose")
    assert status == 503
    assert body.decode().splitlines() == ["state: replaying", "applied: 5", "lag: 7", "leader: unknown"]


def test_a_neighbour_that_must_restart_fails_its_probe(desk: Desk) -> None:
    assert desk.get("/livez/service") == (200, b"ok\n")
    desk.status["service_restart_wanted"] = True
    assert desk.get("/livez/service") == (503, b"restart wanted\n")


def test_the_status_is_json(desk: Desk) -> None:
    outcome, _ = desk.ask("/status")
    assert outcome.head == b"Content-Type: application/json\r\n"
    assert msgspec.json.decode(outcome.body) == desk.status


def test_the_members_are_json(desk: Desk) -> None:
    status, body = desk.get("/members")
    assert (status, [member["name"] for member in msgspec.json.decode(body)["members"]]) == (200, ["r1", "r2", "r3"])
    outcome, _ = desk.ask("/members", "POST")
    assert outcome.status == 415, "see test_members.py"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_can_only_be_read(desk: Desk, method: str) -> None:
    outcome, extra = desk.ask("/livez", method)
    assert (outcome.status, extra) == (405, b"Allow: GET, HEAD\r\n")


def test_a_head_is_answered_like_a_get(desk: Desk) -> None:
    assert desk.ask("/readyz", "HEAD") == desk.ask("/readyz")


@pytest.mark.parametrize("target", ["/", "/status/", "/metricsx", "/..%2fstatus"])
def test_there_are_no_other_pages(desk: Desk, target: str) -> None:
    status, body = desk.get(target)
    assert status == 404
    assert msgspec.json.decode(body)["code"] == "not_found"


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_every_metric_bears_the_status_value(desk: Desk) -> None:
    families = desk.metrics()
    for key, (name, text) in (GAUGES | COUNTERS).items():
        (sample,) = families[name].samples
        assert (sample.value, families[name].documentation) == (desk.status[key], text)


def test_metric_names_follow_the_conventions(desk: Desk) -> None:
    for family in desk.metrics().values():
        assert re.fullmatch("quorate_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation
        assert not re.search("_(ms|millis|minutes|kb|percent)$", family.name), "base units"
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        elif family.type == "gauge":
            assert not family.name.endswith("_total")
        elif family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_refusals_are_counted_by_code(desk: Desk) -> None:
    samples = desk.metrics()["quorate_requests_refused"].samples
    assert {sample.labels["code"]: sample.value for sample in samples} == {"overloaded": 3, "bad_request": 1}


@pytest.mark.parametrize(("state", "role", "ready", "leads"), [("ready", "leader", 1, 1), ("down", "follower", 0, 0)])
def test_readiness_and_leadership_are_gauges(desk: Desk, state: str, role: str, ready: int, leads: int) -> None:
    desk.status |= {"state": state, "role": role}
    families = desk.metrics()
    assert [families[name].samples[0].value for name in ("quorate_ready", "quorate_leader")] == [ready, leads]


def test_the_version_is_told(desk: Desk) -> None:
    (sample,) = desk.metrics()["quorate_build_info"].samples
    assert (sample.labels, sample.value) == ({"version": __version__}, 1)


def test_commit_latency_is_a_histogram_in_seconds(desk: Desk) -> None:
    for seconds in (0.0007, 0.0007, 3.0):
        desk.observe(seconds)
    family = desk.metrics()["quorate_commit_latency_seconds"]
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert values["quorate_commit_latency_seconds_count", None] == 3
    assert values["quorate_commit_latency_seconds_bucket", "0.0005"] == 0
    assert values["quorate_commit_latency_seconds_bucket", "0.001"] == 2
    assert values["quorate_commit_latency_seconds_bucket", "5.0"] == 3


def test_the_page_says_its_format(desk: Desk) -> None:
    outcome, _ = desk.ask("/metrics")
    assert outcome.head == b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
