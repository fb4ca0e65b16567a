"""What single flipped bits do to a stored log: never a wrong word (FAULTS.md §2 rows 22, 27 and 28)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from tests.faults.damage import Outcome, examine, make_log, outcomes
from tests.faults.known_log import IDENTITY, Known

from quorate.storage.lmdb import LmdbStore

SEED = 1
FLIPS = 56
KINDS = {"branch page", "commit counter", "identity marker", "leaf page", "meta page", "overflow page"}


def test_no_flipped_bit_makes_a_store_say_what_was_never_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    make_log(log, SEED)
    found = Counter(outcomes(log, tmp_path, SEED, FLIPS, random.Random(SEED)))
    assert {kind for kind, _ in found} >= KINDS
    seen = {outcome for _, outcome in found}
    assert Outcome.WRONG not in seen, found
    assert {Outcome.IDENTITY_REFUSED, Outcome.STORAGE_REFUSED, Outcome.REPAIRED, Outcome.HARMLESS} <= seen, found


def test_a_log_unhurt_is_found_so(tmp_path: Path) -> None:
    make_log(tmp_path, SEED)
    with pytest.raises(SystemExit) as end:
        examine(tmp_path, SEED)
    assert end.value.code == Outcome.HARMLESS


def test_a_log_of_other_content_is_found_wrong(tmp_path: Path) -> None:
    make_log(tmp_path, SEED + 1)
    with pytest.raises(SystemExit) as end:
        examine(tmp_path, SEED)
    assert end.value.code == Outcome.WRONG


def test_a_fresh_store_is_known_to_hold_nothing(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, IDENTITY)
    try:
        assert Known.told_by(store, {}) == Known()
    finally:
        store.close()
