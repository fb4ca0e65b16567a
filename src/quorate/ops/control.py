"""The admin listener of a run: status of the whole cluster, and the verbs that act on one replica.

    GET  /status
    POST /replicas/{name}/kill?what=app|sidecar|both    SIGKILL
    POST /replicas/{name}/pause                         SIGSTOP to sidecar and service
    POST /replicas/{name}/resume                        SIGCONT
    GET  /members
    POST /members                                       add one replica; answers once it is known to the others
    POST /members/{name}/remove
    POST /stop                                          as Ctrl-C

It listens on loopback and asks for no password, so it must not be reachable through somebody's browser: a request that
bears an Origin, or names another host than the listener's own (DNS rebinding), is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, get_args
from urllib.parse import parse_qs, urlsplit

from quorate.errors import NetworkRefused, QuorateError
from quorate.intercept.connection import Respond
from quorate.ops.changes import Changes
from quorate.ops.child import Child, What
from quorate.ops.rundir import RunInfo
from quorate.protocols.problems import problem
from quorate.protocols.requests import Request
from quorate.strict_toml import suggest
from quorate.types import Outcome


class Run(Protocol):
    """What is controlled: see `supervisor.Supervisor`."""

    @property
    def info(self) -> RunInfo:
        """How it is reached."""

    @property
    def children(self) -> Mapping[str, Child]:
        """Its replicas' processes by name."""

    def status(self) -> dict[str, Any]:
        """The whole cluster."""

    @property
    def changes(self) -> Changes:
        """What adds and removes replicas."""

    def when_fresh(self, then: Callable[[], None]) -> None:
        """Call `then` once every sidecar has been asked anew."""

    def stop(self) -> None:
        """Drain; when draining already, kill what is left."""


class Control:
    """Handler of the admin listener (see `intercept.server.Handler`)."""

    def __init__(self, run: Run) -> None:
        port = urlsplit(run.info.admin_url).port
        self._run = run
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts = {f"{host}:{port}".encode() for host in ("127.0.0.1", "localhost")}

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request."""
        if (refusal := self._refusal(request)) is not None:
            respond(refusal, b"", True)
            return
        target = urlsplit(request.target.decode("ascii"))
        match request.method, target.path.strip("/").split("/"):
            case ((b"GET" | b"HEAD"), ["status"]):
                self._run.when_fresh(lambda: respond(_json(200, self._run.status()), b"", False))
            case b"POST", ["replicas", name, ("kill" | "pause" | "resume") as verb]:
                respond(self._act(name, verb, target.query), b"", False)
            case ((b"GET" | b"HEAD"), ["members"]):
                self._answer_later(self._run.changes.members(), respond)
            case b"POST", ["members"]:
                self._answer_later(self._run.changes.add(), respond)
            case b"POST", ["members", name, "remove"]:
                self._answer_later(self._run.changes.remove(name), respond)
            case b"POST", ["stop"]:
                respond(_json(202, {"stopping": True, "pid": self._run.info.pid}), b"", False)
                self._run.stop()
            case _:
                respond(_NOT_FOUND, b"", False)

    def _answer_later(self, doing: Coroutine[Any, Any, dict[str, Any]], respond: Respond) -> None:
        async def answer() -> None:
            try:
                respond(_json(200, await doing), b"", False)
            except NetworkRefused as error:
                respond(problem(504, "no_answer", error.what, error.hint), b"", False)
            except QuorateError as error:
                respond(problem(409, "change_refused", error.what, error.hint), b"", False)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refusal(self, request: Request) -> Outcome | None:
        if request.get(b"origin") is not None:
            return problem(
                403, "browser_refused", "Requests from web pages are refused.", "Use the command line or curl."
            )
        if (request.get(b"host") or b"").lower() not in self._hosts:
            return problem(421, "foreign_host", "This listener is not that host.", "Address it as 127.0.0.1.")
        return None

    def _act(self, name: str, verb: str, query: str) -> Outcome:
        children = self._run.children
        if name not in children:
            return problem(404, "no_such_replica", f"no replica {name}", suggest(name, children))
        child = children[name]
        if child.pid is None:
            return problem(409, "not_running", f"replica {name} is not running", "Wait until it has started again.")
        if verb == "kill":
            return _kill(child, query)
        (child.pause if verb == "pause" else child.resume)()
        return _json(200, {"name": name, "done": verb, "sidecar_pid": child.pid})


_NOT_FOUND = problem(
    404, "not_found", "No such resource or method.", "GET /status, POST /replicas/{name}/kill and others."
)


def _kill(child: Child, query: str) -> Outcome:
    pid = child.pid
    what = parse_qs(query).get("what", ["both"])[-1]
    for known in get_args(What):
        if what == known:
            child.kill(known)
            return _json(200, {"name": child.name, "done": f"kill {what}", "sidecar_pid": pid})
    return problem(400, "bad_parameter", f"what={what} is unknown", suggest(what, get_args(What)))


def _json(status: int, value: object) -> Outcome:
    return Outcome(status, b"Content-Type: application/json\r\nCache-Control: no-store\r\n", json.dumps(value).encode())
