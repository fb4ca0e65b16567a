"""What a replica remembers of its peers' disks, so that one which lost votes is not believed again.

A replica can't tell by itself that its whole data directory was emptied or set back to an older copy, and one that
votes again after forgetting a vote can make two values chosen in one slot. Its peers can tell: each greeting names the
store, its life and its commits, and between greetings the commits are told again, once per beat. What is less than a
peer was told before is refused, durably:

- another store id: the disk was emptied or replaced;
- a lower life, or a higher one with fewer commits: an older copy;
- the same life with another nonce: two processes on copies of one directory.

Within one life a lower number of commits is only an older word: what a peer says on two connections may overtake
itself.

The memory is one small JSON file with a checksum, replaced as a whole. A peer that is met for the first time is written
before its greeting is accepted; what peers tell later, once per beat and off the event loop, so that a crash forgets a
moment of it at most. A damaged file is refused: without it a peer that was rolled back would go unnoticed.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from pathlib import Path
from zlib import crc32

import msgspec
import structlog

from quorate.errors import Misbehaviour, StorageBroken
from quorate.files import replace_file
from quorate.types import ReplicaId
from quorate.wire import Hello, Refusal

log = structlog.get_logger(__name__)

FILE_NAME = "acquaintances.json"
_FORMAT = 1


class Unwelcome(Misbehaviour):
    """A greeting that is refused, with what the other side is told."""

    def __init__(self, refusal: Refusal, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal


class _Known(msgspec.Struct, forbid_unknown_fields=True):
    """The most a peer was known to be."""

    store: bytes
    life: int
    nonce: bytes
    commits: int


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    checksum: int
    """CRC-32 of `peers` as it is written."""
    peers: msgspec.Raw
    """A `_Known` by replica."""


class Acquaintances:
    """The memory of one data directory. Raises `StorageBroken` if it is damaged."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._known = _read(self._path)
        self._saved = msgspec.json.encode(self._known)
        self._saving = threading.Lock()

    def meet(self, hello: Hello) -> None:
        """Take note of a greeting. Raises `Unwelcome` if the sender is less than it was."""
        known = self._known.get(hello.sender)
        if known is not None:
            _compare(known, hello)
        commits = max(hello.commits, known.commits if known else 0)
        self._known[hello.sender] = _Known(hello.store, hello.life, hello.nonce, commits)
        if known is None:
            self.save()

    def heard(self, peer: ReplicaId, commits: int) -> None:
        """Take note of a peer's commits, if it is one to remember."""
        known = self._known.get(peer)
        if known is not None:
            known.commits = max(known.commits, commits)

    def forget(self, last_id: ReplicaId, but: Set[ReplicaId]) -> None:
        """Forget all up to `last_id` that are not among `but`: their ids will never come back."""
        for gone in {peer for peer in self._known if peer <= last_id} - but:
            del self._known[gone]

    def save(self) -> None:
        """Bring the file up to date; it is durable on return. It waits for the disk, and may be called on any thread.

        A disk that refuses is logged, and tried again at the next call.
        """
        with self._saving:
            peers = msgspec.json.encode(self._known)
            if peers == self._saved:
                return
            try:
                replace_file(self._path, msgspec.json.encode(_File(_FORMAT, crc32(peers), msgspec.Raw(peers))))
            except OSError as error:
                log.error("what peers told can't be saved", file=str(self._path), why=error.strerror)
                return
            self._saved = peers


def _compare(known: _Known, hello: Hello) -> None:
    name = f"replica {hello.sender}"
    if hello.store != known.store:
        raise Unwelcome(Refusal.OTHER_STORE, f"{name} comes with another store than before: emptied or replaced")
    if hello.life < known.life:
        raise Unwelcome(Refusal.ROLLED_BACK, f"{name} comes in life {hello.life} of its store, after life {known.life}")
    if hello.life == known.life:
        if hello.nonce != known.nonce:
            raise Unwelcome(Refusal.TWIN, f"{name} comes twice in life {hello.life} of its store: one runs on a copy")
    elif hello.commits < known.commits:
        why = f"{name} comes with {hello.commits} commits in its store, after {known.commits}"
        raise Unwelcome(Refusal.ROLLED_BACK, why)


def _read(path: Path) -> dict[int, _Known]:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        if file.format != _FORMAT:
            raise StorageBroken(
                f"{path}: format {file.format}, this release reads {_FORMAT}", "use the release it is of"
            )
        if file.checksum != crc32(file.peers):
            raise _damaged(path, "wrong checksum")
        return msgspec.json.decode(file.peers, type=dict[int, _Known])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, how: str) -> StorageBroken:
    hint = "check the disk; if no peer's disk was set back, remove the file and start again"
    return StorageBroken(f"{path}: damaged ({how})", hint)
