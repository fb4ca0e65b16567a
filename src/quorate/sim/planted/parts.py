"""Broken drivers, applications and doors: everything around a core that can lose what the core has kept."""

from __future__ import annotations

from quorate.replica.sessions import EXECUTE, SessionTable, Verdict
from quorate.sim.app import App, Snapshot
from quorate.sim.disk import Image
from quorate.sim.machine import Machine
from quorate.sim.process import Process
from quorate.types import Command, Index, ReplicaId, founding


class CutsDamage(Machine):
    """Drops a damaged record and all behind it, as if a crash had torn the tail of its log."""

    def _begin_repair(self) -> None:
        image = self.disk.image
        image.chosen = min(image.damaged) - 1
        image.votes = {slot: vote for slot, vote in image.votes.items() if slot <= image.chosen}
        image.damaged.clear()
        image.snapshots = [snapshot for snapshot in image.snapshots if snapshot.base.slot <= image.chosen]
        self._begin_process()


class BelievesAnyDisk(Machine):
    """Lets in whoever names a member's id, whatever became of that member's disk."""

    def believes(self, peer: ReplicaId, image: Image) -> bool:
        """Believe it."""
        return True


class AppliesEarly(Process):
    """Executes what it proposes without waiting for it to be chosen."""

    def _propose(self, command: Command) -> None:
        effect = self.app.apply(command)
        self._judge.on_effect(self.me, self.app.index, effect)
        super()._propose(command)


class KeysByConnection(Process):
    """Knows a client's request by the connection it came in on, so that a retry elsewhere is another request."""

    def _propose(self, command: Command) -> None:
        connection = bytes((self.me, self.life % 256))
        number = command.request_id[len(connection) :]
        request = Command(connection + number, *(getattr(command, name) for name in Command.__struct_fields__[1:]))
        super()._propose(request)


class CompactsOneTooMany(Process):
    """Says of a snapshot that it holds one slot more than it does."""

    def snapshot(self) -> Snapshot:
        """Return the state as of a slot later."""
        snapshot = super().snapshot()
        return snapshot._replace(base=snapshot.base._replace(slot=snapshot.base.slot + 1))


class LeavesOutTheMembers(Process):
    """Takes snapshots that do not say who the members are."""

    def snapshot(self) -> Snapshot:
        """Return the state alone."""
        return super().snapshot()._replace(membership=founding({}))


class LeavesOutTheSessions(App):
    """Dumps its registers, but not what was executed."""

    def dump(self) -> bytes:
        """Return less than the whole state."""
        sessions, self.sessions = self.sessions, SessionTable()
        try:
            return super().dump()
        finally:
            self.sessions = sessions


class _NoSessions(SessionTable):
    def judge(self, index: Index, command: Command) -> Verdict:
        return EXECUTE


class ExecutesEverything(App):
    """Knows nothing of sessions: what is ordered twice takes effect twice."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = _NoSessions()
