"""The last resort: one replica becomes its whole cluster, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.storage.spoiling import BALLOT, IDENTITY, files_no_larger_than, spoil, value

from quorate.consensus.core import Persist
from quorate.errors import IdentityRefused, Misuse, StorageBroken
from quorate.storage import Identity
from quorate.storage.identity import MARKER_NAME, Mode, claim
from quorate.storage.lmdb import LmdbStore
from quorate.storage.rescue import AUDIT_NAME, rescue
from quorate.types import NOOP, Membership, ReplicaId, Vote, founding

FOUNDING = founding({ReplicaId(n): f"10.0.0.{n}:4000" for n in (1, 2, 3)})
NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
ONE = ReplicaId(1)
ALONE = ((ONE, "10.0.0.1:4000"),)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The data of a replica that stopped with three open votes, one of them for a change of membership."""
    store = LmdbStore(tmp_path / "data", IDENTITY)
    change = Vote(BALLOT, Membership(1, FOUNDING.voters, (ReplicaId(4),), FOUNDING.addresses, ReplicaId(4)).batch())
    votes = [(1, value(1)), (2, value(2)), (3, value(3)), (4, change), (5, value(5))]
    store.commit([Persist(1, BALLOT, votes, 2)])
    store.close()
    return tmp_path / "data"


def test_the_survivor_is_the_cluster_and_keeps_its_votes(directory: Path) -> None:
    done = rescue(directory, IDENTITY, FOUNDING, NOW)
    assert done.before == FOUNDING
    assert done.after == Membership(1, (ONE,), (), ALONE, ReplicaId(3))
    assert (done.epoch, done.chosen, done.promised) == (2, 2, BALLOT)
    store = LmdbStore(directory, IDENTITY)
    assert store.identity.epoch == 2
    recovered = store.recover()
    assert recovered.membership == done.after
    own = Vote(BALLOT, done.after.batch())
    assert recovered.votes == {3: value(3), 4: Vote(BALLOT, NOOP), 5: value(5), 6: own}, "a joiner has to hear of it"
    assert (recovered.chosen, recovered.promised) == (2, BALLOT)
    store.close()


def test_the_membership_in_force_counts_and_ids_stay_given(directory: Path) -> None:
    members = Membership(7, (ONE, ReplicaId(5)), (), (*ALONE, (ReplicaId(5), "e:5")), ReplicaId(6))
    store = LmdbStore(directory, IDENTITY)
    store.commit([Persist(1, BALLOT, [], 5, members)])
    store.close()
    done = rescue(directory, IDENTITY, FOUNDING, NOW)
    assert (done.before, done.after) == (members, Membership(8, (ONE,), (), ALONE, ReplicaId(6)))


