"""The data directory of a run: who holds it, which cluster it belongs to, and where each replica keeps its things.

    lock            held (flock) by the living supervisor, with its pid inside
    cluster.json    made once: the cluster's id, and what must not change under its log
    run.json        how to reach the living run; stale when nobody holds the lock
    rI/             one replica: sidecar.toml, log (and log.1 before it), data/ of the sidecar, app/ of the service

A directory made for another number of replicas is refused, and so is a durable one for a run in memory: a log is only
worth what its quorum remembers. Replicas come and go while it runs, and that is on record too. A run in memory leaves
nothing that may vote again, so what comes after it in the same directory is a new cluster.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from pathlib import Path
from typing import IO

import msgspec

from quorate.errors import IdentityRefused, NetworkRefused, StorageBroken
from quorate.files import replace_file


class RunInfo(msgspec.Struct, frozen=True):
    """How to reach a living run."""

    pid: int
    cluster: str
    url: str
    admin_url: str


class ClusterInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a data directory was made for, and who belongs to it by now."""

    cluster: str
    storage: str
    consensus: str
    founders: list[int]
    """Numbers of the replicas it was made with."""
    members: list[int]
    """Numbers of the replicas that are kept here now, ascending."""
    epoch: int = 1


class RunDirectory:
    """One data directory, seen by its supervisor or by a command that asks about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    def replica(self, name: str) -> Path:
        """The directory of one replica."""
        return self.path / name

    def replica_names(self) -> list[str]:
        """Names of the replicas of the cluster here, in order; empty before the first run."""
        known = self.known_cluster()
        return [f"r{number}" for number in known.members] if known else []

    def claim(self) -> None:
        """Become the one supervisor of this directory; raises IdentityRefused naming the pid of a living one."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.path / "lock").open("a+b")
        except OSError as error:
            raise StorageBroken(f"{error.strerror} - {self.path}", "give a writable --data-dir") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(32).decode(errors="replace").strip()
            lock.close()
            raise IdentityRefused(
                f"a run is going on there, pid {holder or 'unknown'} - {self.path}",
                "end it with `quorate stop` or give another --data-dir",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        self._lock = lock
        (self.path / "run.json").unlink(missing_ok=True)

    def cluster(self, replicas: int, storage: str, consensus: str) -> ClusterInfo:
        """The cluster, made at its first run; raises IdentityRefused when the directory was made for another."""
        known = self.known_cluster()
        if known is None or known.storage == "memory":
            self._forget(known)
            numbers = list(range(1, replicas + 1))
            known = ClusterInfo(f"q-{uuid.uuid4().hex[:12]}", storage, consensus, numbers, numbers)
            self.remember(known)
        elif (storage, consensus) != (known.storage, known.consensus) or replicas not in (
            len(known.founders),
            len(known.members),
        ):
            raise IdentityRefused(
                f"made for {len(known.members)} replicas with storage {known.storage} and consensus {known.consensus}"
                f" - {self.path}",
                f"use --replicas {len(known.members)} --storage {known.storage} --consensus {known.consensus},"
                " change its members with `quorate members` while it runs, or give another --data-dir",
            )
        return known

    def remember(self, cluster: ClusterInfo) -> None:
        """Record who belongs to the cluster."""
        replace_file(self.path / "cluster.json", msgspec.json.encode(cluster))

    def publish(self, info: RunInfo) -> None:
        """Let other commands find this run."""
        replace_file(self.path / "run.json", msgspec.json.encode(info))

    def release(self) -> None:
        """Take the run off the record."""
        (self.path / "run.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def living(self) -> RunInfo:
        """The run that holds this directory; raises NetworkRefused when there is none."""
        if self.is_held():
            try:
                return msgspec.json.decode((self.path / "run.json").read_bytes(), type=RunInfo)
            except FileNotFoundError as error:
                raise NetworkRefused(f"the run is only starting - {self.path}", "try again in a second") from error
        raise NetworkRefused(
            f"no run is going on - {self.path}", "start one with `quorate run`, or name its --data-dir"
        )

    def is_held(self) -> bool:
        """Whether a supervisor lives here. The probe is a shared lock, let go at once."""
        try:
            with (self.path / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def known_cluster(self) -> ClusterInfo | None:
        """What is on record; None before the first run. Raises StorageBroken."""
        file = self.path / "cluster.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=ClusterInfo)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StorageBroken(f"damaged: {error} - {file}", "restore it or give another --data-dir") from error

    def _forget(self, cluster: ClusterInfo | None) -> None:
        """Remove what the replicas of a cluster in memory left behind."""
        for number in cluster.members if cluster else []:
            for place in ("data", "app"):
                left = self.path / f"r{number}" / place
                if left.exists():
                    shutil.rmtree(left)
