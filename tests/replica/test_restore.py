"""Restoring: a copy begins with the newest snapshot that can be read, and with the log behind it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.replica.copies import Copy, Keeper, Mesh, bodies
from tests.replica.parts import MemoryOrdering, batch_of, command, free_address, until
from tests.storage.made import CLUSTER, made

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import Applier
from quorate.replica.checkpoints import Checkpoints, Schedule
from quorate.replica.drivers import DirectoryDriver
from quorate.replica.recovery import Recovery
from quorate.replica.restore import Restorer
from quorate.replica.service import ChildService
from quorate.replica.upstream import Upstream
from quorate.storage.snapshots import SnapshotStore
from quorate.types import Batch, ReplicaId, Slot


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEP_SECONDS", "TICK_SECONDS", "NEIGHBOUR_WATCH_SECONDS", "BACKOFF_SECONDS_MIN"):
        monkeypatch.setattr(limits, name, 0.005)
    monkeypatch.setattr(limits, "SNAPSHOT_TELL_SECONDS", 0.02)


@pytest.fixture
async def copy(tmp_path: Path) -> AsyncIterator[Copy]:
    copy = Copy(1, tmp_path, Mesh())
    yield copy
    await copy.close()


def damage(path: Path, place: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


async def test_a_killed_service_comes_back_from_the_snapshot_and_the_log_behind_it(copy: Copy) -> None:
    copy.run()
    copy.deliver(*range(1, 16))
    await copy.has_snapshot(10)
    await copy.ready(15)
    digest, kept = copy.applier.digest, list(copy.keeper.kept)
    await copy.process.kill()
    await until(lambda: not copy.recovery.ready)
    await copy.ready(15)
    assert copy.keeper.bodies() == bodies(11, 15)
    assert (copy.keeper.kept, copy.applier.digest, copy.applier.digest_complete) == (kept, digest, True)


async def test_a_restarted_sidecar_goes_on_from_its_snapshot(copy: Copy, tmp_path: Path) -> None:
    """With the table of sessions: what was answered before is not executed again."""
    copy.run()
    copy.deliver(*range(1, 16))
    await copy.has_snapshot(10)
    await copy.ready(15)
    await copy.close()
    copy.ordering.trim(copy.ordering.base_at(10))
    again = Copy(1, tmp_path, Mesh(), copy.ordering.log)
    again.ordering.base = copy.ordering.base
    again.run()
    again.deliver(3, 16)
    await again.ready(17)
    assert again.keeper.kept == [*copy.keeper.kept, b"16"]
    assert again.applied[-2].replayed
    assert again.applier.digest_complete
    await again.close()


async def test_a_damaged_snapshot_is_passed_over_for_the_older_one(copy: Copy) -> None:
    copy.run()
    for first in (1, 11):
        copy.deliver(*range(first, first + 10))
        await copy.has_snapshot(first + 9)
    damage(copy.store.held[0].path)
    await copy.process.kill()
    await until(lambda: not copy.recovery.ready)
    await copy.ready(20)
    assert copy.keeper.kept == bodies(1, 20)
    assert copy.keeper.bodies() == bodies(11, 20)


async def test_a_service_that_refuses_its_state_is_replaced_until_it_takes_it(copy: Copy) -> None:
    copy.run()
    copy.deliver(*range(1, 13))
    await copy.has_snapshot(10)
    await copy.ready(12)
    copy.keeper.refuse_put = 2
    await copy.process.kill()
    await until(lambda: copy.keeper.refuse_put == 0)
    await copy.ready(12)
    assert copy.keeper.puts == 3
    assert len(copy.process.lives) == 4
    assert copy.keeper.kept == bodies(1, 12)


async def test_another_driver_than_the_snapshots_restores_nothing(copy: Copy) -> None:
    made(copy.store, 5, b"state", driver="directory")
    copy.run()
    await until(lambda: len(copy.process.lives) >= 2)
    assert copy.keeper.puts == 0
    assert not copy.recovery.ready


async def test_a_session_table_that_is_nonsense_sets_its_snapshot_aside(copy: Copy) -> None:
    made(copy.store, 3, b"3\n1\n2\n3", [b"\0\0\0\1\xc1"])
    copy.deliver(*range(1, 6))
    copy.run()
    await copy.ready(5)
    assert copy.store.held == ()
    assert copy.keeper.kept == bodies(1, 5)


async def test_a_snapshot_beyond_the_known_order_becomes_its_beginning(tmp_path: Path) -> None:
    """As after a power cut: the snapshot was durable, the end of the log was not yet."""
    log = [batch_of(command(number)) for number in range(1, 31)]
    copy = Copy(1, tmp_path, Mesh(), log)
    copy.ordering.heard = 4
    snapshot = made(copy.store, 20, b"20\n" + b"\n".join(bodies(1, 20)))
    copy.run()
    await copy.ready(30)
    facts = snapshot.manifest.facts
    assert copy.ordering.installed == [(facts.base, facts.membership)]
    assert copy.keeper.kept == bodies(1, 30)
    await copy.close()


# --- contract --------------------------------------------------------------------------------------------------------


class Lasting(Keeper):
    """A contract service: what it keeps outlives its process."""

    async def start(self) -> None:
        kept, last = self.kept, self.last_index
        await super().start()
        self.kept, self.last_index = kept, last


@pytest.fixture
async def contract(tmp_path: Path) -> AsyncIterator[Copy]:
    copy = Copy(1, tmp_path, Mesh(), mode="contract", depth=1, keeper=Lasting())
    yield copy
    await copy.close()


async def test_a_contract_service_that_is_far_enough_needs_no_restore(contract: Copy, tmp_path: Path) -> None:
    contract.run()
    contract.deliver(*range(1, 16))
    await contract.has_snapshot(10)
    await contract.ready(15)
    await contract.close()
    again = Copy(1, tmp_path, Mesh(), contract.ordering.log, mode="contract", depth=1, keeper=contract.keeper)
    again.ordering.trim(again.ordering.base_at(10))
    again.run()
    again.deliver(3, 16)
    await again.ready(17)
    assert again.keeper.puts == 0
    assert again.keeper.kept == [*bodies(1, 15), b"16"]
    await again.close()


async def test_a_contract_service_behind_the_log_gets_the_snapshot(contract: Copy) -> None:
    contract.run()
    contract.deliver(*range(1, 16))
    await contract.has_snapshot(10)
    await contract.ready(15)
    contract.ordering.trim(contract.ordering.base_at(10))
    contract.keeper.kept, contract.keeper.last_index = bodies(1, 4), 4
    await contract.process.kill()
    await until(lambda: not contract.recovery.ready)
    await contract.ready(15)
    assert contract.keeper.puts == 1
    assert contract.keeper.kept == bodies(1, 15)
    assert contract.keeper.bodies() == bodies(11, 15)


# --- directory: a real process over real files -----------------------------------------------------------------------

APPENDS = """
import http.server, os, pathlib
file = pathlib.Path(os.environ["QUORATE_STATE_DIR"]) / "lines"
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with file.open("ab") as lines:
            lines.write(body + b"\\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Child:
    """A copy in state mode `directory`, whose service is a process of its own."""

    def __init__(self, place: Path, log: list[Batch] | None = None) -> None:
        address = free_address()
        self.lines = place / "state" / "lines"
        env = {"PORT": address.rpartition(":")[2], "QUORATE_STATE_DIR": str(place / "state")}
        command_ = (sys.executable, "-c", APPENDS)
        self.service = ChildService(
            command_, env, address, lambda: None, place / "state", place / "service.group", wipe=True
        )
        self.ordering = MemoryOrdering(log)
        self.lane = Upstream(address, HttpLimits(), 1)
        self.pool = Upstream(address, HttpLimits(), 4)
        self.applier = Applier(self.ordering, self.lane, 1, self.ordering.membership)
        self.ordering.on_delivered = self.applier.advance
        self.store = SnapshotStore(place / "snapshots", CLUSTER)
        driver = DirectoryDriver(place / "state")
        self.checkpoints = Checkpoints(self.applier, self.store, driver, CLUSTER, Schedule(ReplicaId(1), 10))
        restorer = Restorer(self.store, driver, self.ordering, _nobody)
        self.recovery = Recovery("directory", self.service, self.ordering, self.applier, self.lane, self.pool, restorer)
        self._running = asyncio.create_task(self.recovery.run())

    async def ready(self, index: int) -> None:
        await until(lambda: self.recovery.ready and self.applier.applied >= index)

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.checkpoints.close()
        await self.lane.close()
        await self.pool.close()


async def _nobody(_: Slot) -> None:
    raise AssertionError("nobody has a snapshot")


async def test_a_directory_is_restored_before_each_start_and_never_delivered_into(tmp_path: Path) -> None:
    """A killed process leaves half a write behind; so does one of an earlier sidecar."""
    child = Child(tmp_path)
    child.ordering.deliver(*(batch_of(command(number)) for number in range(1, 16)))
    await child.ready(15)
    await until(lambda: child.store.held)
    child.lines.write_bytes(b"half a wri")
    await child.service.end()
    await until(lambda: not child.recovery.ready)
    await child.ready(15)
    assert child.lines.read_bytes().split() == bodies(1, 15)
    await child.close()
    child.lines.write_bytes(b"half a wri")
    again = Child(tmp_path, child.ordering.log)
    again.ordering.trim(again.ordering.base_at(10))
    await again.ready(15)
    assert again.lines.read_bytes().split() == bodies(1, 15)
    await again.close()


async def test_without_a_snapshot_a_directory_begins_empty(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lines").write_bytes(b"of an earlier life\n")
    child = Child(tmp_path)
    child.ordering.deliver(batch_of(command(1)))
    await child.ready(1)
    assert child.lines.read_bytes() == b"1\n"
    await child.close()
