"""Ties a data directory to one replica of one cluster, and to one process at a time.

A replica that lost its votes and votes again can make two values chosen in one slot ("Paxos Made Simple" §2.4 has an
acceptor remember across failures). A store can't tell that it was emptied, for an emptied LMDB file opens as a fresh
one (FAULTS.md §0.2). So the directory bears a marker beside the store:

    no marker, no store           fresh: the marker is written, not yet initialised, before the store is created
    marker, not initialised       a first start was cut short before anything was vouched for: goes on as fresh
    marker, initialised, store    the normal start
    marker, initialised, no store the disk lost its contents: refused
    no marker, store              the marker is lost, whose votes these are is unknown: refused
    marker of another replica, cluster or storage mode, or of an earlier epoch: refused

The marker also names the store, by a random id, and counts its starts, so that peers can tell one that was replaced by
an older copy of itself. A later epoch than asked for is the work of a rescue (see `rescue`), and holds.

In mode `async`, commits may be in the kernel's memory alone. While that may be so the marker bears the kernel's boot
id; a start under another one, after the machine went down in between, is refused.

A memory-mode directory is initialised at its first claim and refuses every later one: what voted in it is forgotten.
That a whole cluster may be started anew is for its operator to say, with a new directory.

The lock is an advisory `flock` on a file of its own, since the marker is replaced by renaming. It ends with the process
however that dies. Network file systems, where it may not hold, are not supported.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec

from quorate.errors import IdentityRefused, StorageBroken
from quorate.files import fsync_directory, replace_file
from quorate.storage import Identity
from quorate.storage.environment import DATA_NAME
from quorate.types import ReplicaId

MARKER_NAME = "identity.json"
LOCK_NAME = "identity.lock"
STORE_NAME = "log"
_MARKER_FORMAT = 2
_REJOIN = "this replica must rejoin as a new member; never start it with an older copy of its data"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Mode(enum.StrEnum):
    """What a commit is good for once it returned."""

    SYNC = "sync"
    """It survives a power cut."""
    ASYNC = "async"
    """It survives the end of the process, and a power cut within ASYNC_SYNC_SECONDS."""
    MEMORY = "memory"
    """It survives nothing."""


class _Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    cluster: str
    replica: int
    epoch: int
    mode: Mode
    store: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    """The store's id, in hexadecimal."""
    life: int
    """How often the directory was claimed."""
    initialised: bool
    boot: str
    """The kernel's boot id while commits may not have reached the disk, else empty."""


class _Format(msgspec.Struct):
    format: int


def identity_tag(identity: Identity) -> int:
    """Return 64 bits that tell this replica's records from those of any other.

    The epoch is left out: a change of members does not make old votes foreign.
    """
    name = f"{identity.cluster}\0{identity.replica}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


