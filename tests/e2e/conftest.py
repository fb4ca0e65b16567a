"""Clusters as fixtures: always stopped, and their logs shown when a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import COUNTERS, Cluster, Clusters


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[Clusters]:
    started = Clusters(tmp_path)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(params=COUNTERS)
def counter(request: pytest.FixtureRequest, clusters: Clusters) -> Cluster:
    """Three counters of one kind, for one test."""
    return clusters.start(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of the log of every cluster in use to the report of a failure."""
    report = yield
    if report.failed:
        for fixture in getattr(item, "funcargs", {}).values():
            for cluster in fixture.started if isinstance(fixture, Clusters) else ():
                report.sections.append((f"log of {cluster.directory.name}", cluster.log_tail()))
    return report
