"""A group to which anything may happen: for walks that Hypothesis, or a generator, thinks up.

Agreement and order are checked by the network at each delivery; here is added that read barriers are no older than
anything delivered anywhere before they were asked for, and that after all troubles are over the group goes on.
"""

from __future__ import annotations

import random

from hypothesis import strategies as st
from tests.consensus.conversation import CoreType, Network, Snapshot, address, value

from quorate import limits
from quorate.consensus.core import Change, ChangeRequested, Effect, Proposed, ReadReady, Tick
from quorate.types import NO_BASE, ReplicaId, Slot, founding

IDS_MAX = 6
NOTHING = Snapshot(NO_BASE, founding({}))

KINDS = {
    "tick": 15,
    "rest": 15,
    "propose": 99,
    "cut": 2 ** (IDS_MAX + 2),
    "restart": 1,
    "shuffle": 2**16,
    "slow": 1,
    "arrive": 15,
    "read": 1,
    "hand_over": 1,
    "add": 1,
    "remove": IDS_MAX,
    "trim": 1,
    "install": 1,
}
"""What may happen to one member, each with the largest number that says how."""

Step = tuple[str, int, int]

STEPS = st.lists(
    st.sampled_from(sorted(KINDS)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.integers(1, IDS_MAX), st.integers(1, KINDS[kind]))
    ),
    max_size=60,
)


def random_steps(seed: int, count: int) -> list[Step]:
    """Return a walk in which time and messages make up most of what happens."""
    rng = random.Random(seed)
    rare = sorted(set(KINDS) - {"tick", "arrive", "propose"})
    kinds = rng.sample(rare, rng.randint(2, len(rare))) * 2 + ["tick", "arrive", "arrive", "propose"] * 5
    return [(kind, rng.randint(1, IDS_MAX), rng.randint(1, KINDS[kind])) for kind in rng.choices(kinds, k=count)]


class Trouble:
    """Carries out the steps of a walk on a group of three that replica 1 leads."""

    def __init__(self, core: CoreType) -> None:
        self.net = Network(3, core)
        self.net.watch = self.watch
        self._observed: dict[tuple[ReplicaId, int], Slot] = {}
        """What had been delivered anywhere when each barrier was asked for."""
        self._asked: dict[ReplicaId, int] = {}
        self._commands = 0
        self._snapshot = NOTHING
        """The newest that anybody took."""
        self.net.elect(ReplicaId(1))

    def walk(self, steps: list[Step]) -> None:
        for what, who, how in steps:
            me = ReplicaId((who - 1) % len(self.net.ids) + 1)
            getattr(self, what)(me, how)

    def watch(self, me: ReplicaId, effect: Effect) -> None:
        if isinstance(effect, ReadReady):
            assert effect.slot >= self._observed[me, effect.token], "a barrier older than what was seen before"

    # --- what happens ------------------------------------------------------------------------------------------------

    def tick(self, me: ReplicaId, count: int) -> None:
        for _ in range(count):
            self.net.step(me, Tick())

    def rest(self, _: ReplicaId, count: int) -> None:
        self.net.tick(count)

    def propose(self, me: ReplicaId, _: int) -> None:
        self._commands += 1
        self.net.step(me, Proposed(value(f"{self._commands} ")))

    def cut(self, _: ReplicaId, sides: int) -> None:
        """Part the group in two by the lower bits of `sides`, or heal it."""
        healed = sides >> IDS_MAX + 1
        self.net.loses = lambda letter: not healed and (sides >> letter.sender ^ sides >> letter.to) & 1 == 1

    def restart(self, me: ReplicaId, _: int) -> None:
        self._asked.pop(me, None)
        self.net.restart(me)

    def slow(self, me: ReplicaId, _: int) -> None:
        member = self.net[me]
        member.slow_disk = not member.slow_disk
        self.net.sync(me)

    def shuffle(self, _: ReplicaId, seed: int) -> None:
        letters = list(self.net.letters)
        random.Random(seed).shuffle(letters)
        self.net.letters.clear()
        self.net.letters.extend(letters)

    def arrive(self, _: ReplicaId, count: int) -> None:
        for letter in [self.net.letters.popleft() for _ in range(min(count, len(self.net.letters)))]:
            if letter.to in self.net.members and not self.net.loses(letter):
                self.net.tell(letter.to, letter.sender, letter.message)

    def read(self, me: ReplicaId, _: int) -> None:
        token = self._asked[me] = len(self._observed) + 1
        self._observed[me, token] = max(self.net.chosen, default=0)
        self.net.ask_barrier(me, token)

    def hand_over(self, me: ReplicaId, _: int) -> None:
        self.net.hand_over(me)

    def add(self, me: ReplicaId, _: int) -> None:
        new = ReplicaId(len(self.net.ids) + 1)
        if new <= IDS_MAX:
            self.net.join(new)
            self.net.step(me, ChangeRequested(new, Change(new, address(new))))

    def remove(self, me: ReplicaId, who: int) -> None:
        self.net.step(me, ChangeRequested(100 + who, Change(ReplicaId(who), None)))

    def trim(self, me: ReplicaId, _: int) -> None:
        """Snapshots cover what is durable."""
        member = self.net[me]
        if member.store.recover().chosen >= member.delivered > member.store.recover().base.slot:
            self._snapshot = max(self.net.trim(me), self._snapshot, key=lambda snapshot: snapshot.base)

    def install(self, me: ReplicaId, _: int) -> None:
        if self._snapshot.base.slot > self.net[me].delivered:
            self.net.install(me, self._snapshot)

    # --- the end -----------------------------------------------------------------------------------------------------

    def end_well(self) -> None:
        """Heal everything: all members must agree on one log that a new command still gets into."""
        net = self.net
        net.heal()
        for member in net.members.values():
            member.slow_disk = False
            net.sync(member.me)
        for _ in range(20):
            net.tick(limits.ELECTION_TICKS_MAX)
            for member in net.members.values():
                if member.snapshots_needed:
                    self.install(member.me, 1)
        leader = net.leader
        net.propose(leader, "last")
        net.tick(3 * limits.RESEND_TICKS)
        final = net[leader].membership
        assert leader in final.voters
        for me in final.members:
            assert net[me].delivered == net[leader].delivered, f"replica {me} stays behind"
        assert "last" in net.commands(leader)[-1]
