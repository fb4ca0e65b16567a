"""A laboratory as a fixture: always taken down, and the replicas' logs shown when a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.faults.lab import Lab, running

LOG_LINES_SHOWN = 80


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Three replicas, each at its own node; the test is inside the clients' node."""
    with running(tmp_path) as cluster:
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of every replica's log to the report of a failure."""
    report = yield
    directory: Path | None = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and directory:
        for log in sorted(directory.glob("r*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
            report.sections.append((log.name, tail))
    return report