def test_each_rescue_is_a_line_that_tells_what_was_given_up(directory: Path) -> None:
    for _ in range(2):
        rescue(directory, IDENTITY, FOUNDING, NOW)
    lines = [json.loads(line) for line in (directory / AUDIT_NAME).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [2, 3]
    assert lines[0] == {
        "time": "2031-05-06T07:08:09+00:00",
        "cluster": "bank",
        "replica": 1,
        "epoch": 2,
        "chosen": 2,
        "promised": [1, 1],
        "before": {
            "version": 0,
            "voters": [1, 2, 3],
            "learners": [],
            "addresses": [[1, "10.0.0.1:4000"], [2, "10.0.0.2:4000"], [3, "10.0.0.3:4000"]],
            "last_id": 3,
        },
        "after": {"version": 1, "voters": [1], "learners": [], "addresses": [[1, "10.0.0.1:4000"]], "last_id": 3},
    }
    assert lines[1]["before"] == lines[0]["after"]


def test_an_asynchronous_store_is_rescued_too(tmp_path: Path) -> None:
    LmdbStore(tmp_path, IDENTITY, Mode.ASYNC).close()
    rescue(tmp_path, IDENTITY, FOUNDING, NOW)
    assert b'"boot": ""' in (tmp_path / MARKER_NAME).read_bytes()
    store = LmdbStore(tmp_path, IDENTITY, Mode.ASYNC)
    assert store.recover().membership == Membership(1, (ONE,), (), ALONE, ReplicaId(3))
    store.close()


class TestRefusals:
    def refused(self, directory: Path, error: type[Exception], match: str, identity: Identity = IDENTITY) -> None:
        with pytest.raises(error, match=match):
            rescue(directory, identity, FOUNDING, NOW)
        assert not (directory / AUDIT_NAME).exists()

    def test_nothing_there(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none", IdentityRefused, "holds no replica's data")
        self.refused(tmp_path, IdentityRefused, "holds no replica's data")

    def test_the_data_of_another(self, directory: Path) -> None:
        self.refused(directory, IdentityRefused, "belongs to replica 1", IDENTITY._replace(replica=ReplicaId(2)))

    def test_a_store_in_use(self, directory: Path) -> None:
        store = LmdbStore(directory, IDENTITY)
        self.refused(directory, IdentityRefused, "in use by process")
        store.close()

    def test_a_store_that_forgot(self, tmp_path: Path) -> None:
        claim(tmp_path, IDENTITY, Mode.MEMORY).close()
        self.refused(tmp_path, IdentityRefused, "forgot its votes")

    def test_a_damaged_log(self, directory: Path) -> None:
        spoil(directory, value(2))
        self.refused(directory, StorageBroken, "log is damaged at slot 2 - rescue another replica")

    def test_a_replica_that_was_removed(self, directory: Path) -> None:
        store = LmdbStore(directory, IDENTITY)
        rest = founding({ReplicaId(n): f"10.0.0.{n}:4000" for n in (2, 3)})
        store.commit([Persist(1, BALLOT, [], 2, rest)])
        store.close()
        self.refused(directory, Misuse, "replica 1 is no member of the cluster")


def test_without_room_for_the_audit_nothing_is_changed(directory: Path) -> None:
    (directory / AUDIT_NAME).write_bytes(b" " * 1_000_000)
    with files_no_larger_than(1_000_000), pytest.raises(StorageBroken, match="nothing was changed"):
        rescue(directory, IDENTITY, FOUNDING, NOW)
    store = LmdbStore(directory, IDENTITY)
    assert store.identity.epoch == 1
    assert store.recover().membership is None
    store.close()


PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from quorate.storage import Identity
from quorate.storage.rescue import rescue
from quorate.types import founding

rescue(Path(sys.argv[1]), Identity("bank", 1, 1), founding({n: f"{n}:1" for n in (1, 2, 3)}), datetime.now(UTC))
"""


def test_cut_short_it_leaves_a_replica_that_can_do_nothing_until_it_is_rescued_again(
    directory: Path, tmp_path: Path
) -> None:
    """Never is it alone in the epoch of the others, and what it did is always in the audit."""
    calls = "pwrite64,pwritev,writev,fdatasync,fsync,rename"
    stages = set()
    for nth in range(6, 18):
        copy = tmp_path / f"{nth}"
        subprocess.run(["cp", "-r", str(directory), str(copy)], check=True)
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        command = [*strace, "-e", f"inject={calls}:signal=SIGKILL:when={nth}", sys.executable, "-c", PROGRAM, str(copy)]
        subprocess.run(command, capture_output=True, timeout=30, check=False)
        store = LmdbStore(copy, IDENTITY)
        audited, epoch, alone = (copy / AUDIT_NAME).exists(), store.identity.epoch, store.recover().membership
        store.close()
        assert (audited, epoch == 2, alone is not None) in {
            (False, False, False),
            (True, False, False),
            (True, True, False),
            (True, True, True),
        }
        stages.add((audited, epoch == 2, alone is not None))
        rescue(copy, IDENTITY, FOUNDING, NOW)
    assert len(stages) >= 3
