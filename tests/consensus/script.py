"""Plays a conversation written down as verbs, and tells what became of it.

Each letter that arrives is a line, and each effect of a member one that is set in. `after #2` says that a message waits
for the second Persist, `?1` names the first question asked, `[1 2 +3]` are two voters and a learner.

Verbs, where rN is a member:

    group 3                 start with members r1 to r3; the first line of every script
    elect r1                let time pass until r1 leads and all know it, untold
    write r1 a b            have r1's clients' commands chosen one by one, and known to all, untold
    tick r1 12, tick all    let time pass for one member or all, without a letter arriving
    run 4                   let time pass for all, and letters arrive after each tick
    deliver, deliver 3      let letters arrive, oldest first, and the answers to them: until silence, or so many
    lose                    lose all letters on their way
    drop r1>r2, drop r1     lose every letter on this way, or to and from this member, until `heal`
    propose r1 a b          commands from clients of r1
    read r2                 ask for a read barrier
    slow r1, sync r1        let the disk of r1 wait; let it finish, and be fast again
    crash r3, restart r3    end a member; start it from its disk
    add r4 at r1            ask r1 for a new member, which starts with an empty disk
    remove r2 at r1         ask r1 to remove a member
    trim r1                 take a snapshot at r1, and let it stand for the log
    install r4              install the last snapshot taken
    handover r1             ask r1 to hand over
    status, logs            tell of each member where it stands; what it knows to be chosen
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.consensus.conversation import CoreType, Letter, Network, Snapshot, address, describe, value

from quorate import limits
from quorate.consensus.core import (
    Change,
    ChangeAnswered,
    ChangeRequested,
    Deliver,
    Effect,
    Persist,
    Proposed,
    ReadReady,
    Reconfigured,
    Send,
    SendChosen,
    SnapshotNeeded,
    Tick,
    Trace,
)
from quorate.consensus.messages import Message
from quorate.storage.memory import MemoryStore
from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Vote


def replica(name: str) -> ReplicaId:
    return ReplicaId(int(name.removeprefix("r")))


class Player:
    """Carries out verbs; `told` is what happened since it was last taken."""

    def __init__(self, core: CoreType) -> None:
        self.told: list[str] = []
        self._core = core
        self._net = Network(0, core)
        self._dropped: list[tuple[ReplicaId | None, ReplicaId | None]] = []
        self._crashed: dict[ReplicaId, MemoryStore] = {}
        self._snapshot: Snapshot | None = None
        self._queries: dict[int, int] = {}
        """Questions have random names; here they are counted."""
        self._tokens = 0

    def play(self, line: str) -> list[str]:
        """Carry out one line, and return what it led to."""
        self.told = []
        verb, *words = line.split()
        act: Callable[..., None] = getattr(self, f"_play_{verb}")
        act(*words)
        return self.told

    # --- time and letters --------------------------------------------------------------------------------------------

    def _play_group(self, size: str) -> None:
        self._net = Network(int(size), self._core)
        self._net.loses = self._loses
        self._net.watch = self._tell_effect

    def _play_elect(self, me: str) -> None:
        self._net.elect(replica(me))
        self._net.tick(limits.HEARTBEAT_TICKS)
        self.told = []

    def _play_write(self, me: str, *names: str) -> None:
        self._net.propose(replica(me), *names)
        self._net.tick(limits.HEARTBEAT_TICKS)
        self.told = []

    def _play_tick(self, who: str, count: str = "1") -> None:
        for _ in range(int(count)):
            for me in tuple(self._net.members) if who == "all" else (replica(who),):
                self._net.step(me, Tick())

    def _play_run(self, count: str) -> None:
        for _ in range(int(count)):
            self._play_tick("all")
            self._play_deliver()

    def _play_deliver(self, count: str = "-1") -> None:
        left = int(count)
        while self._net.letters and left != 0:
            left -= 1
            self._arrive(self._net.letters.popleft())

    def _arrive(self, letter: Letter) -> None:
        way = f"r{letter.to} <- r{letter.sender}: {type(letter.message).__name__}"
        if letter.to not in self._net.members or self._loses(letter):
            self.told.append(f"{way}, lost")
        else:
            self.told.append(way)
            self._net.tell(letter.to, letter.sender, letter.message)

    def _play_lose(self) -> None:
        self._net.letters.clear()

    def _play_drop(self, way: str) -> None:
        if ">" in way:
            sender, to = way.split(">")
            self._dropped.append((replica(sender), replica(to)))
        else:
            self._dropped += [(replica(way), None), (None, replica(way))]

    def _play_heal(self) -> None:
        self._dropped = []

    def _loses(self, letter: Letter) -> bool:
        return any(sender in (None, letter.sender) and to in (None, letter.to) for sender, to in self._dropped)

    # --- what members are asked for ----------------------------------------------------------------------------------

    def _play_propose(self, me: str, *names: str) -> None:
        for name in names:
            self._net.step(replica(me), Proposed(value(name)))

    def _play_read(self, me: str) -> None:
        self._tokens += 1
        self._net.ask_barrier(replica(me), self._tokens)

    def _play_add(self, me: str, _: str, at: str) -> None:
        self._net.join(replica(me))
        self._change(at, Change(replica(me), address(replica(me))))

    def _play_remove(self, me: str, _: str, at: str) -> None:
        self._change(at, Change(replica(me), None))

    def _change(self, at: str, change: Change) -> None:
        self._tokens += 1
        self._net.step(replica(at), ChangeRequested(self._tokens, change))

    def _play_handover(self, me: str) -> None:
        self._net.hand_over(replica(me))

    def _play_trim(self, me: str) -> None:
        self._snapshot = self._net.trim(replica(me))

    def _play_install(self, me: str) -> None:
        assert self._snapshot, "no snapshot was taken"
        self._net.install(replica(me), self._snapshot)

    # --- disks and lives ---------------------------------------------------------------------------------------------

    def _play_slow(self, me: str) -> None:
        self._net[replica(me)].slow_disk = True

    def _play_sync(self, me: str) -> None:
        self._net[replica(me)].slow_disk = False
        self._net.sync(replica(me))

    def _play_crash(self, me: str) -> None:
        self._crashed[replica(me)] = self._net.crash(replica(me))

    def _play_restart(self, me: str) -> None:
        store = self._crashed.pop(replica(me), None)
        self._net.revive(replica(me), store or self._net.crash(replica(me)))

    # --- telling -----------------------------------------------------------------------------------------------------

    def _play_status(self) -> None:
        for me, member in sorted(self._net.members.items()):
            status = member.core.status()
            leader = f" of r{status.leader}" if status.leader not in (None, me) else ""
            where = f"{self._short(status.ballot)}, chosen {status.chosen}, {self._short(status.membership)}"
            self.told.append(f"r{me}: {status.role}{leader}, {where}")

    def _play_logs(self) -> None:
        for me in sorted(self._net.members):
            self.told.append(f"r{me}: {' '.join(entry or '-' for entry in self._net.log(me))}")

    def _tell_effect(self, me: ReplicaId, effect: Effect) -> None:
        self.told.append(f"  r{me} {self._effect(effect)}")

    def _effect(self, effect: Effect) -> str:
        match effect:
            case Persist():
                return self._persist(effect)
            case Send(to, message, after):
                waits = f" after #{after}" if after else ""
                return f"-> {' '.join(f'r{peer}' for peer in to)}: {self._short(message)}{waits}"
            case SendChosen(to, first, last):
                return f"-> r{to}: Learned, {first} to {last} from the store"
            case Deliver(slot, batch):
                return f"delivers {slot}: {self._short(batch)}"
            case ReadReady(token, slot):
                return f"may read {token} at {slot}"
            case Reconfigured(membership):
                return f"has members {self._short(membership)}"
            case ChangeAnswered(token, refusal):
                return f"answers change {token}: {refusal or 'made'}"
            case SnapshotNeeded(slot):
                return f"needs a snapshot of {slot}"
            case Trace(what, detail):
                return " ".join([f"notes {what}:", *(f"{name} {self._short(some)}" for name, some in detail.items())])

    def _persist(self, persist: Persist) -> str:
        parts = [f"promised {self._short(persist.promised)}", f"chosen {persist.chosen}"]
        parts += [f"{slot}={self._short(vote)}" for slot, vote in persist.votes]
        for name in ("membership", "base", "last"):
            if getattr(persist, name) is not None:
                parts.append(f"{name} {self._short(getattr(persist, name))}")
        return f"persists #{persist.seq}: {', '.join(parts)}"

    def _short(self, some: Any) -> str:
        """Return a noun of the protocols as somebody would write it on a blackboard."""
        match some:
            case Ballot(round_, me):
                return f"{round_}.{me}"
            case Vote(ballot, batch):
                return f"{self._short(batch)}@{self._short(ballot)}"
            case Base(slot, index, ballot):
                return f"{slot} (index {index}, {self._short(ballot)})"
            case Membership():
                return describe(some.batch())
            case Batch():
                return describe(some) or "no-op"
            case Message():
                fields = (f"{name} {self._field(name, getattr(some, name))}" for name in some.__struct_fields__)
                return f"{type(some).__name__}({', '.join(fields)})"
            case tuple():
                return f"({' '.join(self._short(each) for each in some)})"
        return str(some)

    def _field(self, name: str, some: Any) -> str:
        return f"?{self._queries.setdefault(some, len(self._queries) + 1)}" if name == "query" else self._short(some)
