"""The verdict on a run: the invariants I1 to I8 of the fault model, from what clients saw and what disks hold.

I1  no acknowledged write is lost         the counter ends where the answered writes lead it
I2  the history is linearizable           quorate.sim.checker, over reads and writes
I3  one value per slot                    the logs are compared slot by slot
I4  applied sequences agree               the logs again, and the digests, which chain every applied entry
I5  equal state at equal index            the digests, and each copy of the service asked past its sidecar
I6  a request takes effect once           the writes' answers are the running sums of their amounts, without a gap
I7  progress after healing                `Load.wait_progress`, within PROGRESS_SECONDS_MAX
I8  no crash nobody meant                 the logs of all processes
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from tests.faults.lab import Lab
from tests.faults.load import Load

from quorate.errors import StorageBroken
from quorate.limits import ELECTION_TICKS_MAX, TICK_SECONDS
from quorate.sim.checker import Counter, Operation, check
from quorate.storage import Identity
from quorate.storage.lmdb import LmdbStore
from quorate.types import Batch, ReplicaId, Slot

PROGRESS_SECONDS_MAX = 10 * ELECTION_TICKS_MAX * TICK_SECONDS
READ_BYTES = 1024 * 1024


class Figures(NamedTuple):
    """What a run amounted to."""

    writes: int
    reads: int
    seconds: float
    longest_gap_seconds: float


def judge(lab: Lab, load: Load, began_at: int = 0) -> Figures:
    """Stop the load, let the replicas settle and check I1, I2 and I4 to I8; the counter began at `began_at`."""
    load.stop()
    lab.settled()
    judge_history(load, began_at, lab.values())
    troubles = lab.troubles()
    assert not troubles, "\n".join(troubles)
    writes = load.writes()
    return Figures(len(writes), len(load.history) - len(writes), load.seconds, load.longest_gap())


def judge_history(load: Load, began_at: int, values: dict[str, int]) -> None:
    """Check what clients saw against itself and against the `values` that were read in the end."""
    writes = load.writes()
    assert writes, "nothing was written: the run proves nothing"
    end = running_sum(writes, began_at)
    assert set(values.values()) == {end}, f"the answered writes lead to {end}, but {values}"
    verdict = check(load.history, Counter(began_at))
    assert verdict.linearizable, verdict.reason


def running_sum(writes: list[Operation], began_at: int) -> int:
    """Return where the writes lead the counter; their answers must be all of the sums on the way, each once."""
    value = began_at
    for write in sorted(writes, key=lambda write: int(str(write.answer))):
        value += write.action.amount  # type: ignore[attr-defined]  # Load.writes returns nothing but Add
        assert write.answer == value, f"{write} follows {value}: a write was lost, or took effect twice"
    return value


def judge_disks(lab: Lab, *doubtful: int) -> int:
    """Stop all that runs, in good order, and compare their logs slot by slot (I3, I4); returns the slots compared.

    The log of a replica that is `doubtful` may be refused when it is opened.
    """
    running = lab.running()
    lab.drain()
    logs = []
    for number in running:
        try:
            logs.append(chosen(lab, number))
        except StorageBroken:
            assert number in doubtful
    for one, other in itertools.combinations(logs, 2):
        for slot in one.keys() & other.keys():
            assert one[slot] == other[slot], f"slot {slot} holds two values"
    return max(map(len, logs))


def chosen(lab: Lab, number: int) -> dict[Slot, Batch]:
    """Return what a stopped replica's log holds as chosen, by slot."""
    store = LmdbStore(lab.data(number), Identity("faults", ReplicaId(number), 1))
    try:
        recovered = store.recover()
        found: dict[Slot, Batch] = {}
        first = recovered.base.slot + 1
        while first <= recovered.chosen:
            for vote in store.read(first, recovered.chosen, READ_BYTES):
                found[first] = vote.batch
                first += 1
        return found
    finally:
        store.close()
