"""Snapshots: what stands for the log up to a point, kept as files of checked chunks.

A snapshot is one file: the chunks of the service's state, those of the session table, the manifest, and a trailer with
the manifest's length and BLAKE2b. The manifest names the length and BLAKE2b of every chunk, so that the hash of the
manifest vouches for the whole, and names it among replicas.

    DIRECTORY/<slot>-<hash>.snapshot    whole
    DIRECTORY/<slot>-<hash>.partial     being fetched: of full length, manifest and trailer in place, chunks filled in
    DIRECTORY/<n>.new                   being written; removed when found at start
    DIRECTORY/<slot>-<hash>.damaged     found damaged: set aside, never read again

Rules:

- A snapshot comes to be by fsync, rename and fsync of the directory: after a power cut it is there whole or not at all.
- No byte is handed out that was not verified. Damage makes this one snapshot unusable (`StorageBroken`), nothing else.
- Which chunks of a partial one are there is never written down: it is told by their hashes.
- The newest two are kept, and for a while those that a peer is fetching.

Everything here blocks on the disk and may be called from any thread; a reader keeps no file open between two calls.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from quorate import limits
from quorate.errors import IdentityRefused, Misbehaviour, StorageBroken
from quorate.files import fsync_directory
from quorate.types import Base, Index, Membership, Slot

log = structlog.get_logger(room="storage")

DIRECTORY_NAME = "snapshots"
HASH_BYTES = 32
FORMAT = 1
_MAGIC = b"quorate snapshot\0"
_TRAILER = struct.Struct(">Q32s")
WHOLE, PARTIAL, NEW, DAMAGED = ".snapshot", ".partial", ".new", ".damaged"


class Chunk(NamedTuple):
    """A piece of a snapshot; `hash` is its BLAKE2b-256."""

    length: int
    hash: bytes


class Facts(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all replicas agree on at a point of the log, beside the service's state and the session table."""

    base: Base
    membership: Membership
    """In force for the slot after `base`."""
    time_ms: int
    digest: bytes
    digest_complete: bool
    log_bytes: int
    """Payload of all batches up to `base`; checkpoints are scheduled by it."""


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a snapshot holds. Encoded by `seal`, which adds the format's version."""

    cluster: str
    driver: str
    """How the service's state was taken: only the same way can put it back."""
    facts: Facts
    service: tuple[Chunk, ...]
    sessions: tuple[Chunk, ...]

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All chunks, in the order in which they are stored."""
        return self.service + self.sessions


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Manifest)


def chunk_hash(data: bytes | memoryview) -> bytes:
    """Return the BLAKE2b-256 of `data`."""
    return blake2b(data, digest_size=HASH_BYTES).digest()


def seal(manifest: Manifest) -> bytes:
    """Return the manifest as bytes; their hash names the snapshot."""
    return _MAGIC + bytes((FORMAT,)) + _encoder.encode(manifest)


def unseal(data: bytes) -> Manifest:
    """Return the manifest in `data`. Raises `StorageBroken` on another format, on nonsense and on sizes past bounds."""
    start = len(_MAGIC) + 1
    if data[: len(_MAGIC)] != _MAGIC or not start <= len(data) <= limits.MANIFEST_BYTES_MAX:
        raise StorageBroken("manifest is none")
    if data[start - 1] != FORMAT:
        raise StorageBroken(f"manifest has format {data[start - 1]}, this release reads {FORMAT}")
    try:
        manifest = _decoder.decode(memoryview(data)[start:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StorageBroken(f"manifest does not decode: {error}") from error
    chunks = manifest.chunks
    if not all(0 < size <= limits.SNAPSHOT_CHUNK_BYTES and len(hash_) == HASH_BYTES for size, hash_ in chunks):
        raise StorageBroken("manifest names a chunk of an impossible length")
    if sum(chunk.length for chunk in chunks) > limits.SNAPSHOT_BYTES_MAX:
        raise StorageBroken(f"snapshot is larger than {limits.SNAPSHOT_BYTES_MAX} bytes")
    return manifest


class _Stored:
    """A file with a manifest, and where its chunks lie in it."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = data
        """The sealed manifest."""
        self.manifest = unseal(data)
        self.hash = chunk_hash(data)
        self.places: dict[bytes, list[int]] = {}
        """Where the chunk with a hash begins: in several places if several are alike."""
        self.lengths = {chunk.hash: chunk.length for chunk in self.manifest.chunks}
        self.size = 0
        for chunk in self.manifest.chunks:
            self.places.setdefault(chunk.hash, []).append(self.size)
            self.size += chunk.length

    @property
    def slot(self) -> Slot:
        """The last slot it stands for."""
        return self.manifest.facts.base.slot

    @property
    def index(self) -> Index:
        """The last index it stands for."""
        return self.manifest.facts.base.index

    def name(self, suffix: str) -> str:
        """Return its file name with that suffix; names sort by slot."""
        return f"{self.slot:020d}-{self.hash[:8].hex()}{suffix}"

    @property
    def tail(self) -> bytes:
        """What follows the chunks."""
        return self.data + _TRAILER.pack(len(self.data), self.hash)


