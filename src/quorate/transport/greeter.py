"""Who this replica is, and whom it talks to: makes greetings and judges those of others.

A greeting is believed step by step: first cluster and epoch, then the certificate, then that the sender is a member, or
has an id so high that it may be one of whom this replica has not heard, then that it means this replica, last that its
store is no less than it was (`acquaintances`). Each refusal says to the other side what to make of it. A stranger comes
again; a member that was removed or lost votes is dismissed: its process ends, since nothing it could do by itself would
make it acceptable.
"""

from __future__ import annotations

from quorate.errors import IdentityRefused, Misbehaviour, Misuse
from quorate.limits import REFUSAL_CHARACTERS_MAX, REPLICAS_MAX
from quorate.transport import StoreFacts
from quorate.transport.acquaintances import Acquaintances, Unwelcome
from quorate.transport.addresses import parse_address
from quorate.transport.tls import replica_uri
from quorate.types import ReplicaId
from quorate.wire import WIRE_MAGIC, WIRE_VERSION, Channel, Hello, Refusal, encode_frame

_REJOIN = "this replica must rejoin as a new member; never start it with an older copy of its data"


class Dismissed(Misbehaviour):
    """The other side refuses this replica; `error` tells why that is final, and is None if it is not."""

    def __init__(self, why: str, error: IdentityRefused | None) -> None:
        super().__init__(why)
        self.error = error


class Greeter:
    """One replica at its door. `address` is where it says that it listens; empty if it can't know."""

    def __init__(
        self, me: ReplicaId, cluster: str, epoch: int, address: str, store: StoreFacts, acquaintances: Acquaintances
    ) -> None:
        self._me = me
        self._cluster = cluster
        self._epoch = epoch
        self._address = address
        self._store = store
        self._commits = store.commits()
        """As of this start: what an older copy of the disk adds by itself must not make up for what it lacks."""
        self._acquaintances = acquaintances
        self._peers: frozenset[ReplicaId] = frozenset()
        self._last_id = ReplicaId(0)
        self._newcomers: set[ReplicaId] = set()
        """Let in though this replica has not heard of them yet; at most REPLICAS_MAX."""

    def expect(self, peers: frozenset[ReplicaId], last_id: ReplicaId) -> None:
        """Let in `peers` from now on; any other id up to `last_id` was a member once."""
        self._peers = peers
        self._last_id = last_id
        self._newcomers = {newcomer for newcomer in self._newcomers if newcomer > last_id}

    def greeting(self, receiver: ReplicaId) -> bytes:
        """Return the frame by which this replica makes itself known."""
        store, life, nonce, _ = self._store
        return self._frame(
            Hello(
                *(WIRE_MAGIC, WIRE_VERSION, self._cluster, self._epoch, self._me, receiver),
                *(self._address, store, life, nonce, self._commits),
            )
        )

    def refusal(self, receiver: int, error: Unwelcome) -> bytes:
        """Return the frame that answers a greeting which is refused."""
        why = error.what[:REFUSAL_CHARACTERS_MAX]
        names = (WIRE_MAGIC, WIRE_VERSION, self._cluster, self._epoch, self._me, receiver)
        return self._frame(Hello(*names, refusal=error.refusal, why=why))

    def check(self, hello: Hello, certified: frozenset[str] | None) -> ReplicaId:
        """Return which peer greets.

        `certified` holds the URIs of its certificate, and is None on a connection in the clear. Raises `Unwelcome`, or
        `Dismissed` if the greeting is itself a refusal.
        """
        sender = ReplicaId(hello.sender)
        self._check_origin(hello, certified)
        self._check_sender(sender)
        if hello.refusal:
            raise _dismissed(hello)
        if hello.receiver != self._me:
            raise _stranger(f"replica {sender} wants replica {hello.receiver}, this is replica {self._me}")
        if hello.address:
            _check_address(hello)
        if sender in self._peers:
            self._acquaintances.meet(hello)
        else:
            self._newcomers.add(sender)
        return sender

    def _check_origin(self, hello: Hello, certified: frozenset[str] | None) -> None:
        theirs, ours = (hello.cluster, hello.epoch), (self._cluster, self._epoch)
        if theirs != ours:
            raise _stranger(f"peer is of cluster and epoch {theirs}, this replica of {ours}")
        if certified is None:
            return
        name = replica_uri(hello.cluster, ReplicaId(hello.sender))
        if name not in certified:
            shown = ", ".join(sorted(certified)) or "no URI"
            raise _stranger(f"peer says that it is {name}, its certificate names {shown}")

    def _check_sender(self, sender: ReplicaId) -> None:
        if sender in self._peers:
            return
        if 0 < sender <= self._last_id and sender != self._me:
            raise Unwelcome(Refusal.REMOVED, f"replica {sender} was removed from the cluster")
        known = sender in self._newcomers or len(self._newcomers) < REPLICAS_MAX
        if sender > self._last_id and sender != self._me and known:
            return  # it may have come while this replica was away, and be all that is left of those who can tell
        raise _stranger(f"replica {sender} is no peer of replica {self._me}")

    def _frame(self, hello: Hello) -> bytes:
        return encode_frame(hello.encode(), Channel.MESH)


def _stranger(why: str) -> Unwelcome:
    return Unwelcome(Refusal.STRANGER, why)


def _check_address(hello: Hello) -> None:
    try:
        parse_address(hello.address)
    except Misuse as error:
        raise _stranger(error.what) from error


def _dismissed(hello: Hello) -> Dismissed:
    why = f"replica {hello.sender} refuses this one: {hello.why}"
    if hello.refusal == Refusal.REMOVED:
        error = IdentityRefused("this replica was removed from the cluster", "a new one, with a new id, can be added")
        return Dismissed(why, error)
    if hello.refusal in (Refusal.OTHER_STORE, Refusal.ROLLED_BACK, Refusal.TWIN):
        return Dismissed(why, IdentityRefused(why, _REJOIN))
    return Dismissed(why, None)
