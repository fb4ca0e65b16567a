from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.ordering.cluster import Cluster, in_memory, on_disk

from quorate import limits, registry


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores count ticks; elections need not take as long as they should in earnest."""
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.03)


@pytest.fixture(params=sorted(registry.CORES))
def core(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["memory", "disk"])
async def cluster(request: pytest.FixtureRequest, core: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three replicas, not started; on `disk` those that stop may start again."""
    cluster = Cluster(tmp_path, in_memory if request.param == "memory" else on_disk, core=core)
    yield cluster
    await cluster.stop()


@pytest.fixture
async def durable(core: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three replicas on disk, not started."""
    cluster = Cluster(tmp_path, on_disk, core=core)
    yield cluster
    await cluster.stop()
