"""Transport: messages between replicas, lossy by contract.

A transport carries opaque payloads between the members of one cluster. It may lose, duplicate, delay or reorder them,
and never alters one or takes one from a stranger. It holds no message for a peer that is away: the cores send again.

- `tcp` is a mesh of plain TCP connections.

Every transport passes tests/contracts/test_transports.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from quorate.types import ReplicaId


class TransportStatistics(NamedTuple):
    """Counts since the start, and the bytes held at the moment."""

    sent_frames: int
    sent_bytes: int
    received_frames: int
    received_bytes: int
    dropped_frames: int
    """Not sent: the peer was not connected, or its buffer full."""
    refused_connections: int
    """Closed because of what came in on them: strangers, other clusters, garbage, silence."""
    connects: int
    """Connections to peers that were accepted by them."""
    buffered_bytes: int


class Transport(Protocol):
    """One replica's end of the mesh. Everything happens on the event loop."""

    on_message: Callable[[ReplicaId, bytes], None]
    """Called with the sender and the payload of each frame; set before `start`, must not raise."""

    async def start(self) -> None:
        """Listen, and begin to connect; returns before peers are reached. Raises `NetworkRefused`."""
        ...

    def send(self, to: tuple[ReplicaId, ...], payload: bytes) -> None:
        """Queue `payload` for some peers, to leave at the next `flush`; never raises, may drop."""
        ...

    def flush(self) -> None:
        """Hand all that is queued to the network, in one write per peer."""
        ...

    def connected(self) -> frozenset[ReplicaId]:
        """Return the peers that a payload sent now has a way to."""
        ...

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        ...

    async def close(self) -> None:
        """Stop; nothing is delivered and no task runs afterwards."""
        ...