class Snapshot(_Stored):
    """A whole snapshot. Reading raises `StorageBroken` where it is damaged, and OSError where it is gone."""

    def service(self) -> Iterator[bytes]:
        """Yield the service's state in pieces."""
        return self._read(self.manifest.service, 0)

    def sessions(self) -> Iterator[bytes]:
        """Yield the session table in pieces."""
        return self._read(self.manifest.sessions, self.service_size)

    @property
    def service_size(self) -> int:
        """Bytes of the service's state."""
        return sum(chunk.length for chunk in self.manifest.service)

    def verify(self) -> None:
        """Read all of it."""
        for _ in self._read(self.manifest.chunks, 0):
            continue

    def chunk(self, hash_: bytes) -> bytes | None:
        """Return the chunk with that hash; None if there is none."""
        if hash_ not in self.places:
            return None
        return next(self._read((Chunk(self.lengths[hash_], hash_),), self.places[hash_][0]))

    def _read(self, chunks: Iterable[Chunk], start: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(start)
            for chunk in chunks:
                data = file.read(chunk.length)
                if chunk_hash(data) != chunk.hash:
                    place = file.tell() - len(data)
                    raise StorageBroken(f"snapshot {self.path.name} is damaged at byte {place}")
                yield data


class Partial(_Stored):
    """A snapshot being fetched. For one caller at a time."""

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(path, data)
        self.missing = set(self.places)
        """Hashes of the chunks that are not there."""

    def look(self) -> None:
        """Find out which chunks are there, making the file if there is none."""
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.size + len(self.tail))
            file.seek(self.size)
            file.write(self.tail)
            os.fsync(file.fileno())
            file.seek(0)
            for chunk in self.manifest.chunks:
                if chunk_hash(file.read(chunk.length)) == chunk.hash:
                    self.missing.discard(chunk.hash)

    def put(self, data: bytes) -> bytes:
        """Write a chunk wherever it is missing, if it is; return its hash."""
        hash_ = chunk_hash(data)
        if hash_ in self.missing:
            with self.path.open("r+b") as file:
                for place in self.places[hash_]:
                    file.seek(place)
                    file.write(data)
            self.missing.discard(hash_)
        return hash_

    def chunk(self, hash_: bytes) -> bytes | None:
        """Return the chunk with that hash if it is there."""
        if hash_ not in self.places:
            return None
        with self.path.open("rb") as file:
            file.seek(self.places[hash_][0])
            data = file.read(self.lengths[hash_])
        return data if chunk_hash(data) == hash_ else None


