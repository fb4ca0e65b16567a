"""Tests that take `core` hold for every protocol."""

from __future__ import annotations

from typing import cast

import pytest
from tests.consensus.conversation import CoreType

from quorate import registry


@pytest.fixture(params=sorted(registry.CORES))
def core(request: pytest.FixtureRequest) -> CoreType:
    return cast(CoreType, registry.resolve(registry.CORES, request.param))
