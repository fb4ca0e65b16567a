"""The admin listener of one sidecar: liveness, readiness, status and metrics.

`/livez` says that the process runs, and never depends on a quorum; `/readyz` that the copy may serve clients;
`/livez/service` fails while a neighbour service has to be restarted, for the liveness probe of its container.
`/healthcheck` is `/readyz` with the status codes that K8ShMiR's probes know (SEEDS.md S1). Metric names follow the
Prometheus conventions: one prefix, base units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from quorate import __version__
from quorate.intercept.connection import Respond
from quorate.ops.members import Members
from quorate.protocols.problems import problem
from quorate.protocols.requests import Request
from quorate.types import Outcome

_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
_JSON = b"Content-Type: application/json\r\n"
_METRICS = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
_NOT_FOUND = problem(404, "not_found", "No such page", "/livez, /readyz, /status, /metrics and /healthcheck exist here")
_NOT_ALLOWED = problem(405, "method_not_allowed", "The method is not allowed", "these pages can only be read")
_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

GAUGES = {
    "applied": ("quorate_log_applied_index", "Index of the last command applied by this replica"),
    "chosen": ("quorate_log_chosen_slot", "Last slot of the contiguous chosen prefix known here"),
    "lag": ("quorate_apply_lag_commands", "Commands ordered and not yet applied here"),
    "in_flight": ("quorate_calls_in_flight", "Calls of clients not answered yet"),
    "sessions": ("quorate_sessions", "Outcomes stored for retries"),
    "connections": ("quorate_client_connections", "Open client connections"),
    "tunnels": ("quorate_tunnels", "WebSockets between clients and the service"),
}
COUNTERS = {
    "submitted": ("quorate_commands_submitted", "Commands taken from clients"),
    "proposed": ("quorate_commands_proposed", "Commands handed to the order, repeated proposals included"),
    "executed": ("quorate_commands_executed", "Calls made to the service for ordered commands, replays included"),
    "restarts": ("quorate_service_restarts", "Times the service was started anew"),
    "dropped_messages": ("quorate_peer_messages_dropped", "Messages from peers not taken"),
}


class Admin:
    """Handler of the admin listener; `status` returns the document of /status."""

    def __init__(self, status: Callable[[], dict[str, Any]], members: Members, registry: CollectorRegistry) -> None:
        self._status = status
        self._members = members
        self._registry = registry
        registry.register(StatusCollector(status))
        self._pages: dict[bytes, Callable[[bool], Outcome]] = {
            b"/livez": lambda verbose: Outcome(200, _TEXT, b"ok\n"),
            b"/healthz": lambda verbose: Outcome(200, _TEXT, b"ok\n"),
            b"/livez/service": self._service,
            b"/readyz": lambda verbose: self._ready(verbose, 503),
            b"/healthcheck": lambda verbose: self._ready(verbose, 412),
            b"/status": lambda verbose: Outcome(200, _JSON, msgspec.json.encode(self._status()) + b"\n"),
            b"/members": lambda verbose: self._members.tell(),
            b"/metrics": lambda verbose: Outcome(200, _METRICS, generate_latest(self._registry)),
        }

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request."""
        path, _, query = request.target.partition(b"?")
        page = self._pages.get(path)
        if request.method == b"POST" and path == b"/members":
            self._members.change(request, respond)
        elif request.method not in (b"GET", b"HEAD"):
            respond(_NOT_ALLOWED, b"Allow: GET, HEAD\r\n", False)
        else:
            respond(_NOT_FOUND if page is None else page(query == b"verbose"), b"", False)

    def _service(self, _: bool) -> Outcome:
        wanted = self._status()["service_restart_wanted"]
        return Outcome(503, _TEXT, b"restart wanted\n") if wanted else Outcome(200, _TEXT, b"ok\n")

    def _ready(self, verbose: bool, otherwise: int) -> Outcome:
        status = self._status()
        ready = status["state"] == "ready"
        lines = [f"state: {status['state']}", f"applied: {status['applied']}", f"lag: {status['lag']}"]
        lines.append(f"leader: {status['leader'] or 'unknown'}")
        body = "\n".join(lines) if verbose else ("ok" if ready else status["state"])
        return Outcome(200 if ready else otherwise, _TEXT, body.encode() + b"\n")


class StatusCollector:
    """Metrics read off the status document at each scrape, so that the hot path does not count twice."""

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Yield every metric (prometheus_client's collector interface)."""
        status = self._status()
        build = InfoMetricFamily("quorate_build", "Version of this sidecar")
        build.add_metric([], {"version": __version__})
        yield build
        yield GaugeMetricFamily("quorate_ready", "Whether this replica may serve clients", status["state"] == "ready")
        yield GaugeMetricFamily("quorate_leader", "Whether this replica leads the order", status["role"] == "leader")
        for key, (name, text) in GAUGES.items():
            yield GaugeMetricFamily(name, text, status[key])
        for key, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(name, text, status[key])
        refused = CounterMetricFamily("quorate_requests_refused", "Requests refused at the door", labels=["code"])
        for code, count in status["refused"].items():
            refused.add_metric([code], count)
        yield refused


def commit_latency(registry: CollectorRegistry) -> Callable[[float], None]:
    """Register the histogram of commit latency and return what to call with each value, in seconds."""
    histogram = Histogram(
        "quorate_commit_latency_seconds",
        "From taking a command off a client to its outcome",
        buckets=_LATENCY_BUCKETS,
        registry=registry,
    )
    return histogram.observe
