"""Ties a data directory to one replica of one cluster, and to one process at a time.

A replica that lost its votes and votes again can make two values chosen in one slot ("Paxos Made Simple" §2.4 has an
acceptor remember across failures). A store can't tell that it was emptied, for an emptied LMDB file opens as a fresh
one (FAULTS.md §0.2). So the directory bears a marker beside the store:

    no marker, no store           fresh: the marker is written, not yet initialised, before the store is created
    marker, not initialised       a first start was cut short before anything was vouched for: goes on as fresh
    marker, initialised, store    the normal start
    marker, initialised, no store the disk lost its contents: refused
    no marker, store              the marker is lost, whose votes these are is unknown: refused
    marker of another replica, cluster, epoch or storage mode: refused

A memory-mode directory is initialised at its first claim and refuses every later one: what voted in it is forgotten.
That a whole cluster may be started anew is for its operator to say, with a new directory.

The lock is an advisory `flock` on a file of its own, since the marker is replaced by renaming. It ends with the process
however that dies. Network file systems, where it may not hold, are not supported.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

import msgspec

from quorate.errors import IdentityRefused
from quorate.storage import Identity

MARKER_NAME = "identity.json"
LOCK_NAME = "identity.lock"
STORE_NAME = "log"
DATA_NAME = "data.mdb"
"""LMDB's own name for its one file."""
_MARKER_FORMAT = 1
_REJOIN = "this replica must rejoin as a new member; never start it with an older copy of its data"


class _Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    cluster: str
    replica: int
    epoch: int
    durable: bool
    initialised: bool


def identity_tag(identity: Identity) -> int:
    """Return 64 bits that tell this replica's records from those of any other.

    The epoch is left out: a change of members does not make old votes foreign.
    """
    name = f"{identity.cluster}\0{identity.replica}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


class Claim:
    """A held directory: made by `claim`, given up by `close` or by the death of the process."""

    def __init__(self, directory: Path, identity: Identity, durable: bool, lock_fd: int, fresh: bool) -> None:
        self.directory = directory
        self.identity = identity
        self.fresh = fresh
        """Nothing was ever vouched for in this directory."""
        self._durable = durable
        self._lock_fd = lock_fd

    def confirm(self) -> None:
        """Record, durably, that the store exists: from now on an empty one is a loss."""
        _write_marker(self.directory, self.identity, durable=self._durable, initialised=True)
        self.fresh = False

    def close(self) -> None:
        """Let another process claim the directory."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def claim(directory: Path, identity: Identity, *, durable: bool) -> Claim:
    """Lock `directory`, creating it if need be, and check that it is this replica's.

    With `durable`, the caller creates the store under `STORE_NAME` and then calls `confirm` before it vouches for
    anything. Raises `IdentityRefused`.
    """
    lock_fd = _lock(directory)
    try:
        marker = _read_marker(directory)
        has_store = _has_store(directory)
        if marker is None:
            if has_store:
                raise IdentityRefused(f"{directory}: log present, identity marker missing", _REJOIN)
            _write_marker(directory, identity, durable=durable, initialised=not durable)
        else:
            _check_marker(directory, marker, identity, durable, has_store)
    except BaseException:
        os.close(lock_fd)
        raise
    return Claim(directory, identity, durable, lock_fd, fresh=marker is None or not marker.initialised)


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise IdentityRefused(f"{directory}: {error.strerror}", "give a directory this process may write") from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock_fd)
        raise IdentityRefused(f"{directory}: in use by process {holder}", "stop it, or give another") from None
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
    return lock_fd


def _has_store(directory: Path) -> bool:
    data = directory / STORE_NAME / DATA_NAME
    return data.exists() and data.stat().st_size > 0


def _check_marker(directory: Path, marker: _Marker, identity: Identity, durable: bool, has_store: bool) -> None:
    owner = Identity(marker.cluster, marker.replica, marker.epoch)  # type: ignore[arg-type]
    if owner != identity:
        raise IdentityRefused(f"{directory}: belongs to {_name(owner)}, not to {_name(identity)}", "check the settings")
    if marker.durable != durable:
        modes = ("memory", "sync") if durable else ("sync", "memory")
        raise IdentityRefused(f"{directory}: was used with storage {modes[0]}, not {modes[1]}", _REJOIN)
    if not durable:
        raise IdentityRefused(f"{directory}: memory-mode replica voted here and forgot its votes", _REJOIN)
    if marker.initialised and not has_store:
        raise IdentityRefused(f"{directory}: identity marker present, store empty", _REJOIN)


def _name(identity: Identity) -> str:
    return f"replica {identity.replica} of cluster {identity.cluster!r}, epoch {identity.epoch}"


def _read_marker(directory: Path) -> _Marker | None:
    try:
        data = (directory / MARKER_NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        marker = msgspec.json.decode(data, type=_Marker)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IdentityRefused(f"{directory / MARKER_NAME}: damaged ({error})", _REJOIN) from error
    if marker.format != _MARKER_FORMAT:
        raise IdentityRefused(
            f"{directory / MARKER_NAME}: format {marker.format}, this release reads {_MARKER_FORMAT}",
            "use the release that wrote it",
        )
    return marker


def _write_marker(directory: Path, identity: Identity, *, durable: bool, initialised: bool) -> None:
    """Replace the marker so that after a power cut there is the old one or the new one, whole."""
    marker = _Marker(_MARKER_FORMAT, identity.cluster, identity.replica, identity.epoch, durable, initialised)
    draft = directory / (MARKER_NAME + ".new")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(marker)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(directory / MARKER_NAME)
        fsync_directory(directory)
        fsync_directory(directory.parent)
    except OSError as error:
        raise IdentityRefused(f"{directory}: marker can't be written: {error.strerror}", "check the disk") from error


def fsync_directory(directory: Path) -> None:
    """Make the directory's entries durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
