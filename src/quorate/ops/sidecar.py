"""One sidecar: the composition root, where the names of a configuration become objects, and the life of the process.

It comes up from the disk outwards (store, core, order, service, front door) and goes down the other way. SIGTERM and
SIGINT drain: the shared front is left, calls under way are answered, then everything is closed and the exit code is
0. A broken invariant or a failed disk ends the process at once, without any goodbye that could vouch for something.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from quorate import limits
from quorate.config import SidecarConfig, load_sidecar, supervisor_pid
from quorate.errors import Broken, IdentityRefused, QuorateError
from quorate.intercept.server import HttpServer
from quorate.ops import compose
from quorate.ops.admin import Admin, commit_latency
from quorate.ops.members import Members
from quorate.ops.procs import die_with_parent
from quorate.replica.apply import Applier
from quorate.replica.reads import Reads
from quorate.replica.recovery import Recovery
from quorate.replica.replica import Replica
from quorate.replica.trimming import Trimmer
from quorate.replica.tunnels import Tunnels
from quorate.replica.upstream import Upstream

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

log = structlog.get_logger(room="sidecar")


def main(file: Path, *, insecure: bool = False) -> int:
    """Be the sidecar that `file` describes until told to end; returns the exit code. Raises ConfigRefused.

    With `insecure`, as if the file had said so.
    """
    config = load_sidecar(file)
    config = msgspec.structs.replace(config, insecure=config.insecure or insecure)
    _log_json(f"r{config.replica}")
    parent = supervisor_pid()
    if parent is not None:
        die_with_parent(signal.SIGTERM, parent)
    gc.freeze()  # or each full collection looks again at all that was imported: 40 ms in which nobody is answered
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
        self._certificates = compose.credentials(config)
        self._ordering, self._mesh = compose.ordering(config, self._certificates, self._on_broken)
        self._service = compose.service(config, presumed_fresh=self._ordering.status().point == 0)
        http = compose.http_limits(config)
        self._lane = Upstream(config.app.address, http, 1, depth=config.app.pipeline)
        self._pool = Upstream(config.app.address, http, limits.READ_CONNECTIONS_MAX, retry_lost=True)
        shares = compose.shares(config, _all_descriptors())
        self._passes = Upstream(config.app.address, http, shares.passed, retry_lost=True)
        self._tunnels = Tunnels(config.app.address, http, shares.tunnels)
        self._applier = Applier(self._ordering, self._lane, config.app.pipeline, compose.founders(config))
        self._ordering.on_delivered = self._applier.advance
        self._saving = compose.saving(config, self._ordering, self._mesh, self._applier)
        self._recovery = Recovery(
            config.state,
            self._service,
            self._ordering,
            self._applier,
            self._lane,
            self._pool,
            None if self._saving is None else self._saving.restorer,
        )
        self._recovery.on_ready = lambda ready: self._turned.set()
        if self._saving is not None:
            self._saving.transfer.on_overtaken = self._recovery.begin_again
        exclusive = config.state == "contract"
        reads = Reads(self._ordering, self._applier, self._pool, self._passes, exclusive=exclusive)
        self._replica = Replica(
            self._ordering, self._applier, reads, self._tunnels, self._recovery, commit_latency(self._metrics)
        )
        self._front = compose.front(config, self._replica, shares)
        self._admin = HttpServer(Admin(self.status, Members(self._ordering), self._metrics))
        self._turned = asyncio.Event()
        """Set when readiness may have changed, so that the shared front is joined or left."""
        self._shared: str | None = None
        self._draining = asyncio.Event()
        self._dismissed: IdentityRefused | None = None

    @classmethod
    async def live(cls, config: SidecarConfig) -> int:
        """Come up, serve until told to drain, and go down."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_crash)
        sidecar = cls(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, sidecar._draining.set)
        await sidecar._serve()
        if sidecar._dismissed is not None:
            raise sidecar._dismissed
        return 0

    async def _serve(self) -> None:
        await self._admin.listen(self._config.admin, tls=compose.admin_context(self._config, self._certificates))
        await self._ordering.start()
        await self._front.listen(self._config.client)
        tasks = [asyncio.create_task(each) for each in (self._draining.wait(), *self._duties())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    def _duties(self) -> list[Coroutine[Any, Any, Any]]:
        """What goes on until the end."""
        duties = [self._recovery.run(), self._share()]
        if self._saving is None:
            trimmer = Trimmer(self._ordering, None, lambda: self._applier.point, dict)
            return [*duties, trimmer.run()]
        return [*duties, self._saving.transfer.run(), self._saving.trimmer.run()]

    def _on_broken(self, error: Broken) -> None:
        """End; at once, unless it is only that this replica is no longer wanted: what it knows is sound."""
        if not isinstance(error, IdentityRefused):
            _end(error)
        log.error("dismissed", error=error.what)
        self._dismissed = error
        self._replica.give_up()
        self._draining.set()

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
        self._ordering.hand_over()
        await self._front.drain(limits.DRAIN_SECONDS_MAX)
        self._replica.close()

    async def _close(self) -> None:
        self._front.close()
        if self._saving is not None:
            await self._saving.checkpoints.close()
        await self._lane.close()
        await self._pool.close()
        await self._passes.close()
        await self._tunnels.close()
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
            "log_begins": self._ordering.base.index,
            "consensus": self._config.consensus,
            "writable": self._ordering.writable,
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
            **self._saved(),
        }

    def _saved(self) -> dict[str, Any]:
        """What /status tells of snapshots."""
        if self._saving is None:
            return {"snapshots": None}
        checkpoints, transfer = self._saving.checkpoints.statistics(), self._saving.transfer.statistics()
        return {"snapshots": {**checkpoints._asdict(), **transfer._asdict()}}


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
    if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
        log.error("out of file descriptors", what=context.get("message"))  # the loop tries again
        return
    log.critical("invariant broken", what=context.get("message"), exc_info=error)
    sys.stderr.flush()
    os._exit(Broken.exit_code)


def _all_descriptors() -> int:
    """Let this process open as many files as it is allowed to at all; return how many that are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


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
