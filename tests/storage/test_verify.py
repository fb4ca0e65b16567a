"""The scan in a child process: what it says, and how its own death is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.consensus.core import Persist
from quorate.errors import StorageBroken
from quorate.storage import Identity
from quorate.storage.identity import identity_tag
from quorate.storage.lmdb import LmdbStore
from quorate.storage.verify import verify, verify_in_child
from quorate.types import Ballot, Batch, ReplicaId, Vote

IDENTITY = Identity("bank", ReplicaId(1), 1)
TAG = identity_tag(IDENTITY)
SLOTS = 600
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    store = LmdbStore(tmp_path, IDENTITY)
    ballot = Ballot(1, ReplicaId(1))
    votes = [(slot, Vote(ballot, Batch(1, b"%d;" % slot * 1000))) for slot in range(1, SLOTS + 1)]
    store.commit([Persist(1, ballot, votes, SLOTS - 10)])
    store.close()
    return tmp_path / "log"


def test_a_whole_log_passes(log: Path) -> None:
    assert list(verify(log, TAG)) == list(range(1, SLOTS + 1))
    verify_in_child(log, TAG)


def test_the_command_line_answers_by_exit_code_and_one_line(log: Path) -> None:
    command = [sys.executable, "-m", "quorate.storage.verify", str(log), str(TAG + 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == StorageBroken.exit_code
    assert done.stdout == "meta record of the log is of another replica, cluster or release\n"
    assert done.stderr == ""


def test_a_page_past_the_end_kills_only_the_child_which_told_how_far_it_was(log: Path) -> None:
    with (log / "data.mdb").open("r+b") as file:
        record = file.read().index(b"590;" * 100)
        file.truncate(record - record % PAGE)
    with pytest.raises(StorageBroken, match=r"unreadable or truncated past slot 513 \(signal 7\)"):
        verify_in_child(log, TAG)


def test_no_log_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageBroken):
        verify_in_child(tmp_path, TAG)
