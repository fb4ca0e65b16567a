from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.ordering.cluster import Cluster, in_memory, on_disk

from quorate import limits


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores count ticks; elections need not take as long as they should in earnest."""
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.03)


@pytest.fixture(params=["memory", "disk"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Three replicas, not started; on `disk` those that stop may start again."""
    open_store = in_memory if request.param == "memory" else on_disk(request.getfixturevalue("tmp_path"))
    cluster = Cluster(open_store)
    yield cluster
    await cluster.stop()
