"""The memory of peers' disks: what it refuses, and that it is on disk."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.transport.host import HELLO, PEER

from quorate.errors import StorageBroken
from quorate.transport.acquaintances import FILE_NAME, Acquaintances, Unwelcome
from quorate.types import ReplicaId
from quorate.wire import Hello, Refusal


def hello(**changes: object) -> Hello:
    return msgspec.structs.replace(HELLO, **changes)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"store": b"another"}, Refusal.OTHER_STORE),
        ({"store": b"another", "life": 9, "commits": 99}, Refusal.OTHER_STORE),
        ({"life": 4}, Refusal.ROLLED_BACK),
        ({"life": 9, "commits": 0}, Refusal.ROLLED_BACK),
        ({"life": 6, "commits": 49}, Refusal.ROLLED_BACK),
        ({"nonce": b"another"}, Refusal.TWIN),
    ],
    ids=str,
)
def test_less_than_before_is_refused_again_and_again(
    tmp_path: Path, changes: dict[str, object], refusal: Refusal
) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    for memory in (acquaintances, acquaintances, Acquaintances(tmp_path)):
        with pytest.raises(Unwelcome) as refused:
            memory.meet(hello(**changes))
        assert refused.value.refusal == refusal


@pytest.mark.parametrize(
    "changes",
    [{"life": 6, "nonce": b"another"}, {"life": 9, "commits": 99, "nonce": b"another"}],
    ids=str,
)
def test_as_much_or_more_is_welcome_and_counts_from_then_on(tmp_path: Path, changes: dict[str, object]) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    acquaintances.meet(HELLO)
    acquaintances.meet(hello(**changes))
    acquaintances.save()
    with pytest.raises(Unwelcome):
        Acquaintances(tmp_path).meet(HELLO)


def test_within_a_life_an_older_word_is_no_loss_and_is_not_believed(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    acquaintances.meet(hello(commits=49))
    with pytest.raises(Unwelcome):
        acquaintances.meet(hello(life=6, commits=49))


def test_peers_are_told_apart(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    acquaintances.meet(hello(sender=3, store=b"another", life=1))
    with pytest.raises(Unwelcome):
        acquaintances.meet(hello(store=b"another", life=6))


def test_a_new_peer_is_on_disk_at_once_and_commits_when_saved(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    acquaintances.heard(PEER, 60)
    acquaintances.heard(PEER, 55)
    Acquaintances(tmp_path).meet(hello(life=6))
    acquaintances.save()
    with pytest.raises(Unwelcome, match="50 commits in its store, after 60"):
        Acquaintances(tmp_path).meet(hello(life=6))


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    (tmp_path / FILE_NAME).unlink()
    acquaintances.save()
    assert not (tmp_path / FILE_NAME).exists()


def test_who_went_is_forgotten_and_not_who_is_to_come(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path)
    acquaintances.meet(HELLO)
    acquaintances.meet(hello(sender=3))
    acquaintances.meet(hello(sender=4))
    acquaintances.forget(ReplicaId(3), but={ReplicaId(3)})
    acquaintances.save()
    assert list(msgspec.json.decode((tmp_path / FILE_NAME).read_bytes())["peers"]) == ["3", "4"]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    Acquaintances(tmp_path).meet(HELLO)
    file = tmp_path / FILE_NAME
    data = file.read_bytes()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(StorageBroken, match=FILE_NAME):
            Acquaintances(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 50])
def test_a_cut_file_is_found(tmp_path: Path, size: int) -> None:
    Acquaintances(tmp_path).meet(HELLO)
    os.truncate(tmp_path / FILE_NAME, size)
    with pytest.raises(StorageBroken, match="damaged"):
        Acquaintances(tmp_path)


def test_a_disk_that_refuses_is_logged_and_tried_again(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path)
    draft = (tmp_path / FILE_NAME).with_name(FILE_NAME + ".new")
    draft.mkdir()
    with capture_logs() as logs:
        acquaintances.meet(HELLO)
    assert [entry["event"] for entry in logs] == ["what peers told can't be saved"]
    draft.rmdir()
    acquaintances.save()
    assert (tmp_path / FILE_NAME).exists()
