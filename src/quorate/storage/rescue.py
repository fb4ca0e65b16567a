"""Recovery from a lost majority: makes one stopped replica the whole of its cluster, on purpose only.

No protocol can do this safely. What a majority acknowledged and this replica never heard of is lost, and a replica that
was only thought lost would go on as a cluster of its own. So it is for an operator to say, who has seen the others go
and has taken the survivor that is furthest. What can be done is done:

- The epoch rises, so that a replica that turns out to be alive is refused, and refuses.
- The line of who decided what goes to `audit.jsonl` first, then the epoch rises, then the membership changes, each
  durably. Cut short in between, the replica can neither talk to the old members nor decide alone: rescue it again.
- Votes above the chosen prefix stay, for they may have been chosen: the survivor, being alone, chooses them anew. All
  but changes of membership, which would bring back the members that are lost, and of which nothing else depends: their
  slots become no-ops.

Damage is refused: with no peer left there is nothing to repair it with.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from quorate.consensus.core import Persist, Recovered
from quorate.errors import Misuse, StorageBroken
from quorate.files import fsync_directory
from quorate.storage import Identity
from quorate.storage.identity import claimed_mode
from quorate.storage.lmdb import LmdbStore
from quorate.types import NOOP, Ballot, Membership, ReplicaId, Slot, Vote

AUDIT_NAME = "audit.jsonl"


class Rescued(NamedTuple):
    """What a rescue did, as it stands in the audit file."""

    time: str
    """As the operator's machine told it: ISO 8601."""
    cluster: str
    replica: ReplicaId
    epoch: int
    """From now on."""
    chosen: Slot
    promised: Ballot
    before: Membership
    after: Membership


def rescue(directory: Path, identity: Identity, membership: Membership, now: datetime) -> Rescued:
    """Make the replica in `directory` the only member of its cluster; `membership` is the one it was founded with.

    Raises `IdentityRefused` if the directory is not this replica's, holds nothing or is in use, `Misuse` if the replica
    is no member, and `StorageBroken` if the log is damaged or the disk refuses.
    """
    store = LmdbStore(directory, identity, claimed_mode(directory))
    try:
        if store.damaged:
            slots = ", ".join(map(str, store.damaged))
            raise StorageBroken(f"{directory}: log is damaged at slot {slots}", "rescue another replica")
        recovered = store.recover()
        before = recovered.membership or membership
        done = Rescued(
            now.isoformat(),
            store.identity.cluster,
            store.identity.replica,
            store.identity.epoch + 1,
            recovered.chosen,
            recovered.promised,
            before,
            _alone(identity.replica, before, recovered),
        )
        _audit(directory, done)
        store.raise_epoch()
        store.commit([Persist(1, recovered.promised, _votes(recovered, done.after), recovered.chosen, done.after)])
        return done
    finally:
        store.close()


def _alone(survivor: ReplicaId, before: Membership, recovered: Recovered) -> Membership:
    """Return the membership of the survivor alone."""
    addresses = tuple((member, address) for member, address in before.addresses if member == survivor)
    if survivor not in before.members:
        raise Misuse(f"replica {survivor} is no member of the cluster: {before.members} are", "rescue one of these")
    return Membership(before.version + 1, (survivor,), (), addresses, before.last_id)


def _votes(recovered: Recovered, alone: Membership) -> list[tuple[Slot, Vote]]:
    """Return a no-op for each open vote for a change of membership, and behind all votes one for the survivor's own.

    So the log tells of every membership in its turn, and who joins later can follow.
    """
    changes = [(slot, vote) for slot, vote in recovered.votes.items() if Membership.of(vote.batch)]
    last = max(recovered.votes, default=recovered.chosen)
    ballot = recovered.votes[last].ballot if last in recovered.votes else recovered.chosen_ballot
    return [*((slot, Vote(vote.ballot, NOOP)) for slot, vote in changes), (last + 1, Vote(ballot, alone.batch()))]


def _audit(directory: Path, done: Rescued) -> None:
    line = msgspec.json.encode(done._asdict() | {"before": _shown(done.before), "after": _shown(done.after)})
    try:
        with (directory / AUDIT_NAME).open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fsync_directory(directory)
    except OSError as error:
        raise StorageBroken(f"{directory / AUDIT_NAME}: {error.strerror}", "nothing was changed") from error


def _shown(membership: Membership) -> dict[str, Any]:
    """Return the fields by name: on the wire they go by their places."""
    return msgspec.structs.asdict(membership)
