"""Single flipped bits, anywhere: a log is used as it was, or repaired, or refused, and never silently wrong.

LMDB alone returned wrong bytes for 48 of 60 flips (FAULTS.md §0.1).
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.storage.spoiling import BALLOT, IDENTITY, flip, rewriting, spoil, value

from quorate.consensus.core import Persist, Recovered
from quorate.errors import IdentityRefused, Misuse, StorageBroken
from quorate.limits import LOG_TRIM_RECORDS_MAX
from quorate.storage.lmdb import LmdbStore
from quorate.types import Ballot, Base, Batch, ReplicaId, Vote, founding

BASE = Base(330, 7, BALLOT)
CHOSEN, LAST = 390, 398
MEMBERS = founding({ReplicaId(1): "a:1", ReplicaId(2): "b:2"})
EXPECTED = Recovered(BALLOT, {slot: value(slot) for slot in range(CHOSEN + 1, LAST + 1)}, CHOSEN, BALLOT, BASE, MEMBERS)
PREFIX = range(BASE.slot + 1, CHOSEN + 1)
PAGE = 4096
"""Of LMDB, where the flips are counted by the kind of page."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of many commits, with a membership, partly trimmed: some records below the base are still there."""
    directory = tmp_path_factory.mktemp("filled") / "data"
    store = LmdbStore(directory, IDENTITY)
    for slot in range(1, LAST + 1):
        store.commit([Persist(slot, BALLOT, [(slot, value(slot))], min(max(0, slot - 8), CHOSEN))])
    store.commit([Persist(LAST + 1, BALLOT, [], CHOSEN, MEMBERS, BASE)])
    store.close()
    with rewriting(directory) as txn:
        assert txn.stat()["entries"] == LAST - LOG_TRIM_RECORDS_MAX + 2
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """A copy of that log, to be spoilt."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


def outcome(directory: Path, written_since: Sequence[Vote] = ()) -> str:
    """Open a log, repair what it says is damaged, and compare what it holds; of what was written since, all or none."""
    try:
        store = LmdbStore(directory, IDENTITY)
    except (StorageBroken, IdentityRefused):
        return "refused"
    try:
        damaged = store.damaged
        for slot in damaged:
            store.repair(slot, value(slot))
        votes = store.read(PREFIX[0], LAST, 1 << 30)
        recovered = store.recover()
        more = [recovered.votes.pop(slot) for slot in list(recovered.votes) if slot > LAST]
        whole = (recovered, votes) == (EXPECTED, [value(slot) for slot in range(PREFIX[0], LAST + 1)])
        whole = whole and list(store.counts(PREFIX[0], CHOSEN)) == [1] * len(PREFIX)
        whole = whole and more in ([], written_since)
    finally:
        store.close()
    if not whole:
        return "silently wrong"
    return "repaired" if damaged else "harmless"


def kinds_of_bytes(data: bytes) -> dict[str, list[int]]:
    """Return where in LMDB's file the bytes are of which everything else hangs."""
    kinds: defaultdict[str, list[int]] = defaultdict(list)
    for start in range(0, len(data), PAGE):
        number, _, flags, lower, upper = struct.unpack_from("=QHHHH", data, start)
        if number != start // PAGE or flags not in (1, 2, 4, 8):
            continue  # the middle of a record with pages of its own
        kind = {1: "branch", 2: "leaf", 4: "overflow", 8: "meta page"}[flags]
        kinds[f"{kind} header"] += range(start, start + 16)
        if flags == 8:
            kinds["meta page"] += range(start + 16, start + 152)
        elif flags in (1, 2):
            kinds[f"{kind} offsets"] += range(start + 16, start + 16 + lower)
            kinds[f"{kind} nodes"] += range(start + upper, start + PAGE)
    return kinds


def flips(data: bytes, rng: random.Random) -> Iterator[tuple[str, int]]:
    for kind, places in sorted(kinds_of_bytes(data).items()):
        for place in rng.sample(places, min(12, len(places))):
            yield kind, place * 8 + rng.randrange(8)
    for name, start in (("vote", value(CHOSEN - 1)), ("large vote", value(CHOSEN)), ("open vote", value(LAST))):
        at = data.rindex(start.batch.payload[:60])
        for place in range(at - 37, at + 3, 3):
            yield name, place * 8 + rng.randrange(8)
    for _ in range(60):
        yield "anywhere", rng.randrange(len(data) * 8)


def test_no_flipped_bit_yields_a_wrong_value(filled: Path, tmp_path: Path) -> None:
    rng = random.Random(27)
    bits = list(flips((filled / "log/data.mdb").read_bytes(), rng))

    def outcome_of(kind_and_bit: tuple[str, int]) -> tuple[str, str]:
        kind, bit = kind_and_bit
        copy = Path(shutil.copytree(filled, tmp_path / f"{bit}"))
        flip(copy / "log/data.mdb", bit)
        found = outcome(copy)
        shutil.rmtree(copy)
        return kind, found

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome_of, bits))
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for kind, found in outcomes:
        kinds[kind].add(found)
    assert {found for _, found in outcomes} == {"harmless", "repaired", "refused"}
    assert "repaired" in kinds["vote"] | kinds["large vote"]
    assert kinds["open vote"] <= {"refused", "harmless"}


