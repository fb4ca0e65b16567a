"""The rooms of one replica, built from its settings: where the names of a configuration become objects.

Nothing here lives or decides. The order is from the disk outwards; what a room needs of another is handed to it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from quorate import limits, registry
from quorate.config import SidecarConfig, child_environment
from quorate.errors import Broken, Misuse
from quorate.intercept.connection import Deadlines
from quorate.intercept.front import Front, FrontOptions
from quorate.intercept.policy import Mode, Route, RoutePolicy
from quorate.intercept.server import HttpServer, ServerOptions
from quorate.ops.procs import die_with_parent
from quorate.ordering.embedded import EmbeddedOrdering
from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import Applier
from quorate.replica.checkpoints import Checkpoints, Schedule
from quorate.replica.drivers import CommandDriver, DirectoryDriver, HttpDriver, StateDriver
from quorate.replica.replica import Replica
from quorate.replica.restore import Restorer
from quorate.replica.service import ChildService, NeighbourService, Service
from quorate.replica.transfer import Transfer
from quorate.replica.trimming import Trimmer
from quorate.storage import Identity, LogStore
from quorate.storage.snapshots import SnapshotStore
from quorate.transport import Channel, MeshOptions, StoreFacts, Transport
from quorate.transport.addresses import is_loopback, parse_address
from quorate.transport.tls import Credentials, TlsFiles
from quorate.types import Membership, ReplicaId, founding
from quorate.wire import MessageCodec

ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Addresses that stand for all of a machine, and how it reaches itself by them."""
TRANSPORT = "tcp"


def credentials(config: SidecarConfig) -> Credentials | None:
    """This replica's certificates, if it has any. Raises Misuse if they are no good."""
    tls = config.tls
    return None if tls is None else Credentials(TlsFiles(Path(tls.ca), Path(tls.cert), Path(tls.key)))


def admin_context(config: SidecarConfig, certificates: Credentials | None) -> ssl.SSLContext | None:
    """TLS for the admin listener; None on loopback, where probes come in the clear. Raises Misuse."""
    if is_loopback(parse_address(config.admin)[0]):
        return None
    if certificates is None and not config.insecure:
        what = f"the admin listener would be open to the network in the clear - {config.admin}"
        raise Misuse(what, "make certificates with `quorate tls init`, listen on loopback, or set insecure = true")
    return None if certificates is None else certificates.server


def founders(config: SidecarConfig) -> Membership:
    """The membership this replica founds a cluster with; empty if it is to join one."""
    numbers = [int(number) for number in config.peers] if config.founders is None else config.founders
    if config.replica not in numbers:
        return founding({})
    return founding({ReplicaId(number): config.peers[str(number)] for number in numbers})


def ordering(
    config: SidecarConfig, certificates: Credentials | None, on_broken: Callable[[Broken], None]
) -> tuple[EmbeddedOrdering, Transport]:
    """Store, core, mesh and the driver around them. Raises Broken, or Misuse for an address or a certificate."""
    me, rng, directory = ReplicaId(config.replica), random.Random(), Path(config.data_dir)
    store: LogStore = registry.resolve(registry.STORES, config.storage)(
        directory, Identity(config.cluster, me, config.epoch)
    )
    recovered = store.recover()
    core = registry.resolve(registry.CORES, config.consensus)(me, founders(config), rng, recovered)
    codec = MessageCodec(registry.resolve(registry.MESSAGES, config.consensus))
    options = MeshOptions(
        cluster=config.cluster,
        epoch=store.identity.epoch,
        listen=config.peers[str(config.replica)],
        addresses={ReplicaId(int(number)): address for number, address in config.peers.items()},
        credentials=certificates,
        insecure=config.insecure,
    )
    facts = StoreFacts(store.store_id, store.life, store.nonce, lambda: store.commits)
    mesh: Transport = registry.resolve(registry.TRANSPORTS, TRANSPORT)(
        me, core.status().membership, options, facts, directory, rng
    )
    return EmbeddedOrdering(me, core, codec, store, mesh, recovered, on_broken), mesh


def service(config: SidecarConfig, *, presumed_fresh: bool) -> Service:
    """The service's process, ours or a neighbour's."""
    app = config.app
    if app.command is None:
        return NeighbourService(app.address, presumed_fresh=presumed_fresh)
    pid = os.getpid()
    return ChildService(
        app.command,
        child_environment(agreed_environment(config) | dict(app.env)),
        app.address,
        lambda: die_with_parent(signal.SIGKILL, pid),
        None if app.state_dir is None else Path(app.state_dir),
        Path(config.data_dir) / "service.group",
        wipe=config.state != "contract",
    )


def driver(config: SidecarConfig) -> StateDriver | None:
    """How the service's state is taken and put back; None if it is not."""
    snapshot, app = config.snapshot, config.app
    if config.state == "directory":
        assert app.state_dir is not None, "refused with the settings"
        return DirectoryDriver(Path(app.state_dir))
    if snapshot.driver == "http":
        return HttpDriver(app.address, snapshot.get, snapshot.put)
    if snapshot.driver == "command":
        environment = child_environment(agreed_environment(config) | dict(app.env))
        return CommandDriver(snapshot.capture, snapshot.restore, environment)
    return None


