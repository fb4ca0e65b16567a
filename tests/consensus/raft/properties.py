"""What Raft guarantees at all times (figure 3.2), judged on all that the cores have their drivers store.

State Machine Safety is judged by the network itself, at every delivery.
"""

from __future__ import annotations

from tests.consensus.conversation import Member, Network

from quorate.consensus.core import Effect, Persist, Trace
from quorate.types import ReplicaId, Slot, Vote


class Properties:
    """Watches a network from its beginning, besides whoever watches it already."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._others = net.watch
        self._lives: dict[ReplicaId, Member] = {}
        self._logs: dict[ReplicaId, dict[Slot, Vote]] = {}
        """What each member has asked its driver to store, less what a crash undid."""
        self._bases: dict[ReplicaId, Slot] = {}
        self._leaders: dict[int, Member] = {}
        """By term."""
        self._entries: dict[tuple[Slot, int], Vote] = {}
        self._terms_before: dict[tuple[Slot, int], int] = {}
        """By slot and term of an entry, the term of the entry before."""
        net.watch = self.watch

    def watch(self, me: ReplicaId, effect: Effect) -> None:
        self._others(me, effect)
        member = self._net[me]
        if self._lives.get(me) is not member:
            self._lives[me] = member
            recovered = member.store.recover()
            self._bases[me] = recovered.base.slot
            votes = member.store.read(recovered.base.slot + 1, recovered.chosen, 2**30)
            self._logs[me] = dict(enumerate(votes, recovered.base.slot + 1)) | recovered.votes
        if isinstance(effect, Persist):
            self._on_persist(member, effect)
        if isinstance(effect, Trace) and effect.what == "elected":
            self._on_elected(member, effect.detail["ballot"].round)

    def _on_persist(self, member: Member, persist: Persist) -> None:
        log = self._logs[member.me]
        before = dict(log)
        if persist.base is not None:
            self._bases[member.me] = persist.base.slot
        base = self._bases[member.me]
        last = persist.last if persist.last is not None else max(log, default=0)
        for slot in [slot for slot in log if not base < slot <= last]:
            del log[slot]
        log.update(persist.votes)
        if member.leads:
            kept = all(log.get(slot) == vote for slot, vote in before.items() if slot > base)
            assert kept, f"Leader Append-Only: replica {member.me} {persist}"
        for slot, vote in persist.votes:
            self._match(log, slot, vote)

    def _match(self, log: dict[Slot, Vote], slot: Slot, vote: Vote) -> None:
        key = (slot, vote.ballot.round)
        assert self._entries.setdefault(key, vote) == vote, f"Log Matching: two entries in slot and term {key}"
        if slot - 1 in log:
            term = log[slot - 1].ballot.round
            assert self._terms_before.setdefault(key, term) == term, (
                f"Log Matching: two logs before slot and term {key}"
            )

    def _on_elected(self, member: Member, term: int) -> None:
        assert self._leaders.setdefault(term, member) is member, f"Election Safety: two leaders in term {term}"
        base, log = self._bases[member.me], self._logs[member.me]
        for slot, batch in self._net.chosen.items():
            has = slot <= base or (slot in log and log[slot].batch == batch)
            assert has, f"Leader Completeness: replica {member.me} leads term {term} without slot {slot}"
