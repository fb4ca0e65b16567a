"""Directories that servers may enter which don't run as we do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.process import workspace


@pytest.fixture
def directory() -> Iterator[Path]:
    with workspace() as path:
        yield path
