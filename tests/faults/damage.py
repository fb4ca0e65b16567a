"""Flips one bit of a stored log whose content is known, and classes what comes of it.

The one outcome that must never be is `WRONG`: the store opens and says something that was never written. A store that
opens in spite of the flip is written to and opened again, since a flip in LMDB's list of free pages shows only then.
Each is examined in a process of its own, for damage may take LMDB to where no page is.
"""

from __future__ import annotations

import enum
import itertools
import multiprocessing
import random
import shutil
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.known_log import IDENTITY, Known, carry_out, known_after, script

from quorate.errors import IdentityRefused, StorageBroken
from quorate.storage.environment import DATA_NAME
from quorate.storage.identity import MARKER_NAME, STORE_NAME
from quorate.storage.lmdb import LmdbStore

COMMITS = 60
"""Enough for a tree of two levels, free pages, and records of each size."""
COMMITS_AFTER = 12
SECONDS_MAX = 60.0

PAGE_BYTES = 4096
PAGE_HEADER = struct.Struct("<QHHHH")
"""LMDB 0.9: page number, padding, flags, and the bounds of free space, in place of which overflow pages are counted."""
META_BYTES = 152
"""Of a meta page; the rest is never read."""
PAGE_KINDS = {0x01: "branch page", 0x02: "leaf page", 0x04: "overflow page", 0x08: "meta page"}


class Stretch(NamedTuple):
    """Bytes that belong together: a page's, or a small file's."""

    file: Path
    """Below the data directory."""
    offsets: Sequence[int]


class Outcome(enum.IntEnum):
    """What came of a flip; the values are exit codes."""

    HARMLESS = 0
    """Nothing that is read was hit."""
    REPAIRED = 99
    """The store named the slots that were hit, and was right once it was given them again."""
    IDENTITY_REFUSED = IdentityRefused.exit_code
    STORAGE_REFUSED = StorageBroken.exit_code
    WRONG = 100
    """The store says what was never written."""
    DIED = 101
    """LMDB took the process down; what a replica's next start finds decides."""


def make_log(directory: Path, seed: int) -> None:
    """Make the log that is to be damaged."""
    carry_out(directory, seed, COMMITS)


def places(directory: Path) -> dict[str, list[Stretch]]:
    """Return what may be hit, by class: the kinds of LMDB's pages, and the small files."""
    found: dict[str, list[Stretch]] = defaultdict(list)
    for kind, file in (("identity marker", Path(MARKER_NAME)), ("commit counter", Path(STORE_NAME, "commits"))):
        found[kind].append(Stretch(file, range((directory / file).stat().st_size)))
    data_file = Path(STORE_NAME, DATA_NAME)
    for kind, offsets in pages((directory / data_file).read_bytes()):
        found[kind].append(Stretch(data_file, offsets))
    return found


def pages(data: bytes) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the kind of each page, live or free, and the offsets of its bytes in use."""
    start = 0
    while start < len(data):
        _, _, flags, lower, upper = PAGE_HEADER.unpack_from(data, start)
        kind = PAGE_KINDS.get(flags & 0x0F, "page never used")
        end = start + PAGE_BYTES * (lower + (upper << 16) if kind == "overflow page" else 1)
        if kind == "meta page":
            yield kind, range(start, start + META_BYTES)
        elif kind in ("branch page", "leaf page"):
            yield kind, [*range(start, start + lower), *range(start + upper, end)]
        else:
            yield kind, range(start, min(end, len(data)))
        start = end


def flip(directory: Path, stretch: Stretch, draw: random.Random) -> None:
    """Turn over one bit of a stretch."""
    with (directory / stretch.file).open("r+b") as opened:
        offset = draw.choice(stretch.offsets)
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 1 << draw.randrange(8)]))


def outcomes(
    original: Path, scratch: Path, seed: int, flips: int, draw: random.Random
) -> Iterator[tuple[str, Outcome]]:
    """Damage so many copies of the log, each class in turn, and yield the class and the outcome of each."""
    by_class = places(original)
    for kind in itertools.islice(itertools.cycle(sorted(by_class)), flips):
        copy = scratch / "copy"
        shutil.copytree(original, copy)
        flip(copy, draw.choice(by_class[kind]), draw)
        yield kind, outcome(copy, seed)
        shutil.rmtree(copy)


def outcome(directory: Path, seed: int) -> Outcome:
    """Examine a damaged log; where that takes the process down, what the next one finds must be right, or refused."""
    code = in_a_process(examine, directory, seed)
    if code >= 0:
        return Outcome(code)
    again = Outcome(in_a_process(examine_what_was_left, directory, seed))
    return again if again is Outcome.WRONG else Outcome.DIED


def in_a_process(act: Callable[[Path, int], None], directory: Path, seed: int) -> int:
    """Run `act` in a process of its own and return its exit code, negative if a signal ended it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=act, args=(directory, seed))
    process.start()
    process.join(SECONDS_MAX)
    assert process.exitcode is not None, "the store hangs"
    return process.exitcode


def examine(directory: Path, seed: int) -> None:
    """Open, compare, write on, open again, compare; ends the process with an `Outcome`."""
    before, after = known_after(seed, COMMITS), known_after(seed, COMMITS + COMMITS_AFTER)
    with ending_if_refused():
        store = LmdbStore(directory, IDENTITY)
        found = Outcome.REPAIRED if store.damaged else Outcome.HARMLESS
        if Known.told_by(store, before.votes) != before:
            raise SystemExit(Outcome.WRONG)
        for group, _ in itertools.islice(script(seed), COMMITS, COMMITS + COMMITS_AFTER):
            store.commit(group)
        store.close()
        right = Known.told_by(LmdbStore(directory, IDENTITY), after.votes) == after
    raise SystemExit(found if right else Outcome.WRONG)


def examine_what_was_left(directory: Path, seed: int) -> None:
    """Open what a process left that died while it was writing on; ends the process with an `Outcome`."""
    states = [known_after(seed, commits) for commits in range(COMMITS, COMMITS + COMMITS_AFTER + 1)]
    votes = {slot: vote for state in states for slot, vote in state.votes.items()}
    with ending_if_refused():
        right = Known.told_by(LmdbStore(directory, IDENTITY), votes) in states
    raise SystemExit(Outcome.HARMLESS if right else Outcome.WRONG)


@contextmanager
def ending_if_refused() -> Iterator[None]:
    try:
        yield
    except (IdentityRefused, StorageBroken) as refusal:
        raise SystemExit(refusal.exit_code) from None
