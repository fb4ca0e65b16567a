from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.intercept.doors import Door, open_door


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    opened = await open_door()
    yield opened
    opened.server.close()
