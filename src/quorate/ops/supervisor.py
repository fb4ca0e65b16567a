"""`quorate run`: a whole cluster on one machine, kept alive until it is told to stop.

It gives every replica its ports, directory and settings file, starts one sidecar process each, restarts what dies,
watches their status, and answers for the whole on the admin listener. It decides nothing about requests or order: take
it away and the sidecars would go on, were they not told to end with it.

Stopping: the first SIGINT, SIGTERM or POST /stop asks every sidecar to drain; the second, or DRAIN_SECONDS_MAX, kills
what is left. `run` returns 0 after a clean drain, 1 when something had to be killed, and a sidecar's own exit code when
every replica ended for good by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from quorate import limits
from quorate.config import AppConfig, RunConfig, SidecarConfig
from quorate.errors import Misuse, QuorateError
from quorate.intercept.server import HttpServer
from quorate.ops import client, ports
from quorate.ops.changes import Changes
from quorate.ops.child import Child
from quorate.ops.control import Control
from quorate.ops.ports import HOST, PortPlan, ReplicaPorts
from quorate.ops.rundir import ClusterInfo, RunDirectory, RunInfo
from quorate.ops.view import Display
from quorate.strict_toml import dump


class Supervisor:
    """One run: its children, what is known of them, and its admin listener."""

    def __init__(self, run: RunConfig, directory: RunDirectory, display: Display) -> None:
        """Claim the directory and the ports; raises IdentityRefused, StorageBroken, NetworkRefused or Misuse."""
        refuse_missing_program(run.command)
        directory.claim()
        self._cluster = directory.cluster(run.replicas, run.storage, run.consensus)
        plan = ports.plan(run, self._cluster.members)
        self._shared_port = ports.reserve(plan.front)
        self._run = run
        self._directory = directory
        self._display = display
        self._front = plan.front
        self.configs = {f"r{c.replica}": c for c in sidecar_configs(run, plan, self._cluster, directory)}
        self.children = {name: self._child(name, config) for name, config in self.configs.items()}
        self.changes = Changes(self)
        self.info = RunInfo(
            os.getpid(), self._cluster.cluster, f"http://{HOST}:{plan.front}", f"http://{HOST}:{plan.admin}"
        )
        self._told: dict[str, dict[str, Any]] = {}
        self._heard: dict[str, int | None] = {}
        self._waiting: list[Callable[[], None]] = []
        self._asked = asyncio.Event()
        self._group: asyncio.TaskGroup
        self._supervising: set[asyncio.Task[None]] = set()
        self._seeing_off: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def run(self) -> int:
        """Run until stopped; returns the exit code."""
        server = HttpServer(Control(self))
        try:
            await server.listen(self.info.admin_url.removeprefix("http://"))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
            self._directory.publish(self.info)
            self._display.banner(self.info, self.rows())
            async with asyncio.TaskGroup() as group:
                self._group = group
                for child in self.children.values():
                    self._supervise(child)
                watch = group.create_task(self._watch())
                code = await self._until_ended()
                watch.cancel()
            self._display.update(self.rows())
        finally:
            server.close()
            self._directory.release()
            self._shared_port.close()
        return code

    def stop(self) -> None:
        """Drain; when draining already, kill what is left."""
        (self._stop_now if self._stop.is_set() else self._stop).set()

    def rows(self) -> list[dict[str, Any]]:
        """What is known of each replica: its sidecar's own status, corrected by what the supervisor knows better."""
        return [self._row(name, child) for name, child in self.children.items()]

    def status(self) -> dict[str, Any]:
        """The whole cluster."""
        return {
            "cluster": self.info.cluster,
            "url": self.info.url,
            "admin_url": self.info.admin_url,
            "pid": self.info.pid,
            "data_dir": str(self._directory.path),
            "replicas": self.rows(),
        }

    def when_fresh(self, then: Callable[[], None]) -> None:
        """Call `then` once every sidecar has been asked anew."""
        self._waiting.append(then)
        self._asked.set()

    # --- members that come and go (see `changes.Run`) -----------------------------------------------------------------

    def expect(self, number: int) -> SidecarConfig:
        """Put a newcomer on record, and return its settings."""
        peers = {key: address for config in self.configs.values() for key, address in config.peers.items()}
        each = ports.pick()
        config = sidecar_config(
            self._run,
            number,
            each,
            self._front,
            peers | {str(number): f"{HOST}:{each.peer}"},
            self._cluster,
            self._directory,
        )
        self._record([*self._cluster.members, number])
        return config

    def welcome(self, config: SidecarConfig) -> None:
        """Start a newcomer, unless it runs."""
        name = f"r{config.replica}"
        if name not in self.children:
            self.configs[name] = config
            self.children[name] = self._child(name, config)
            self._supervise(self.children[name])

    def dismiss(self, name: str) -> None:
        """Take a replica off the record, and end it if it runs."""
        self._record([number for number in self._cluster.members if f"r{number}" != name])
        self.configs.pop(name, None)
        self._told.pop(name, None)
        child = self.children.pop(name, None)
        if child is not None:
            self._seeing_off.add(task := self._group.create_task(_see_off(child)))
            task.add_done_callback(self._seeing_off.discard)

    def _record(self, members: list[int]) -> None:
        self._cluster = msgspec.structs.replace(self._cluster, members=sorted(members))
        self._directory.remember(self._cluster)

    def _supervise(self, child: Child) -> None:
        task = self._group.create_task(child.supervise())
        self._supervising.add(task)
        task.add_done_callback(self._supervising.discard)

    def _child(self, name: str, config: SidecarConfig) -> Child:
        file = self._directory.replica(name) / "sidecar.toml"
        file.write_text(dump(config))
        return Child(name, file, self._display)

    def _row(self, name: str, child: Child) -> dict[str, Any]:
        config = self.configs[name]
        known: dict[str, Any] = dict.fromkeys(("role", "leader", "applied", "lag", "digest", "app_pid"))
        told = self._told.get(name, {})
        if told.get("sidecar_pid", child.pid) != child.pid:  # the words of a sidecar that has died since
            told = {}
        row = known | {"state": "starting"} | told
        row |= {
            "name": name,
            "client_url": f"http://{config.client}",
            "admin_url": f"http://{config.admin}",
            "app_url": f"http://{config.app.address}",
            "sidecar_pid": child.pid,
            "starts": child.restarts + 1,
        }
        if child.state != "running":
            row |= {"state": child.state, "role": None, "app_pid": None}
        elif child.paused:
            row["state"] = "paused"
        return row

    async def _until_ended(self) -> int:
        await _first(self._stop.wait(), self._all_ended())
        if not self._stop.is_set():
            return max(child.exit_code or 0 for child in self.children.values())
        self._display.note("draining")
        for child in self.children.values():
            child.drain()
        await _first(self._stop_now.wait(), asyncio.sleep(limits.DRAIN_SECONDS_MAX), self._all_ended())
        left = [child for child in self.children.values() if child.pid is not None]
        for child in left:
            child.kill("both")
        return 1 if left else 0

    async def _all_ended(self) -> None:
        while self._supervising:
            await asyncio.wait(self._supervising)

    async def _watch(self) -> None:
        """Ask all sidecars, at least every STATUS_POLL_SECONDS, and at once when somebody waits for news."""
        pool = ThreadPoolExecutor(max_workers=limits.REPLICAS_MAX)
        try:
            while True:
                self._asked.clear()
                waiting, self._waiting = self._waiting, []
                await asyncio.gather(*(self._ask(pool, child) for child in tuple(self.children.values())))
                self._display.update(self.rows())
                for then in waiting:
                    then()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), limits.STATUS_POLL_SECONDS)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, pool: ThreadPoolExecutor, child: Child) -> None:
        name = child.name
        if child.paused or child.state != "running":
            return
        url = f"http://{self.configs[name].admin}/status"
        try:
            self._told[name] = await asyncio.get_running_loop().run_in_executor(pool, client.ask, url)
            self._heard[name] = child.pid
        except QuorateError:
            silent = "draining" if self._stop.is_set() else "silent"
            self._told[name] = {"state": silent if self._heard.get(name) == child.pid else "starting"}


