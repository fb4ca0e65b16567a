"""One sidecar: the composition root, where the names of a configuration become objects, and the life of the process.

It comes up from the disk outwards (store, core, order, service, front door) and goes down the other way. SIGTERM and
SIGINT drain: the shared front is left, calls under way are answered, then everything is closed and the exit code is
0. A broken invariant or a failed disk ends the process at once, without any goodbye that could vouch for something.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry

from quorate import limits, registry
from quorate.config import SidecarConfig, child_environment, load_sidecar, supervisor_pid
from quorate.errors import Broken, QuorateError
from quorate.intercept.connection import Deadlines
from quorate.intercept.front import Front, FrontOptions
from quorate.intercept.policy import Mode, Route, RoutePolicy
from quorate.intercept.server import HttpServer, ServerOptions
from quorate.ops.admin import Admin, commit_latency
from quorate.ops.procs import die_with_parent
from quorate.ordering.embedded import EmbeddedOrdering
from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import Applier
from quorate.replica.reads import Reads
from quorate.replica.recovery import Recovery
from quorate.replica.replica import Replica
from quorate.replica.service import ChildService, NeighbourService, Service
from quorate.replica.upstream import Upstream
from quorate.storage import Identity
from quorate.types import ReplicaId
from quorate.wire import MessageCodec

log = structlog.get_logger(room="sidecar")

CORE = "paxos"
TRANSPORT = "tcp"


def main(file: Path) -> int:
    """Be the sidecar that `file` describes until told to end; returns the exit code. Raises ConfigRefused."""
    config = load_sidecar(file)
    _log_json(f"r{config.replica}")
    parent = supervisor_pid()
    if parent is not None:
        die_with_parent(signal.SIGTERM, parent)
    try:
        return _run(Sidecar.live(config), config.loop)
    except QuorateError as error:
        log.error("ended", error=error.what, hint=error.hint, exit_code=error.exit_code)
        return error.exit_code


class Sidecar:
    """The rooms of one replica, composed."""

    def __init__(self, config: SidecarConfig) -> None:
        self._config = config
        self._name = f"r{config.replica}"
        self._started_at = time.monotonic()
        self._metrics = CollectorRegistry()
        self._ordering = _open_ordering(config)
        self._service = _service(config, presumed_fresh=self._ordering.status().last_index == 0)
        http = HttpLimits(body_bytes_max=config.http.body_bytes_max)
        self._lane = Upstream(config.app.address, http, 1, depth=config.app.pipeline)
        self._pool = Upstream(config.app.address, http, limits.READ_CONNECTIONS_MAX, retry_lost=True)
        self._applier = Applier(self._ordering, self._lane, config.app.pipeline)
        self._ordering.on_delivered = self._applier.advance
        self._recovery = Recovery(config.state, self._service, self._ordering, self._applier, self._lane, self._pool)
        self._recovery.on_ready = lambda ready: self._turned.set()
        reads = Reads(self._ordering, self._applier, self._pool, exclusive=config.state == "contract")
        self._replica = Replica(self._ordering, self._applier, reads, self._recovery, commit_latency(self._metrics))
        self._front = _front(config, self._replica)
        self._admin = HttpServer(Admin(self.status, self._metrics))
        self._turned = asyncio.Event()
        """Set when readiness may have changed, so that the shared front is joined or left."""
        self._shared: str | None = None
        self._draining = asyncio.Event()

    @classmethod
    async def live(cls, config: SidecarConfig) -> int:
        """Come up, serve until told to drain, and go down."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_crash)
        sidecar = cls(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, sidecar._draining.set)
        await sidecar._serve()
        return 0

    async def _serve(self) -> None:
        await self._admin.listen(self._config.admin)
        await self._ordering.start()
        await self._front.listen(self._config.client)
        recovering = asyncio.create_task(self._recovery.run())
        sharing = asyncio.create_task(self._share())
        draining = asyncio.create_task(self._draining.wait())
        try:
            done, _ = await asyncio.wait((recovering, sharing, draining), return_when=asyncio.FIRST_COMPLETED)
            for task in done - {draining}:
                task.result()
            await self._drain()
        finally:
            for task in (recovering, sharing, draining):
                task.cancel()
            await asyncio.gather(recovering, sharing, draining, return_exceptions=True)
            await self._close()

    async def _share(self) -> None:
        """Be part of the shared front while ready."""
        while self._config.shared is not None:
            await self._turned.wait()
            self._turned.clear()
            if self._recovery.ready and self._shared is None:
                self._shared = await self._front.listen(self._config.shared, reuse_port=True)
            elif not self._recovery.ready and self._shared is not None:
                self._front.leave(self._shared)
                self._shared = None
        await asyncio.Event().wait()

    async def _drain(self) -> None:
        log.info("draining", in_flight=self._replica.in_flight())
        await self._front.drain(limits.DRAIN_SECONDS_MAX)
        self._replica.close()

    async def _close(self) -> None:
        self._front.close()
        await self._lane.close()
        await self._pool.close()
        await self._ordering.close()
        self._admin.close()

    def status(self) -> dict[str, Any]:
        """Return the document of /status."""
        order = self._ordering.status()
        statistics = self._replica.statistics()._asdict()
        server = self._front.statistics()
        complete = self._applier.digest_complete
        return {
            "name": self._name,
            "cluster": self._config.cluster,
            "role": order.role,
            "leader": order.leader,
            "state": "draining" if self._draining.is_set() else self._recovery.state,
            "applied": self._applier.applied,
            "digest": self._applier.digest.hex() if complete else None,
            "chosen": order.point,
            "lag": self._recovery.lag,
            "storage": self._config.storage,
            "state_mode": self._config.state,
            "client_url": f"http://{self._config.client}",
            "admin_url": f"http://{self._config.admin}",
            "app_url": f"http://{self._config.app.address}",
            "sidecar_pid": os.getpid(),
            "app_pid": self._service.pid,
            "service_restart_wanted": self._service.restart_wanted,
            "restarts": self._service.restarts,
            "connections": server.connections,
            "refused": server.refused,
            "dropped_messages": self._ordering.dropped_messages,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            **statistics,
        }


