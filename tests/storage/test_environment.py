"""Where the log lies."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from quorate.limits import COUNTER_MAX, LOG_MAP_BYTES
from quorate.storage.environment import MEMBERSHIP_KEY, META_KEY, open_environment, slot_key


def test_keys_sort_as_slots_do_and_before_all_else() -> None:
    slots = [1, 2, 255, 256, 2**32, COUNTER_MAX]
    keys = [slot_key(slot) for slot in slots]
    assert [*keys, MEMBERSHIP_KEY, META_KEY] == sorted([META_KEY, MEMBERSHIP_KEY, *reversed(keys)])


def test_a_log_that_filled_its_map_can_grow_after_a_restart(tmp_path: Path) -> None:
    open_environment(tmp_path).close()
    os.truncate(tmp_path / "data.mdb", LOG_MAP_BYTES)  # sparse
    with open_environment(tmp_path) as env:
        assert env.info()["map_size"] == 2 * LOG_MAP_BYTES


def test_reading_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(lmdb.Error):
        open_environment(tmp_path, readonly=True)
    open_environment(tmp_path).close()
    (tmp_path / "lock.mdb").unlink()
    with open_environment(tmp_path, readonly=True) as env, pytest.raises(lmdb.ReadonlyError):
        env.begin(write=True)
    assert not (tmp_path / "lock.mdb").exists()