class Claim:
    """A held directory: made by `claim`, given up by `close` or by the death of the process.

    What it writes into the marker is durable on return. Raises `StorageBroken` when the disk refuses.
    """

    def __init__(self, directory: Path, marker: _Marker, lock_fd: int) -> None:
        self.directory = directory
        self._marker = marker
        self._lock_fd = lock_fd
        self.nonce = os.urandom(16)
        """Names this claim among all of this directory, even if the marker was copied."""
        self._update(life=marker.life + 1)

    @property
    def identity(self) -> Identity:
        """Whose directory it is, in which epoch."""
        return _owner(self._marker)

    @property
    def fresh(self) -> bool:
        """Nothing was ever vouched for in this directory."""
        return not self._marker.initialised

    @property
    def store_id(self) -> bytes:
        """16 random bytes, drawn when the directory was first claimed."""
        return bytes.fromhex(self._marker.store)

    @property
    def life(self) -> int:
        """How often the directory was claimed, this time included."""
        return self._marker.life

    def confirm(self) -> None:
        """Record that the store exists: from now on an empty one is a loss. Commits may follow."""
        boot = _boot_id() if self._marker.mode is Mode.ASYNC else ""
        if self.fresh or boot:
            self._update(initialised=True, boot=boot)

    def settle(self) -> None:
        """Record that all commits have reached the disk, and that none will follow."""
        self._update(boot="")

    def raise_epoch(self) -> None:
        """Begin a new epoch, in which peers of the old one are refused."""
        self._update(epoch=self._marker.epoch + 1)

    def close(self) -> None:
        """Let another process claim the directory."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _update(self, **changes: Any) -> None:
        marker = msgspec.structs.replace(self._marker, **changes)
        _write_marker(self.directory, marker)
        self._marker = marker


def claim(directory: Path, identity: Identity, mode: Mode) -> Claim:
    """Lock `directory`, creating it if need be, check that it is this replica's, and count the start.

    Unless in memory mode, the caller creates the store under `STORE_NAME` and then calls `confirm` before it vouches
    for anything. Raises `IdentityRefused`, and `StorageBroken` when the disk refuses.
    """
    lock_fd = _lock(directory)
    try:
        marker = _read_marker(directory)
        has_store = _has_store(directory)
        if marker is None:
            if has_store:
                raise IdentityRefused(f"{directory}: log present, identity marker missing", _REJOIN)
            marker = _Marker(_MARKER_FORMAT, *identity, mode, os.urandom(16).hex(), 0, mode is Mode.MEMORY, "")
        else:
            _check_marker(directory, marker, identity, mode, has_store)
        return Claim(directory, marker, lock_fd)
    except BaseException:
        os.close(lock_fd)
        raise


def claimed_mode(directory: Path) -> Mode:
    """Return the storage mode in which a directory is used. Raises `IdentityRefused` if it was never claimed."""
    marker = _read_marker(directory)
    if marker is None:
        raise IdentityRefused(f"{directory}: holds no replica's data", "give the data directory of a replica")
    return marker.mode


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise IdentityRefused(f"{directory}: {error.strerror}", "give a directory this process may write") from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock_fd)
        raise IdentityRefused(f"{directory}: in use by process {holder}", "stop it, or give another") from None
    except OSError as error:
        os.close(lock_fd)
        raise StorageBroken(f"{directory}: {error.strerror}", "check the disk") from error
    return lock_fd


def _has_store(directory: Path) -> bool:
    data = directory / STORE_NAME / DATA_NAME
    return data.exists() and data.stat().st_size > 0


def _check_marker(directory: Path, marker: _Marker, identity: Identity, mode: Mode, has_store: bool) -> None:
    owner = _owner(marker)
    if owner[:2] != identity[:2] or owner.epoch < identity.epoch:
        raise IdentityRefused(f"{directory}: belongs to {_name(owner)}, not to {_name(identity)}", "check the settings")
    if marker.mode is not mode:
        raise IdentityRefused(f"{directory}: was used with storage {marker.mode}, not {mode}", _REJOIN)
    if mode is Mode.MEMORY:
        raise IdentityRefused(f"{directory}: memory-mode replica voted here and forgot its votes", _REJOIN)
    if marker.initialised and not has_store:
        raise IdentityRefused(f"{directory}: identity marker present, store empty", _REJOIN)
    if marker.boot and marker.boot != _boot_id():
        raise IdentityRefused(f"{directory}: the machine went down before all votes were on disk (async)", _REJOIN)


def _owner(marker: _Marker) -> Identity:
    return Identity(marker.cluster, ReplicaId(marker.replica), marker.epoch)


def _name(identity: Identity) -> str:
    return f"replica {identity.replica} of cluster {identity.cluster!r}, epoch {identity.epoch}"


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _read_marker(directory: Path) -> _Marker | None:
    path = directory / MARKER_NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        format_ = msgspec.json.decode(data, type=_Format).format
        if format_ != _MARKER_FORMAT:
            what = f"{path}: format {format_}, this release reads {_MARKER_FORMAT}"
            raise IdentityRefused(what, "use the release that wrote it")
        return msgspec.json.decode(data, type=_Marker)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IdentityRefused(f"{path}: damaged ({error})", _REJOIN) from error


def _write_marker(directory: Path, marker: _Marker) -> None:
    try:
        replace_file(directory / MARKER_NAME, msgspec.json.format(msgspec.json.encode(marker)) + b"\n")
        fsync_directory(directory.parent)
    except OSError as error:
        raise StorageBroken(f"{directory}: marker can't be written: {error.strerror}", "check the disk") from error