def agreed_environment(config: SidecarConfig) -> dict[str, str]:
    """What a service is told; whatever could make copies differ by their surroundings is fixed."""
    host, _, port = config.app.address.rpartition(":")
    own = {} if config.app.state_dir is None else {"QUORATE_STATE_DIR": config.app.state_dir}
    return {
        "HOST": host,
        "PORT": port,
        "APP_PORT": port,
        "QUORATE_REPLICA": f"r{config.replica}",
        "QUORATE_FRONT": _front_url(config.client),
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
        **own,
    }


def http_limits(config: SidecarConfig) -> HttpLimits:
    """The limits of the front door."""
    http = config.http
    return HttpLimits(
        request_line_bytes_max=http.request_line_bytes_max,
        head_bytes_max=http.head_bytes_max,
        fields_max=http.fields_max,
        body_bytes_max=http.body_bytes_max,
    )


class Shares(NamedTuple):
    """How many of each kind of connection there may be, so that file descriptors last for all of them."""

    connections: int
    refused: int
    passed: int
    tunnels: int


def shares(config: SidecarConfig, descriptors: int) -> Shares:
    """Share out what is left of `descriptors`, which is how many files this process may have open.

    Clients that are turned away hold one too until they are told. Where routes pass, so does the service's end.
    """
    kinds = 4 if any(route.mode == "pass" for route in config.routes) else 2
    share = max(1, (descriptors - limits.RESERVED_DESCRIPTORS) // kinds)
    return Shares(
        connections=min(config.http.connections_max, share),
        refused=min(limits.CONNECTIONS_REFUSED_MAX, share),
        passed=min(limits.PASS_CONNECTIONS_MAX, share),
        tunnels=min(limits.TUNNELS_MAX, share),
    )


def front(config: SidecarConfig, replica: Replica, share: Shares) -> HttpServer:
    """The front door."""
    routes = [Route(route.path, Mode(route.mode), tuple(route.methods), route.key_required) for route in config.routes]
    options = FrontOptions(
        pseudonym=f"quorate-r{config.replica}".encode(),
        request_seconds=config.request_seconds,
        private=(config.snapshot.get, config.snapshot.put) if config.snapshot.driver == "http" else (),
        durability=b"" if config.storage == "sync" else config.storage.encode(),
    )
    http = config.http
    return HttpServer(
        Front(replica, RoutePolicy(routes), options, asyncio.get_running_loop().time),
        ServerOptions(
            deadlines=Deadlines(
                head_seconds_max=http.head_seconds_max,
                body_seconds_max=http.body_seconds_max,
                idle_seconds_max=http.idle_seconds_max,
            ),
            connections_max=share.connections,
            refused_max=share.refused,
        ),
        http_limits(config),
    )


# --- snapshots -------------------------------------------------------------------------------------------------------


class Saving(NamedTuple):
    """The parts that keep snapshots of the service's state, and pass them on."""

    checkpoints: Checkpoints
    restorer: Restorer
    transfer: Transfer
    trimmer: Trimmer


def saving(config: SidecarConfig, order: EmbeddedOrdering, mesh: Transport, applier: Applier) -> Saving | None:
    """Snapshots in the data directory, if the settings name a driver."""
    state = driver(config)
    if state is None:
        mesh.subscribe(Channel.STATE, lambda sender, payload: None)  # a peer's settings may differ
        return None
    store = SnapshotStore(Path(config.data_dir) / "snapshots", config.cluster)
    transfer = Transfer(StateChannel(mesh), store, order, lambda: applier.applied, random.Random())
    mesh.subscribe(Channel.STATE, transfer.on_message)
    schedule = Schedule(ReplicaId(config.replica), config.snapshot.entries, config.snapshot.bytes)
    return Saving(
        Checkpoints(applier, store, state, config.cluster, schedule),
        Restorer(store, state, order, transfer.obtain),
        transfer,
        Trimmer(order, store, lambda: applier.point, transfer.live),
    )


class StateChannel:
    """The mesh as `Transfer` sees it."""

    def __init__(self, mesh: Transport) -> None:
        self._mesh = mesh

    def peers(self) -> tuple[ReplicaId, ...]:
        """Return whom there is a way to."""
        return tuple(sorted(self._mesh.connected()))

    def send(self, to: tuple[ReplicaId, ...], payload: bytes) -> None:
        """Send, or drop."""
        self._mesh.send(to, payload, Channel.STATE)
        self._mesh.flush()


def _front_url(address: str) -> str:
    """Return where this machine finds our front: a service may bring commands of its own there to be ordered."""
    host, _, port = address.rpartition(":")
    return f"http://{ANY_ADDRESS.get(host, host)}:{port}"