def sidecar_configs(
    run: RunConfig, plan: PortPlan, cluster: ClusterInfo, directory: RunDirectory
) -> list[SidecarConfig]:
    """The settings of every sidecar of a run; makes the replicas' directories."""
    peers = {str(number): f"{HOST}:{each.peer}" for number, each in plan.replicas.items()}
    return [
        sidecar_config(run, number, each, plan.front, peers, cluster, directory)
        for number, each in plan.replicas.items()
    ]


def sidecar_config(
    run: RunConfig,
    number: int,
    each: ReplicaPorts,
    front: int,
    peers: dict[str, str],
    cluster: ClusterInfo,
    directory: RunDirectory,
) -> SidecarConfig:
    """The settings of one sidecar; makes its directory."""
    home = directory.replica(f"r{number}")
    (home / "app").mkdir(parents=True, exist_ok=True)
    app = AppConfig(
        address=f"{HOST}:{each.app}",
        command=[word.replace("{port}", str(each.app)) for word in run.command],
        pipeline=run.pipeline,
        state_dir=str(home / "app"),
    )
    return SidecarConfig(
        cluster=cluster.cluster,
        replica=number,
        peers=peers,
        founders=[founder for founder in cluster.founders if str(founder) in peers],
        consensus=run.consensus,
        epoch=cluster.epoch,
        data_dir=str(home / "data"),
        client=f"{HOST}:{each.client}",
        shared=f"{HOST}:{front}",
        admin=f"{HOST}:{each.admin}",
        storage=run.storage,
        state=run.state,
        app=app,
        snapshot=run.snapshot,
        routes=run.routes,
        http=run.http,
        request_seconds=run.request_seconds,
        loop=run.loop,
    )


def refuse_missing_program(command: list[str]) -> None:
    """Raise Misuse unless the service's program can be started."""
    if not command:
        raise Misuse("no service to run - command line", "end it with `-- CMD`, or set command in quorate.toml")
    if shutil.which(command[0]) is None:
        raise Misuse(f"no such program: {command[0]} - command line", "check the name, or give its path")


async def _see_off(child: Child) -> None:
    """Drain a replica that is a member no more; kill what is left of it in the end."""
    child.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limits.DRAIN_SECONDS_MAX):
            while child.pid is not None:
                await asyncio.sleep(limits.SWEEP_SECONDS)
    if child.pid is not None:
        child.kill("both")


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of `waits` has; the others are given up."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
