"""What settings become: founders, drivers, and who may be met in the clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quorate import limits
from quorate.config import AppConfig, RouteConfig, SidecarConfig, SnapshotConfig, TlsConfig
from quorate.errors import Misuse
from quorate.ops import compose, tls
from quorate.replica.drivers import CommandDriver, DirectoryDriver, HttpDriver
from quorate.types import ReplicaId, founding

PEERS = {"1": "127.0.0.1:7101", "2": "127.0.0.1:7102", "3": "127.0.0.1:7103"}


def config(tmp_path: Path, **changes: Any) -> SidecarConfig:
    given: dict[str, Any] = {
        "cluster": "bank",
        "replica": 1,
        "peers": PEERS,
        "data_dir": str(tmp_path / "data"),
        "client": "127.0.0.1:8001",
        "admin": "127.0.0.1:9001",
        "app": AppConfig("127.0.0.1:3001", state_dir=str(tmp_path / "app")),
    }
    return SidecarConfig(**(given | changes))


def test_all_peers_found_a_cluster_unless_some_are_named(tmp_path: Path) -> None:
    addresses = {ReplicaId(int(number)): address for number, address in PEERS.items()}
    assert compose.founders(config(tmp_path)) == founding(addresses)
    two = founding({number: addresses[number] for number in (ReplicaId(1), ReplicaId(2))})
    assert compose.founders(config(tmp_path, founders=[1, 2])) == two


@pytest.mark.parametrize("founders", [[1, 2], []])
def test_who_is_no_founder_joins(tmp_path: Path, founders: list[int]) -> None:
    assert compose.founders(config(tmp_path, replica=3, founders=founders)) == founding({})


def test_the_driver_follows_the_state(tmp_path: Path) -> None:
    assert compose.driver(config(tmp_path)) is None
    assert isinstance(compose.driver(config(tmp_path, state="directory")), DirectoryDriver)
    assert isinstance(compose.driver(config(tmp_path, snapshot=SnapshotConfig(driver="http"))), HttpDriver)
    hooks = SnapshotConfig(driver="command", capture=["cat", "state"], restore=["tee", "state"])
    assert isinstance(compose.driver(config(tmp_path, snapshot=hooks)), CommandDriver)


@pytest.mark.parametrize(
    ("client", "url"),
    [
        ("127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("10.0.0.7:80", "http://10.0.0.7:80"),
    ],
)
def test_a_service_is_told_where_its_own_front_is(tmp_path: Path, client: str, url: str) -> None:
    assert compose.agreed_environment(config(tmp_path, client=client))["QUORATE_FRONT"] == url


def test_file_descriptors_are_shared_out_among_what_the_routes_need(tmp_path: Path) -> None:
    plain, passing = config(tmp_path), config(tmp_path, routes=[RouteConfig("/ws", "pass")])
    assert compose.shares(plain, 1 << 20)[:2] == (4096, limits.CONNECTIONS_REFUSED_MAX)
    assert compose.shares(plain, limits.RESERVED_DESCRIPTORS + 16)[:2] == (8, 8)
    assert compose.shares(passing, 1 << 20)[2:] == (limits.PASS_CONNECTIONS_MAX, limits.TUNNELS_MAX)
    assert compose.shares(passing, limits.RESERVED_DESCRIPTORS + 16) == (4, 4, 4, 4)
    assert compose.shares(passing, 0) == (1, 1, 1, 1)


def test_an_admin_listener_on_the_network_needs_certificates_or_a_word(tmp_path: Path) -> None:
    assert compose.admin_context(config(tmp_path), None) is None
    with pytest.raises(Misuse, match=r"in the clear - 10\.0\.0\.1:9001"):
        compose.admin_context(config(tmp_path, admin="10.0.0.1:9001"), None)
    assert compose.admin_context(config(tmp_path, admin="10.0.0.1:9001", insecure=True), None) is None


def test_certificates_secure_the_admin_listener(tmp_path: Path) -> None:
    tls.init(tmp_path / "tls", "bank", [ReplicaId(1)])
    shown = TlsConfig(*(str(tmp_path / "tls" / name) for name in ("ca.pem", "r1.pem", "r1.key")))
    made = config(tmp_path, admin="10.0.0.1:9001", tls=shown)
    certificates = compose.credentials(made)
    assert certificates is not None
    assert compose.admin_context(made, certificates) is certificates.server
    assert compose.credentials(config(tmp_path)) is None
