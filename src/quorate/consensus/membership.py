"""Changes of membership: which are refused, and what each leads to.

One replica comes or goes at a time, so that the quorums before and after a change meet (`quorum`). Who comes is a
learner first, so that no quorum ever waits for an empty log (Ongaro, "Consensus", §4.2.1), and the next change waits
until it votes or is gone again.
"""

from __future__ import annotations

from collections.abc import Collection

from quorate import limits
from quorate.consensus.core import Change
from quorate.consensus.quorum import is_quorum
from quorate.types import Membership, ReplicaId


def refusal(membership: Membership, change: Change, alive: Collection[ReplicaId]) -> str:
    """Return why `change` must not be made now, or an empty string; `alive` are those heard from lately."""
    if change.address is None:
        return _refusal_to_remove(membership, change.replica, alive)
    if membership.learners:
        return f"replica {membership.learners[0]} is still catching up; wait for it, or remove it"
    if change.replica <= membership.last_id:
        return f"id {change.replica} was given before and is never given again; the next is {membership.last_id + 1}"
    if len(membership.members) >= limits.REPLICAS_MAX:
        return f"there are {limits.REPLICAS_MAX} replicas already, and no more may be"
    return ""


def _refusal_to_remove(membership: Membership, replica: ReplicaId, alive: Collection[ReplicaId]) -> str:
    if replica in membership.learners:
        return ""
    if replica not in membership.voters:
        return f"replica {replica} is no member"
    rest = tuple(voter for voter in membership.voters if voter != replica)
    if not rest:
        return f"replica {replica} is the last voter"
    if not is_quorum(alive, rest):
        silent = ", ".join(str(voter) for voter in rest if voter not in alive)
        return f"without replica {replica} the quorum would be lost: nothing is heard of {silent}"
    if membership.learners:
        return f"replica {membership.learners[0]} is still catching up; wait for it, or remove it first"
    return ""


def changed(membership: Membership, change: Change) -> Membership:
    """Return the membership after a change that was not refused."""
    addresses = dict(membership.addresses)
    voters, learners, last_id = membership.voters, membership.learners, membership.last_id
    if change.address is None:
        addresses.pop(change.replica, None)
        voters = tuple(voter for voter in voters if voter != change.replica)
        learners = tuple(learner for learner in learners if learner != change.replica)
    else:
        addresses[change.replica] = change.address
        learners, last_id = (change.replica,), change.replica
    return Membership(membership.version + 1, voters, learners, tuple(sorted(addresses.items())), last_id)


def promoted(membership: Membership) -> Membership:
    """Return the membership in which the learner votes."""
    voters = tuple(sorted(membership.voters + membership.learners))
    return Membership(membership.version + 1, voters, (), membership.addresses, membership.last_id)