class SnapshotWriter:
    """One snapshot being written, in order: the parts with `write` and `end_part`, then `commit` or `abandon`."""

    def __init__(self, store: SnapshotStore, path: Path) -> None:
        self._store = store
        self._path = path
        self._file = path.open("wb")
        self._buffer = bytearray()
        self._chunks: list[Chunk] = []
        self._size = 0
        self._unsynced: int | None = None

    def write(self, data: bytes) -> None:
        """Take more of the present part. Raises `Misbehaviour` when there is too much of it."""
        self._size += len(data)
        if self._size > limits.SNAPSHOT_BYTES_MAX:
            raise Misbehaviour(f"the state is larger than {limits.SNAPSHOT_BYTES_MAX} bytes")
        self._buffer += data
        full = len(self._buffer) - len(self._buffer) % limits.SNAPSHOT_CHUNK_BYTES
        self._cut(full)

    def end_chunk(self) -> None:
        """Let the next byte begin a new chunk: what follows may be the same in other snapshots."""
        self._cut(len(self._buffer))

    def end_part(self) -> tuple[Chunk, ...]:
        """Return the chunks of the part that ends here."""
        self.end_chunk()
        chunks, self._chunks = tuple(self._chunks), []
        return chunks

    def pace(self) -> None:
        """From here on bring the data to the disk a little at a time, so that the log's fsyncs never wait for much."""
        self._unsynced = 0

    def commit(self, manifest: Manifest) -> Snapshot:
        """Make the snapshot durable and known to the store."""
        snapshot = Snapshot(self._path, seal(manifest))
        with self._file:
            self._file.write(snapshot.tail)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._store.adopt(snapshot)
        return snapshot

    def abandon(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):  # a full disk refuses the rest of it
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _cut(self, end: int) -> None:
        """Write the first `end` bytes of the buffer as chunks."""
        for start in range(0, end, limits.SNAPSHOT_CHUNK_BYTES):
            data = bytes(self._buffer[start : min(start + limits.SNAPSHOT_CHUNK_BYTES, end)])
            self._file.write(data)
            self._chunks.append(Chunk(len(data), chunk_hash(data)))
        del self._buffer[:end]
        if self._unsynced is not None:
            self._unsynced += end
            if self._unsynced >= limits.SNAPSHOT_SYNC_BYTES:
                self._unsynced = 0
                self._file.flush()
                os.fdatasync(self._file.fileno())