class TestRepair:
    def test_the_slot_is_named_and_all_others_are_read(self, directory: Path) -> None:
        spoil(directory, value(350))
        store = LmdbStore(directory, IDENTITY)
        assert list(store.damaged) == [350]
        assert store.recover() == EXPECTED
        for _ in range(2):
            with pytest.raises(StorageBroken, match="log record of slot 350 is damaged"):
                store.read(350, 360, 1000)
            with pytest.raises(StorageBroken, match="log record of slot 350 is damaged"):
                list(store.counts(340, 360))
        assert store.read(345, 360, 1 << 30) == [value(slot) for slot in range(345, 350)]
        assert store.read(351, 352, 1 << 30) == [value(351), value(352)]
        with pytest.raises(Misuse, match="slot 351 is not damaged"):
            store.repair(351, value(351))
        store.close()

    def test_what_a_peer_sent_takes_its_place_for_good(self, directory: Path) -> None:
        """The peer may have voted for the same value at another ballot."""
        spoil(directory, value(350))
        other = Vote(Ballot(9, ReplicaId(3)), value(350).batch)
        store = LmdbStore(directory, IDENTITY)
        commits = store.commits
        store.repair(350, other)
        assert store.commits == commits + 1
        assert list(store.damaged) == []
        store.close()
        store = LmdbStore(directory, IDENTITY)
        assert list(store.damaged) == []
        assert store.read(349, 351, 1 << 30) == [value(349), other, value(351)]
        assert store.recover() == EXPECTED
        store.close()

    def test_unrepaired_slots_are_named_again(self, directory: Path) -> None:
        for slot in (340, 350, CHOSEN):
            spoil(directory, value(slot))
        store = LmdbStore(directory, IDENTITY)
        assert list(store.damaged) == [340, 350, CHOSEN]
        store.repair(350, value(350))
        store.commit([Persist(1, BALLOT, [(LAST + 1, value(LAST + 1))], CHOSEN + 1)])
        store.close()
        store = LmdbStore(directory, IDENTITY)
        assert list(store.damaged) == [340, CHOSEN]
        assert store.recover().chosen_ballot == BALLOT
        store.close()

    def test_what_is_trimmed_needs_no_repair(self, directory: Path) -> None:
        for slot in (300, 340, 350):
            spoil(directory, value(slot))
        store = LmdbStore(directory, IDENTITY)
        assert list(store.damaged) == [340, 350]
        store.commit([Persist(1, BALLOT, [], CHOSEN, base=BASE._replace(slot=340))])
        assert list(store.damaged) == [350]
        with pytest.raises(StorageBroken, match="slot 340 was trimmed"):
            store.read(340, 341, 1000)
        store.close()
        store = LmdbStore(directory, IDENTITY)
        assert list(store.damaged) == [350]
        store.repair(350, value(350))
        store.close()
        with rewriting(directory) as txn:
            assert txn.stat()["entries"] == LAST - 340 + 2
        assert LmdbStore(directory, IDENTITY).damaged == ()

    def test_damage_that_comes_to_light_later_ends_the_process_and_is_repaired_after(self, directory: Path) -> None:
        store = LmdbStore(directory, IDENTITY)
        spoil(directory, value(350))
        with pytest.raises(StorageBroken, match="slot 350 has a wrong checksum"):
            store.read(350, 350, 1000)
        with pytest.raises(StorageBroken, match="slot 350 has a wrong checksum"):
            store.commit([Persist(1, BALLOT, [], CHOSEN)])
        store.close()
        assert outcome(directory) == "repaired"

    def test_a_damaged_open_vote_is_refused(self, directory: Path) -> None:
        spoil(directory, value(CHOSEN + 2))
        with pytest.raises(StorageBroken, match=f"slot {CHOSEN + 2} has a wrong checksum - this replica must rejoin"):
            LmdbStore(directory, IDENTITY)


WRITE = """
import sys
from pathlib import Path
from quorate.consensus.core import Persist
from quorate.storage import Identity
from quorate.storage.lmdb import LmdbStore
from quorate.types import Ballot, Batch, Vote

chosen = int(sys.argv[2])
store = LmdbStore(Path(sys.argv[1]), Identity("bank", 1, 1))
promised = store.recover().promised
votes = [(slot, Vote(promised, Batch(1, b"x" * 3000))) for slot in range(chosen + 20, chosen + 30)]
for _ in range(10):
    store.commit([Persist(1, promised, votes, chosen)])
    store.commit([Persist(1, promised, [], chosen, last=chosen + 8)])
"""


def test_damage_that_reading_does_not_show_is_found_after_writing(filled: Path, tmp_path: Path) -> None:
    """LMDB trusts offsets and free pages: writing may spread such damage, or end the process, but not unnoticed."""
    rng = random.Random(28)
    kinds = kinds_of_bytes((filled / "log/data.mdb").read_bytes())
    written = [Vote(BALLOT, Batch(1, b"x" * 3000))] * 10
    for place in rng.sample(kinds["leaf header"] + kinds["leaf offsets"], 24):
        copy = Path(shutil.copytree(filled, tmp_path / f"{place}"))
        flip(copy / "log/data.mdb", place * 8 + rng.randrange(8))
        subprocess.run([sys.executable, "-c", WRITE, str(copy), str(CHOSEN)], capture_output=True, check=False)
        assert outcome(copy, written) in {"harmless", "repaired", "refused"}
        shutil.rmtree(copy)
