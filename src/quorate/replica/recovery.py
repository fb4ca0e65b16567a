"""Recovery: bringing the service up, back and up to date; the same line as a request's, started at "deliver".

One cycle: get a service whose position is known (fresh, restored from a snapshot, or telling its own last index),
replay the log to it from there, and be ready once it has applied a read barrier that was asked for meanwhile: what the
cluster answered before is then in it. When the service dies, hangs, or a call's fate can't be told, or a peer's
snapshot leads further than the log, the cycle begins again; there is no re-delivery into a service of which it is not
known how far it got.

Readiness also ends while the copy lags too far behind, so that clients are not made to wait for it; the cluster does
not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec
import structlog

from quorate import limits
from quorate.ordering import Ordering
from quorate.replica.apply import Applier
from quorate.replica.reads import BAD_UPSTREAM
from quorate.replica.restore import RestoreFailed, Restorer
from quorate.replica.service import Service
from quorate.replica.upstream import Answer, CallFailed, Fate, Upstream
from quorate.storage.snapshots import Snapshot
from quorate.types import Index, Outcome, Slot

log = structlog.get_logger(room="replica")

StateMode = Literal["volatile", "contract", "directory"]
State = Literal["starting", "replaying", "ready", "lagging", "down"]

LAST_INDEX_CALL = b"GET /last-index HTTP/1.1\r\nHost: service\r\n\r\n"


class LastIndex(msgspec.Struct, frozen=True):
    """What a contract service answers to GET /last-index (SEEDS.md S1)."""

    index: int


class Recovery:
    """Keeps one copy of the service up and caught up; `on_ready` is told whenever `ready` may have changed.

    Without a `restorer` there are no snapshots, and the log is kept whole.
    """

    def __init__(
        self,
        mode: StateMode,
        service: Service,
        ordering: Ordering,
        applier: Applier,
        lane: Upstream,
        pool: Upstream,
        restorer: Restorer | None = None,
    ) -> None:
        self._state: State = "starting"
        self.on_ready: Callable[[bool], None] = lambda ready: None
        self._mode = mode
        self._service = service
        self._ordering = ordering
        self._applier = applier
        self._lane = lane
        self._pool = pool
        self._restorer = restorer
        self._choosing = True
        """The snapshot to begin with is being chosen or restored: another one comes too late for this cycle."""
        self._overtaken = asyncio.Event()
        """A snapshot came that leads further than this copy."""
        self._failed: asyncio.Queue[CallFailed] = asyncio.Queue(maxsize=1)
        self._loop = asyncio.get_running_loop()
        self._awake_at = self._loop.time()
        """When the event loop was last seen to turn; a gap means that the process was paused or starved."""
        applier.on_trouble = self._failed.put_nowait

    @property
    def state(self) -> State:
        """Where this copy stands. One that was asleep lags, until it has looked around."""
        asleep = self._loop.time() - self._awake_at > limits.STALL_SECONDS_MAX
        return "lagging" if self._state == "ready" and asleep else self._state

    @property
    def ready(self) -> bool:
        """Whether this copy may serve clients."""
        return self.state == "ready"

    @property
    def lag(self) -> int:
        """Commands ordered and not applied here, and slots known to be chosen elsewhere and not known here."""
        order = self._ordering.status()
        return order.last_index - self._applier.applied + max(0, order.point_known - order.point)

    def begin_again(self) -> None:
        """Start over from the newest snapshot, for it leads further than going on; say it again until it helped."""
        if not self._choosing:
            self._overtaken.set()

    async def run(self) -> None:
        """Recover for ever; ends by being cancelled."""
        try:
            while True:
                await self._cycle()
                self._enter("down")
                self._applier.stop()
                self._lane.reset()
                self._pool.reset()
                await self._service.end()
                while not self._failed.empty():
                    self._failed.get_nowait()
        finally:
            self._applier.stop()
            await self._service.close()

    # --- one cycle ---------------------------------------------------------------------------------------------------

    async def _cycle(self) -> None:
        """From a service to be started up to its end."""
        while not await self._settled():
            await asyncio.sleep(limits.BACKOFF_SECONDS_MIN)
        self._enter("replaying")
        self._applier.replaying = True
        self._applier.start()
        catching_up = asyncio.create_task(self._catch_up())
        dying = asyncio.create_task(self._service.wait_ended())
        failing = asyncio.create_task(self._unbearable_failure())
        overtaken = asyncio.create_task(self._overtaken.wait())
        tasks = (catching_up, dying, failing, overtaken)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            why = "a snapshot leads further" if overtaken.done() else "the service has ended"
            why = failing.result() if failing.done() else why
            log.warning("service is rebuilt", why=why, applied=self._applier.applied)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settled(self) -> bool:
        """Get a service whose place in the log is known; False if that failed and has to be tried again."""
        self._overtaken.clear()
        self._choosing = True
        try:
            return await self._position()
        except RestoreFailed as error:
            log.error("service can't be restored", why=str(error))
            await self._service.end()
            return False
        finally:
            self._choosing = False

    async def _position(self) -> bool:
        snapshot = None if self._restorer is None else await self._restorer.newest()
        if self._mode != "contract":
            await self._rebuild(snapshot)
            return True
        last = None
        while last is None:
            await self._service.wait_listening()
            last = await self._last_index()
        if snapshot is not None and last < snapshot.index:
            await self._rebuild(snapshot)
            return True
        if last < self._applier.applied or (snapshot is not None and self._applier.applied < snapshot.index):
            await self._remember(snapshot)
        self._choosing = False
        while self._ordering.status().last_index < last:
            if self._overtaken.is_set():
                return False
            await asyncio.sleep(limits.SWEEP_SECONDS)
        self._applier.pass_over(last)
        return True

    async def _rebuild(self, snapshot: Snapshot | None) -> None:
        """Start a service that holds nothing but the state of the snapshot, if there is one."""
        restorer = self._restorer
        if snapshot is None or restorer is None:
            await self._service.start_fresh()
        elif restorer.offline:
            await self._service.start_fresh(lambda: restorer.restore(snapshot))
        else:
            await self._service.start_fresh()
            await restorer.restore(snapshot)
        await self._remember(snapshot)

    async def _remember(self, snapshot: Snapshot | None) -> None:
        """Have the applier stand where the snapshot was taken."""
        if snapshot is None or self._restorer is None:
            self._applier.forget()
        else:
            self._applier.load(snapshot.manifest.facts, await self._restorer.sessions(snapshot))

    async def _last_index(self) -> Index | None:
        """Ask a contract service how far it got; None if it does not say."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._lane.call(LAST_INDEX_CALL, b"GET", on_answer)
        answer = await answered
        if isinstance(answer, CallFailed) and answer.fate is Fate.SILENT:
            await self._service.end()
        with contextlib.suppress(msgspec.MsgspecError):
            if isinstance(answer, Outcome) and answer.status == 200:
                return msgspec.json.decode(answer.body, type=LastIndex).index
        log.warning("no usable answer to GET /last-index", answer=str(answer)[:200])
        await asyncio.sleep(limits.BACKOFF_SECONDS_MIN)
        return None

    async def _catch_up(self) -> None:
        """Become ready after a barrier, and again each time that this copy fell behind."""
        while True:
            target = await self._barrier()
            while self._applier.point < target or self.lag > limits.LAG_MAX // 2:
                await asyncio.sleep(limits.TICK_SECONDS)
            self._applier.replaying = False
            self._awake_at = self._loop.time()
            self._enter("ready")
            while self.ready and self.lag <= limits.LAG_MAX:
                self._awake_at = self._loop.time()
                await asyncio.sleep(limits.SWEEP_SECONDS)
            self._enter("lagging")

    async def _barrier(self) -> Slot:
        reached: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()

        def on_barrier(point: Slot) -> None:
            if not reached.done():
                reached.set_result(point)

        self._ordering.read_barrier(on_barrier)
        return await reached

    async def _unbearable_failure(self) -> str:
        """Judge failed calls; return why the service must be rebuilt, once one can't be settled otherwise."""
        while True:
            failed = await self._failed.get()
            index = self._applier.current_index
            if failed.fate in (Fate.REFUSED, Fate.SILENT) or await self._service.has_ended():
                return failed.why
            if self._applier.in_flight > 1 or (failed.fate is Fate.LOST and self._applier.alone != index):
                # It, or those behind it, may have been executed or not. Alone on a rebuilt service it will show.
                self._applier.alone = index
                return failed.why
            log.warning("bad answer recorded as 502", index=index, why=failed.why)
            self._applier.settle(BAD_UPSTREAM)

    def _enter(self, state: State) -> None:
        self._state = state
        log.info("state", state=state, applied=self._applier.applied, lag=self.lag)
        self.on_ready(self.ready)