class SnapshotStore:
    """The snapshots of one replica of `cluster`, in a directory of their own."""

    def __init__(self, directory: Path, cluster: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._cluster = cluster
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[Snapshot, ...] = ()
        """Newest first; replaced as a whole, so that it may be read without the lock."""
        self._pins: dict[bytes, float] = {}
        """Manifest hash -> when a peer last asked for it."""
        self._numbers = itertools.count()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds all of the state
        for draft in directory.glob(f"*{NEW}"):
            draft.unlink()
        self._held = tuple(sorted(self._found(), key=lambda snapshot: snapshot.slot, reverse=True))

    # --- what there is -----------------------------------------------------------------------------------------------

    @property
    def held(self) -> tuple[Snapshot, ...]:
        """The snapshots there are, newest first; their manifests were verified, their chunks may not have been."""
        return self._held

    def newest_sound(self) -> Snapshot | None:
        """Return the newest snapshot after all of it was verified; damaged ones are set aside."""
        for snapshot in self._held:
            try:
                snapshot.verify()
            except (StorageBroken, OSError) as error:
                self.set_aside(snapshot, str(error))
            else:
                return snapshot
        return None

    def sealed(self, hash_: bytes) -> bytes | None:
        """Return the sealed manifest with that hash, and keep its snapshot for a while: it is being fetched."""
        for snapshot in self._held:
            if snapshot.hash == hash_:
                self.pin(hash_)
                return snapshot.data
        return None

    def chunk(self, hash_: bytes) -> bytes | None:
        """Return the chunk with that hash from whichever snapshot has it."""
        for snapshot in self._held:
            try:
                data = snapshot.chunk(hash_)
            except (StorageBroken, OSError) as error:
                self.set_aside(snapshot, str(error))
            else:
                if data is not None:
                    return data
        return None

    def pin(self, hash_: bytes) -> None:
        """Keep the snapshot with that manifest hash, if it is here, for SNAPSHOT_PIN_SECONDS from now."""
        with self._lock:
            if any(snapshot.hash == hash_ for snapshot in self._held):
                self._pins[hash_] = self._clock()

    # --- what comes and goes -----------------------------------------------------------------------------------------

    def writer(self) -> SnapshotWriter:
        """Begin a snapshot."""
        return SnapshotWriter(self, self._directory / f"{next(self._numbers)}{NEW}")

    def begin(self, data: bytes) -> Partial:
        """Begin, or go on with, fetching the snapshot of a sealed manifest; what is here already is not missing.

        Raises `StorageBroken` if it is no manifest that this release reads, or another cluster's.
        """
        draft = Partial(self._directory / NEW, data)
        if draft.manifest.cluster != self._cluster:
            raise StorageBroken(f"snapshot is of cluster {draft.manifest.cluster!r}, not of {self._cluster!r}")
        draft.path = self._directory / draft.name(PARTIAL)
        draft.look()
        others = [other for other in self._partials() if other.path != draft.path]
        for hash_ in tuple(draft.missing):
            found = (other.chunk(hash_) for other in others)
            known = self.chunk(hash_) or next((one for one in found if one is not None), None)
            if known is not None:
                draft.put(known)
        for other in others:
            other.path.unlink(missing_ok=True)
        return draft

    def finish(self, partial: Partial) -> Snapshot:
        """Turn a partial snapshot that lacks nothing into a whole one."""
        assert not partial.missing
        snapshot = Snapshot(partial.path, partial.data)
        with snapshot.path.open("rb") as file:
            os.fsync(file.fileno())
        self.adopt(snapshot)
        return snapshot

    def adopt(self, snapshot: Snapshot) -> None:
        """Give a durable file its place among the whole ones, and remove those no longer needed."""
        place = self._directory / snapshot.name(WHOLE)
        snapshot.path = snapshot.path.rename(place)
        fsync_directory(self._directory)
        with self._lock:
            others = (other for other in self._held if other.hash != snapshot.hash)
            self._held = tuple(sorted((snapshot, *others), key=lambda one: one.slot, reverse=True))
            self._prune()

    def set_aside(self, snapshot: Snapshot, why: str) -> None:
        """Never use this one again; the file stays for whoever wants to look, until the next one is set aside."""
        log.error("snapshot set aside", name=snapshot.path.name, why=why)
        with self._lock:
            self._held = tuple(other for other in self._held if other is not snapshot)
        for older in self._directory.glob(f"*{DAMAGED}"):
            older.unlink(missing_ok=True)
        if snapshot.path.exists():
            snapshot.path.rename(self._directory / snapshot.name(DAMAGED))

    def _prune(self) -> None:
        now = self._clock()
        self._pins = {one: at for one, at in self._pins.items() if now - at < limits.SNAPSHOT_PIN_SECONDS}
        newest, older = self._held[: limits.SNAPSHOTS_KEPT], self._held[limits.SNAPSHOTS_KEPT :]
        pinned = [one for one in older if one.hash in self._pins][: limits.SNAPSHOTS_PINNED_MAX]
        for one in older:
            if one not in pinned:
                one.path.unlink(missing_ok=True)
        self._held = (*newest, *pinned)

    # --- what is found at start --------------------------------------------------------------------------------------

    def _found(self) -> Iterator[Snapshot]:
        for path in self._directory.glob(f"*{WHOLE}"):
            try:
                snapshot = Snapshot(path, _sealed_in(path))
            except StorageBroken as error:
                log.error("snapshot not usable", name=path.name, why=error.what)
                path.rename(path.with_suffix(DAMAGED))
                continue
            if snapshot.manifest.cluster != self._cluster:
                what = f"{path}: a snapshot of cluster {snapshot.manifest.cluster!r}, not of {self._cluster!r}"
                raise IdentityRefused(what, "check the settings")
            yield snapshot

    def _partials(self) -> Iterator[Partial]:
        for path in self._directory.glob(f"*{PARTIAL}"):
            try:
                yield Partial(path, _sealed_in(path))
            except StorageBroken as error:
                log.warning("partial snapshot dropped", name=path.name, why=error.what)
                path.unlink()


def _sealed_in(path: Path) -> bytes:
    """Return the sealed manifest at the end of a file; raises `StorageBroken` if the file is not what it says."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TRAILER.size))
        trailer = file.read()
        length, hash_ = _TRAILER.unpack(trailer) if len(trailer) == _TRAILER.size else (0, b"")
        start = size - _TRAILER.size - length
        if not 0 < length <= limits.MANIFEST_BYTES_MAX or start < 0:
            raise StorageBroken(f"snapshot {path.name} is cut short or damaged at its end")
        file.seek(start)
        data = file.read(length)
    if chunk_hash(data) != hash_:
        raise StorageBroken(f"manifest of snapshot {path.name} is damaged")
    if sum(chunk.length for chunk in unseal(data).chunks) != start:
        raise StorageBroken(f"snapshot {path.name} has not the length its manifest says")
    return data
