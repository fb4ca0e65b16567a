"""The judge: what must hold at every moment of a run, whatever the faults, the protocol and the members.

It sees each Persist as it becomes durable, each message as it leaves, each delivery, each command as it takes effect,
and each answer to a client, and keeps what was ever durable and what was ever chosen across all crashes and all lost
disks. It trusts no replica's word: a value counts as chosen when a quorum of disks bears it. Reads and writes need no
search for a linearization: the slots are one, so it is enough that no answer shows less than an answer given before it
was asked for. (A share of the seeds is searched all the same: see `clients`.)

What only one protocol promises is judged by its `Rules`, in `rules_paxos` and `rules_raft`.
"""

from __future__ import annotations

from quorate.consensus.core import Persist
from quorate.consensus.quorum import is_quorum
from quorate.errors import Broken
from quorate.sim.app import App, Effect, Snapshot, number_of
from quorate.sim.disk import Image
from quorate.sim.rules import Record, RulesFactory
from quorate.sim.violation import Violation, require
from quorate.types import Ballot, Base, Batch, Command, Index, Membership, ReplicaId, Slot
from quorate.wire import decode_batch


class Invariants:
    """Everything a run must never do. The world reports what happens; whatever breaks a rule raises `Violation`."""

    def __init__(self, founding: Membership, rules: RulesFactory) -> None:
        self.records: dict[ReplicaId, Record] = {}
        self.chosen: dict[Slot, Batch] = {}
        """The one value of each slot that was ever delivered; there are no gaps."""
        self.chosen_by: dict[Slot, Ballot] = {}
        """A ballot by which the value was chosen at the latest."""
        self.memberships: list[tuple[Slot, Membership]] = [(0, founding)]
        """Each with the slot it was chosen in."""
        self.delivered: dict[ReplicaId, Slot] = {}
        """How far each process has delivered."""
        self.executed: dict[int, Index] = {}
        """Where each command took effect."""
        self.index: Index = 0
        """The last that was applied anywhere."""
        self.snapshots = 0
        """Taken."""
        self.installs = 0
        self._commands: dict[Slot, list[Command]] = {}
        self._digests: dict[Slot, bytes] = {}
        self._states: dict[Slot, bytes] = {}
        self._submitted: set[int] = set()
        self._answered: set[int] = set()
        self._refused: set[tuple[ReplicaId, bool]] = set()
        """Changes that were asked for once and refused: the replica, and whether it was to come."""
        self.observed: Slot = 0
        """The furthest slot that an answered call has shown to a client."""
        self._leaders: dict[Ballot, tuple[ReplicaId, int]] = {}
        self._rules = rules(self)
        self.on_send = self._rules.on_send
        """Judges a message at the moment it leaves a replica."""

    @property
    def elections(self) -> int:
        """How many ballots had a leader."""
        return len(self._leaders)

    @property
    def membership(self) -> Membership:
        """The last that was chosen."""
        return self.memberships[-1][1]

    def membership_at(self, slot: Slot) -> Membership:
        """Return the last membership chosen before `slot`."""
        return next(membership for chosen_in, membership in reversed(self.memberships) if chosen_in < max(slot, 1))

    # --- the disk ----------------------------------------------------------------------------------------------------

    def on_persist(self, replica: ReplicaId, persist: Persist) -> None:
        """Judge a Persist that is about to become durable."""
        record = self.records[replica]
        require(persist.promised >= record.promised, "promises are kept", "replica", replica, record.promised, persist)
        require(persist.chosen >= record.chosen, "the chosen prefix never shrinks", "replica", replica, persist)
        self._rules.on_persist(replica, record, persist)
        self._judge_prefix(replica, record, persist)
        if persist.membership is not None:
            # A joiner knows no members before it has come to the first change.
            known = not persist.membership.members or self.membership_at(persist.chosen + 1) == persist.membership
            require(known, "the membership kept is that of the prefix", "replica", replica, persist)
        if persist.base is not None:
            require(persist.base.slot <= persist.chosen, "only the chosen is trimmed", "replica", replica, persist)
        record.apply(persist)

    def _judge_prefix(self, replica: ReplicaId, record: Record, persist: Persist) -> None:
        votes = dict(persist.votes)
        for slot in range(max(record.chosen, record.installed) + 1, persist.chosen + 1):
            vote = votes.get(slot) or record.votes.get(slot)
            kept = vote is not None and vote.batch == self.chosen.get(slot)
            require(kept, "the chosen prefix is on disk", "replica", replica, "slot", slot, vote)

    # --- leaders and deliveries --------------------------------------------------------------------------------------

    def on_leader(self, replica: ReplicaId, life: int, ballot: Ballot) -> None:
        """Judge that `replica`, in its `life`, says it leads `ballot`."""
        first = self._leaders.setdefault(ballot, (replica, life))
        require(
            first == (replica, life), "one leader per ballot", ballot, "replica", replica, "life", life, "before", first
        )

    def on_boot(self, replica: ReplicaId, image: Image) -> None:
        """Take down that a process starts, and with it what it need not be told again."""
        self.records.setdefault(replica, Record())
        self.delivered[replica] = image.chosen

    def on_deliver(self, replica: ReplicaId, slot: Slot, batch: Batch) -> list[Command]:
        """Judge a delivery, and return its commands."""
        delivered = self.delivered[replica]
        self.delivered[replica] = slot
        require(slot == delivered + 1, "deliveries have no gaps", "replica", replica, "slot", slot, "after", delivered)
        known = self.chosen.get(slot)
        if known is None:
            self._choose(replica, slot, batch)
        else:
            require(known == batch, "one value per slot", "replica", replica, "slot", slot, batch, "before", known)
        return self._commands[slot]

    def commands_at(self, slot: Slot) -> list[Command]:
        """Return the commands of a chosen slot."""
        return self._commands[slot]

    def _choose(self, replica: ReplicaId, slot: Slot, batch: Batch) -> None:
        holding = [holder for holder, record in self.records.items() if record.holds(slot, batch)]
        durable = any(is_quorum(holding, membership.voters) for membership in self._rules.electorates(slot))
        where = ("replica", replica, "slot", slot, batch)
        require(durable, "deliveries are durable at a quorum", *where, "on the disks of", holding)
        self._commands[slot] = self._judge_commands(slot, batch)
        self.chosen[slot] = batch
        self.chosen_by[slot] = self._rules.on_choose(slot, [self.records[holder] for holder in holding])
        membership = Membership.of(batch)
        if membership is not None:
            self._change(slot, membership)

    def _judge_commands(self, slot: Slot, batch: Batch) -> list[Command]:
        try:
            commands = decode_batch(batch)
        except Broken as error:
            raise Violation("batches are whole", f"slot {slot}: {error}") from error
        for command in commands:
            require(number_of(command) in self._submitted, "nothing is invented", "slot", slot, command)
        return commands

    # --- members -----------------------------------------------------------------------------------------------------

    def _change(self, slot: Slot, new: Membership) -> None:
        """Judge a membership that was just chosen."""
        old = self.membership
        came, went = set(new.members) - set(old.members), set(old.members) - set(new.members)
        voters_differ = set(old.voters) ^ set(new.voters)
        lawful = new.version == old.version + 1 and len(voters_differ) <= 1 and len(came) + len(went) <= 1
        require(lawful, "one change at a time", "slot", slot, new, "after", old)
        require(all(one > old.last_id for one in came), "ids are never given again", "slot", slot, new, "after", old)
        require(new.last_id >= max((old.last_id, *new.members)), "ids are never given again", "slot", slot, new)
        require(bool(new.voters), "somebody votes", "slot", slot, new)
        refused = self._refused & ({(one, True) for one in came} | {(one, False) for one in went})
        require(not refused, "refused changes do not happen", "slot", slot, new, refused)
        self.memberships.append((slot, new))
        self._judge_holders(new)

    def _judge_holders(self, membership: Membership) -> None:
        """Judge whether any quorum from here on includes somebody who has each chosen value."""
        for slot, batch in self.chosen.items():
            lacking = [voter for voter in membership.voters if not self._holds(voter, slot, batch)]
            kept = not is_quorum(lacking, membership.voters)
            require(kept, "every quorum holds what is chosen", "slot", slot, "is lacking at", lacking, membership)

    def _holds(self, replica: ReplicaId, slot: Slot, batch: Batch) -> bool:
        record = self.records.get(replica)
        return record is not None and record.holds(slot, batch)

    def on_change_asked(self, replica: ReplicaId, comes: bool) -> None:
        """Take down that a change is asked for (again)."""
        self._refused.discard((replica, comes))

    def on_change_refused(self, replica: ReplicaId, comes: bool) -> None:
        """Take down that the only request for a change was refused."""
        self._refused.add((replica, comes))

    def on_unlawful(self, change: object, refusal: str) -> None:
        """Judge the answer to a change that must be refused."""
        require(bool(refusal), "unlawful changes are refused", change)

    # --- the application ---------------------------------------------------------------------------------------------

    def on_effect(self, replica: ReplicaId, index: Index, effect: Effect) -> None:
        """Judge that a command took effect, or did not, at `index`."""
        if effect.executed:
            first = self.executed.setdefault(effect.number, index)
            twice = ("replica", replica, "command", effect.number, "index", index, "before", first)
            require(first == index, "each request takes effect once", *twice)

    def on_applied(self, replica: ReplicaId, slot: Slot, app: App) -> None:
        """Judge the state of an application after `slot`."""
        self.index = max(self.index, app.index)
        digest = self._digests.setdefault(slot, app.digest)
        require(digest == app.digest, "states are equal at equal slots", "replica", replica, "slot", slot)

    def on_snapshot(self, replica: ReplicaId, snapshot: Snapshot) -> None:
        """Judge a snapshot that was taken, or is being installed."""
        slot = snapshot.base.slot
        self.snapshots += 1
        state = self._states.setdefault(slot, snapshot.state)
        require(state == snapshot.state, "snapshots of one slot are equal", "replica", replica, "slot", slot)
        known = self.membership_at(slot + 1) == snapshot.membership
        require(known, "snapshots hold the membership", "replica", replica, "slot", slot, snapshot.membership)

    def on_install(self, replica: ReplicaId, base: Base, app: App) -> None:
        """Judge that a snapshot takes the place of the deliveries up to its base."""
        require(base.slot > self.delivered[replica], "deliveries have no gaps", "replica", replica, base)
        record = self.records[replica]
        self.delivered[replica] = record.installed = base.slot
        record.votes = {slot: vote for slot, vote in record.votes.items() if slot > base.slot}
        self.installs += 1
        self.on_applied(replica, base.slot, app)

    # --- clients -----------------------------------------------------------------------------------------------------

    def on_submitted(self, number: int) -> None:
        """Take down that a client has called."""
        self._submitted.add(number)

    def on_answered(self, slot: Slot, number: int | None) -> None:
        """Take down that a client was shown the state as of `slot`: of its write, or of a read if that is None."""
        self.observed = max(self.observed, slot)
        if number is not None:
            self._answered.add(number)

    def on_barrier(self, replica: ReplicaId, observed: Slot, slot: Slot) -> None:
        """Judge a read barrier that was asked for when clients had been shown states up to `observed`."""
        require(
            slot >= observed, "reads are linearizable", "replica", replica, "may read at", slot, "clients saw", observed
        )

    # --- the end -----------------------------------------------------------------------------------------------------

    def on_end(self, images: dict[ReplicaId, Image]) -> None:
        """Judge the disks of the members of a cluster that has come to rest."""
        require(bool(self.executed), "something is chosen", "no command was")
        lost = self._answered - self.executed.keys()
        require(not lost, "nothing answered is lost", "lost are", sorted(lost)[:5])
        for replica, image in images.items():
            log = {slot: image.votes[slot].batch for slot in self.chosen if slot in image.votes}
            expected = {slot: batch for slot, batch in self.chosen.items() if slot > image.base.slot}
            require(log == expected, "logs end equal", "replica", replica, "has", len(log), "of", len(expected))
