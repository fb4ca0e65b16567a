"""The contract of a consensus core: events in, effects out.

A core is a deterministic function of its events and its injected random generator. It knows no clock, socket, disk or
log. The driver feeds it events one at a time and carries out the returned effects in order; it decides nothing.

Rules a driver must keep:

1. `Persist` effects are committed in the order of their `seq`; when everything up to `seq` is durable the driver says
   `Persisted(seq)`. A failed commit is silence, then the end of the process: never a retry (FAULTS.md §0.3).
2. A `Send` leaves only when every `Persist` up to its `after` is durable. Sends with `after=0` vouch for nothing and go
   at once, so a leader's Accept overlaps its own fsync.
3. `Deliver` comes in slot order, each slot once. It may run ahead of the local disk: the value is durable at a quorum.
   After `Installed` it goes on behind the snapshot.
4. A core knows which slots its store still holds from what it was told by `Trimmed` and `Installed`; the driver trims
   nothing without having said so, and only what a durable snapshot stands for.
5. Messages may be lost, duplicated, delayed or reordered; a core copes. They must not be altered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote

# --- events ----------------------------------------------------------------------------------------------------------


class Tick(NamedTuple):
    """One unit of time has passed."""


class Proposed(NamedTuple):
    """Commands from this replica's clients, to be ordered."""

    batch: Batch


class ReadRequested(NamedTuple):
    """Ask for a read barrier: the core answers `ReadReady` with the same token. One is outstanding at a time."""

    token: int


class Received(NamedTuple):
    """A message of this core's own protocol arrived."""

    sender: ReplicaId
    message: Any


class Persisted(NamedTuple):
    """Every `Persist` up to `seq` survives a power cut."""

    seq: int


class Change(NamedTuple):
    """A change of membership: `replica`, an id nobody has had, comes and listens at `address`; or it goes for good."""

    replica: ReplicaId
    address: str | None
    """None: it goes."""


class ChangeRequested(NamedTuple):
    """An operator asks for a change of membership; the core answers `ChangeAnswered` with the same token, or never."""

    token: int
    change: Change


class HandOverRequested(NamedTuple):
    """This replica wants to lead no longer: a leader hands over to the voter that is furthest, others do nothing."""


class Trimmed(NamedTuple):
    """A durable snapshot stands for everything up to `base`, which this replica no longer needs."""

    base: Base


class Installed(NamedTuple):
    """A snapshot from elsewhere was made durable here: the chosen prefix reaches to `base` at least."""

    base: Base
    membership: Membership
    """As of `base`."""


Event = (
    Tick | Proposed | ReadRequested | Received | Persisted | ChangeRequested | HandOverRequested | Trimmed | Installed
)

# --- effects ---------------------------------------------------------------------------------------------------------


class Persist(NamedTuple):
    """Write to the durable store, atomically: the promise, the votes and the length of the chosen prefix."""

    seq: int
    promised: Ballot
    votes: Sequence[tuple[Slot, Vote]]
    chosen: Slot
    membership: Membership | None = None
    """The membership as of `chosen`, if it is another than in the last Persist."""
    base: Base | None = None
    """The new base, if it moved: records up to it are no longer needed. It may lie beyond all that was ever voted."""
    last: Slot | None = None
    """Remove every vote above this slot that is not among `votes`: Raft drops what its leader does not have."""


class Send(NamedTuple):
    """Send to peers (never to oneself) once every Persist up to `after` is durable."""

    to: tuple[ReplicaId, ...]
    message: Any
    after: int = 0


class SendChosen(NamedTuple):
    """Send `to` the chosen values from `first` to `last`, or a prefix of them within the limits, read from the store.

    All of them are durable there by now. The driver wraps what it read by the core's `chosen_message(first, votes)`.
    """

    to: ReplicaId
    first: Slot
    last: Slot


class Deliver(NamedTuple):
    """`batch` is the value of `slot`, for ever."""

    slot: Slot
    batch: Batch


class ReadReady(NamedTuple):
    """A state that has applied `slot` is no older than any write answered before the barrier was asked for."""

    token: int
    slot: Slot


class Trace(NamedTuple):
    """Something an operator or the simulator may want to know; no effect on the protocol."""

    what: str
    detail: dict[str, Any]


class Reconfigured(NamedTuple):
    """`membership` is in force for all slots after those delivered so far."""

    membership: Membership


class ChangeAnswered(NamedTuple):
    """The change asked for under `token` was made, or refused for the reason given."""

    token: int
    refusal: str
    """Empty when the change was chosen."""


class SnapshotNeeded(NamedTuple):
    """Peers hold no log right behind our prefix any more: it takes a snapshot of `slot` or later to go on."""

    slot: Slot


Effect = Persist | Send | SendChosen | Deliver | ReadReady | Reconfigured | ChangeAnswered | SnapshotNeeded | Trace


class Recovered(NamedTuple):
    """What a store hands a core at start: all that this replica ever vouched for above its chosen prefix."""

    promised: Ballot
    votes: dict[Slot, Vote]
    chosen: Slot
    chosen_ballot: Ballot
    """Of the vote in slot `chosen`; NO_BALLOT if that is 0."""
    base: Base
    membership: Membership | None
    """As of `chosen`; None if it was never changed or written."""


class Status(NamedTuple):
    """A snapshot of a core for operators."""

    role: str
    """leader, candidate or follower."""
    leader: ReplicaId | None
    ballot: Ballot
    chosen: Slot
    """End of the contiguous prefix this replica knows to be chosen."""
    chosen_known: Slot
    """The furthest chosen slot any peer has told of."""
    membership: Membership
    """In force for the slot after `chosen`."""
    reached: dict[ReplicaId, Slot]
    """How far each other member has told that its prefix reaches."""

    @property
    def leadership(self) -> Ballot | None:
        """Name the present leadership; another one has another name, also if the same replica leads again.

        What was promised or voted for may name another replica than the one that leads, but tells its round.
        """
        return None if self.leader is None else Ballot(self.ballot.round, self.leader)


class Core(Protocol):
    """A consensus protocol as a pure state machine."""

    def step(self, event: Event) -> list[Effect]:
        """Take one event and return its effects, in the order in which they must be carried out."""
        ...

    def status(self) -> Status:
        """Return what an operator wants to see."""
        ...

    def accepts_proposals(self) -> bool:
        """Say whether a `Proposed` now has somewhere to go; if not, it must not be offered."""
        ...

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> Any:
        """Wrap chosen values, starting at slot `first`, as the message that answers a catch-up request."""
        ...
