"""The planted bugs by name, and the hunt for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from quorate.consensus.paxos.node import PaxosCore
from quorate.consensus.raft.node import RaftCore
from quorate.sim.kits import PAXOS, RAFT
from quorate.sim.machine import Kit
from quorate.sim.minimise import invariant
from quorate.sim.planted import cores, parts, paxos, raft
from quorate.sim.run import spread
from quorate.sim.swarm import Fault, Swarm, draw
from quorate.sim.world import Report, World

SEEDS_MAX = 150
"""A bug that survives so many seeds counts as missed."""


class Planted(NamedTuple):
    """One bug, and what it takes to catch it."""

    kit: Kit
    caught_by: frozenset[str]
    """Invariants of which one has to break."""
    faults: Mapping[Fault, float] = {}
    """Faults that bring it out, at these rates, beside those of the seed."""
    alone: bool = False
    """Nothing but those faults, and clients that wait rather than try again."""

    def swarm(self, seed: int) -> Swarm:
        """Return the circumstances of one seed."""
        drawn = draw(seed)
        if self.alone:
            return drawn._replace(replicas=3, patience_ticks=PATIENT_TICKS, rates=dict(self.faults))
        return drawn._replace(replicas=max(3, drawn.replicas), rates=drawn.rates | dict(self.faults))


PATIENT_TICKS = 150


def _paxos(bug: type[Any], *caught_by: str, faults: Mapping[Fault, float] | None = None) -> Planted:
    core = bug if issubclass(bug, PaxosCore) else cores.in_paxos(bug)
    return Planted(PAXOS._replace(core=core), frozenset(caught_by), faults or {})


def _raft(bug: type[Any], *caught_by: str, faults: Mapping[Fault, float] | None = None) -> Planted:
    core = bug if issubclass(bug, RaftCore) else cores.in_raft(bug)
    return Planted(RAFT._replace(core=core), frozenset(caught_by), faults or {})


def _part(caught_by: set[str], faults: Mapping[Fault, float] | None = None, **part: type) -> Planted:
    return Planted(PAXOS._replace(**part), frozenset(caught_by), faults or {})


_SESSIONS_LOST = {
    "each request takes effect once",
    "states are equal at equal slots",
    "snapshots of one slot are equal",
}
_VOUCHES = "what vouches is durable"
_TELLS = "a promise tells every vote"

PLANTED: Mapping[str, Planted] = {
    # The list of FAULTS.md §4, in its order.
    "ack before fsync": _paxos(cores.VouchesEarly, _VOUCHES),
    "ack before fsync, Raft": _raft(cores.VouchesEarly, _VOUCHES),
    "vote not persisted": _paxos(cores.WritesNoVotes, _VOUCHES),
    "vote not persisted, Raft": _raft(cores.WritesNoVotes, _VOUCHES),
    "accept without promise check": _paxos(paxos.VotesForAnyone, "votes keep promises"),
    "commit entry of old term": _raft(
        raft.CountsOldTerms, "entries of earlier terms are not counted", faults={Fault.CRASH: 1 / 30}
    ),
    "skip no-op before config change": _raft(
        raft.ChangesBeforeItsNoop,
        "a change follows a chosen entry of its term",
        faults={Fault.ADDED: 1 / 30, Fault.REMOVED: 1 / 30, Fault.HAND_OVER: 1 / 20},
    ),
    "two uncommitted configs": _paxos(
        cores.ChangesTwice,
        "nothing is proposed behind an open change",
        "a change is made from the membership in force",
        faults={Fault.ADDED: 1 / 30, Fault.REMOVED: 1 / 30},
    ),
    "two uncommitted configs, Raft": _raft(
        cores.ChangesTwice, "one change at a time", faults={Fault.ADDED: 1 / 30, Fault.REMOVED: 1 / 30}
    ),
    "lease read after pause": _paxos(cores.TrustsItsLease, "reads are linearizable", faults={Fault.PAUSE: 1 / 40}),
    "lease read after pause, Raft": _raft(cores.TrustsItsLease, "reads are linearizable", faults={Fault.PAUSE: 1 / 40}),
    "truncate on bad CRC": _part(
        {"the chosen prefix never shrinks"}, {Fault.FLIPPED: 1 / 60}, machine=parts.CutsDamage
    ),
    "empty store accepted": _part({_VOUCHES, _TELLS}, {Fault.WIPED: 1 / 60}, machine=parts.BelievesAnyDisk),
    "rolled-back disk votes": _part({_VOUCHES, _TELLS}, {Fault.ROLLED_BACK: 1 / 60}, machine=parts.BelievesAnyDisk),
    "dedup table missing from snapshot": _part(_SESSIONS_LOST, app=parts.LeavesOutTheSessions),
    "dedup table keyed by connection": _part({"each request takes effect once"}, process=parts.KeysByConnection),
    "snapshot without config": _part({"snapshots hold the membership"}, process=parts.LeavesOutTheMembers),
    "off-by-one commit on compaction": _part(
        {"snapshots of one slot are equal", "states are equal at equal slots"}, process=parts.CompactsOneTooMany
    ),
    "apply before commit": _part(_SESSIONS_LOST, process=parts.AppliesEarly),
    "proposal forwarded twice by ex-leader": Planted(
        PAXOS._replace(core=cores.in_paxos(cores.ForwardsTwice), app=parts.ExecutesEverything),
        frozenset({"each request takes effect once"}),
        {Fault.HAND_OVER: 1 / 20},
        alone=True,
    ),
    # Others, each for an invariant that the list does not reach.
    "promise forgotten": _paxos(paxos.ForgetsItsPromise, "promises are kept"),
    "votes forgotten": _paxos(paxos.ForgetsItsVotes, _TELLS, "deliveries are durable at a quorum"),
    "votes hidden": _paxos(paxos.HidesItsVotes, _TELLS),
    "open slots proposed afresh": _paxos(
        paxos.ProposesAfresh, "later ballots keep the chosen value", "one value per slot"
    ),
    "one vote taken for a majority": _paxos(paxos.DeliversEarly, "deliveries are durable at a quorum"),
    "votes without bound": _paxos(paxos.VotesWithoutBound, "votes above the chosen prefix are bounded"),
    "two votes in one term": _raft(raft.VotesTwice, "a term has one vote"),
    "something else delivered": _paxos(
        cores.DeliversSomethingElse, "one value per slot", "deliveries are durable at a quorum"
    ),
    "delivery skipped": _paxos(cores.SkipsADelivery, "deliveries have no gaps"),
    "prefix recorded too long": _paxos(cores.RecordsTooMuch, "the chosen prefix is on disk"),
    "prefix lost": _paxos(cores.LosesItsPlace, "the chosen prefix never shrinks"),
    "nonsense taught": _paxos(cores.TeachesNonsense, "only chosen values are taught"),
    "read from own state": _paxos(cores.ReadsItsOwnState, "reads are linearizable"),
    "barrier answered twice": _paxos(cores.AnswersBarriersTwice, "barriers are answered once"),
    "command invented": _paxos(cores.Invents, "nothing is invented"),
    "commands miscounted": _paxos(cores.MiscountsCommands, "batches are whole"),
    "nobody stands": _paxos(cores.NeverLeads, "the healed make progress"),
    "nobody catches up": _paxos(cores.NeverCatchesUp, "the healed make progress"),
    "exception": _paxos(cores.Raises, "no exceptions"),
}

ELSEWHERE = (
    "forward raw bytes (tests/intercept)",
    "retry POST on upstream timeout (tests/replica)",
    "wall-clock script limit (comes with scripts)",
    "resend of egress on replay (comes with egress)",
)
"""The rest of the list: bugs of what no simulated world has."""


class Catch(NamedTuple):
    """How a hunt ended: the seed that caught the bug, and the invariant that broke; 0 and nothing if it got away."""

    seed: int
    broken: str


def run_planted(name: str, seed: int) -> Report:
    """Run the world of one seed with a bug in it."""
    planted = PLANTED[name]
    return World(planted.swarm(seed), planted.kit).run()


def hunt(name: str) -> Catch:
    """Run seed after seed with a bug, until one of the invariants it is meant to break does."""
    for seed in range(1, SEEDS_MAX + 1):
        broken = invariant(run_planted(name, seed))
        if broken in PLANTED[name].caught_by:
            return Catch(seed, broken)
    return Catch(0, "")


def main() -> int:
    """Hunt all planted bugs, and print what became of them. Returns 0 if all were caught, else 1."""
    catches = dict(zip(PLANTED, spread(hunt, PLANTED, at_once=1), strict=True))
    print("\n".join(told(catches)))  # noqa: T201 - the output of the command
    return 0 if all(catch.seed for catch in catches.values()) else 1


def told(catches: Mapping[str, Catch]) -> list[str]:
    """Return what became of the planted bugs, a line each, and the sum."""
    lines = [
        f"{name:<40} seed {catch.seed:>3}  {catch.broken}" if catch.seed else f"{name:<40} MISSED"
        for name, catch in catches.items()
    ]
    missed = [name for name, catch in catches.items() if not catch.seed]
    sum_ = f"FAILED: missed {', '.join(missed)}" if missed else f"all {len(catches)} caught"
    return [*lines, f"judged elsewhere: {'; '.join(ELSEWHERE)}", sum_]
