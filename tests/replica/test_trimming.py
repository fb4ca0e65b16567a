"""Trimming: behind the older of two snapshots, and behind those of members that are heard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.replica.parts import MemoryOrdering, batch_of, command
from tests.storage.made import CLUSTER, made

from quorate import limits
from quorate.replica.trimming import Trimmer, trim_point
from quorate.storage.snapshots import SnapshotStore
from quorate.types import ReplicaId, Slot


@pytest.mark.parametrize(
    ("own", "live", "point"),
    [
        ((), (), 0),
        ((50,), (), 0),
        ((50, 40), (), 40),
        ((50, 40), (45, 60), 40),
        ((50, 40), (45, 30), 30),
        ((50, 40), (45, 0), 0),
    ],
)
def test_the_point_is_behind_the_older_snapshot_and_everybodys(
    own: tuple[Slot, ...], live: tuple[Slot, ...], point: Slot
) -> None:
    assert trim_point(own, live) == point


@pytest.fixture
def ordering() -> MemoryOrdering:
    return MemoryOrdering([batch_of(command(2 * n), command(2 * n + 1)) for n in range(100)])


def trimmer(ordering: MemoryOrdering, directory: Path, live: Mapping[ReplicaId, Slot], point: Slot = 100) -> Trimmer:
    store = SnapshotStore(directory, CLUSTER)
    for slot in (40, 50):
        made(store, slot, index=2 * slot)
    return Trimmer(ordering, store, lambda: point, lambda: live)


def test_the_log_is_trimmed_once(ordering: MemoryOrdering, tmp_path: Path) -> None:
    live = {ReplicaId(2): 45, ReplicaId(3): 30}
    one = trimmer(ordering, tmp_path, live)
    one.look()
    assert (ordering.base.slot, ordering.base.index) == (30, 60)
    one.look()
    live[ReplicaId(3)] = 60
    one.look()
    assert ordering.base.slot == 40


def test_who_is_no_member_holds_nothing_back(ordering: MemoryOrdering, tmp_path: Path) -> None:
    trimmer(ordering, tmp_path, {ReplicaId(4): 10}).look()
    assert ordering.base.slot == 40


def test_a_fetched_snapshot_that_is_not_applied_yet_does_not_count(ordering: MemoryOrdering, tmp_path: Path) -> None:
    trimmer(ordering, tmp_path, {}, point=45).look()
    assert ordering.base.slot == 0


async def test_a_log_that_nothing_trims_is_warned_of_as_it_grows(
    ordering: MemoryOrdering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_ENTRIES_WARN", 150)
    one = Trimmer(ordering, None, lambda: 0, dict)
    with capture_logs() as logs:
        for length in (100, 100, 199, 200, 200):
            ordering.log = [batch_of(command(2 * n), command(2 * n + 1)) for n in range(length)]
            one.look()
    assert [line["entries"] for line in logs] == [200, 400]
    assert ordering.base.slot == 0
