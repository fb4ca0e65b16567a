"""The lower bound of the number of commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.errors import StorageBroken
from quorate.storage.counter import CommitCounter


def test_it_remembers(tmp_path: Path) -> None:
    path = tmp_path / "commits"
    for create, before, after in ((True, 0, 7), (True, 7, 2**40), (False, 2**40, 2**40)):
        counter = CommitCounter(path, create=create)
        assert counter.value == before
        counter.write(after)
        counter.close()


def test_every_flipped_bit_and_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "commits"
    counter = CommitCounter(path, create=True)
    counter.write(77)
    counter.close()
    whole = path.read_bytes()
    spoilt = [bytes(b ^ (bit // 8 == n) << bit % 8 for n, b in enumerate(whole)) for bit in range(len(whole) * 8)]
    for data in [*spoilt, *(whole[:size] for size in range(1, len(whole)))]:
        path.write_bytes(data)
        with pytest.raises(StorageBroken, match="commits: damaged"):
            CommitCounter(path, create=False)


def test_one_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CommitCounter(tmp_path / "commits", create=False)