# --- parts -----------------------------------------------------------------------------------------------------------


def _open_ordering(config: SidecarConfig) -> EmbeddedOrdering:
    me = ReplicaId(config.replica)
    peers = {ReplicaId(int(number)): address for number, address in config.peers.items()}
    rng = random.Random()
    store = registry.resolve(registry.STORES, config.storage)(
        Path(config.data_dir), Identity(config.cluster, me, config.epoch)
    )
    recovered = store.recover()
    core = registry.resolve(registry.CORES, CORE)(me, tuple(sorted(peers)), rng, recovered)
    codec = MessageCodec(registry.resolve(registry.MESSAGES, CORE))
    mesh = registry.resolve(registry.TRANSPORTS, TRANSPORT)(me, peers, config.cluster, config.epoch, rng)
    return EmbeddedOrdering(core, codec, store, mesh, recovered.chosen, _end)


def _service(config: SidecarConfig, *, presumed_fresh: bool) -> Service:
    app = config.app
    if app.command is None:
        return NeighbourService(app.address, presumed_fresh=presumed_fresh)
    pid = os.getpid()
    state_dir = None if app.state_dir is None else Path(app.state_dir)
    return ChildService(
        app.command,
        child_environment(_agreed_environment(config) | dict(app.env)),
        app.address,
        lambda: die_with_parent(signal.SIGKILL, pid),
        state_dir,
        Path(config.data_dir) / "service.group",
        wipe=config.state == "volatile",
    )


def _agreed_environment(config: SidecarConfig) -> dict[str, str]:
    """What a service is told; whatever could make copies differ by their surroundings is fixed."""
    host, _, port = config.app.address.rpartition(":")
    own = {} if config.app.state_dir is None else {"QUORATE_STATE_DIR": config.app.state_dir}
    return {
        "HOST": host,
        "PORT": port,
        "APP_PORT": port,
        "QUORATE_REPLICA": f"r{config.replica}",
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
        **own,
    }


def _front(config: SidecarConfig, replica: Replica) -> HttpServer:
    routes = [Route(route.path, Mode(route.mode), tuple(route.methods), route.key_required) for route in config.routes]
    options = FrontOptions(pseudonym=f"quorate-r{config.replica}".encode(), request_seconds=config.request_seconds)
    http = config.http
    return HttpServer(
        Front(replica, RoutePolicy(routes), options, asyncio.get_running_loop().time),
        ServerOptions(
            deadlines=Deadlines(
                head_seconds_max=http.head_seconds_max,
                body_seconds_max=http.body_seconds_max,
                idle_seconds_max=http.idle_seconds_max,
            ),
            connections_max=http.connections_max,
        ),
        HttpLimits(
            request_line_bytes_max=http.request_line_bytes_max,
            head_bytes_max=http.head_bytes_max,
            fields_max=http.fields_max,
            body_bytes_max=http.body_bytes_max,
        ),
    )


# --- the process -----------------------------------------------------------------------------------------------------


def _run(living: Coroutine[Any, Any, int], loop: str) -> int:
    """Run on the loop that was asked for; `auto` takes uvloop where it is installed."""
    if loop == "asyncio":
        return asyncio.run(living)
    try:
        import uvloop
    except ImportError:
        if loop == "uvloop":
            living.close()
            raise QuorateError("uvloop is not installed", "pip install 'quorate[fast]'") from None
        return asyncio.run(living)
    return uvloop.run(living)


def _end(error: Broken) -> NoReturn:
    """End at once: what this process knows is no longer vouched for (FAULTS.md §0.3)."""
    log.critical("ended", error=error.what, hint=error.hint, exit_code=error.exit_code)
    sys.stderr.flush()
    os._exit(error.exit_code)


def _crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception nobody expected is a broken invariant: recovery is the handler, not this process."""
    error = context.get("exception")
    if isinstance(error, Broken):
        _end(error)
    log.critical("invariant broken", what=context.get("message"), exc_info=error)
    sys.stderr.flush()
    os._exit(Broken.exit_code)


class _Stderr:
    """Standard error that outlives its reader: a supervisor that died must not keep its sidecars from draining."""

    def write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.flush()


def _log_json(replica: str) -> None:
    stderr = cast("TextIO", _Stderr())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.PrintLoggerFactory(stderr),
    )
    structlog.contextvars.bind_contextvars(replica=replica)
