"""The verbs of `quorate members`: who takes part in a run, and how that is changed while it goes on."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from quorate.config import load_sidecar
from quorate.errors import Misuse, NetworkRefused
from quorate.ops import view
from quorate.ops.changes import names
from quorate.ops.compose import founders
from quorate.ops.memberships import PAUSE_SECONDS, Cluster, Supervised, Unsupervised
from quorate.ops.options import Color, DataDir, Format, Replica, known_name, run_directory
from quorate.storage import Identity
from quorate.storage.rescue import Rescued
from quorate.storage.rescue import rescue as rescue_directory
from quorate.transport.tls import TlsFiles, tool_context
from quorate.types import ReplicaId

app = typer.Typer(no_args_is_help=True, help="Show and change who takes part in the running cluster.")

VOTE_SECONDS_MAX = 120.0
"""A newcomer that does not vote within this time is left to catch up by itself."""


Admin = Annotated[
    str | None, typer.Option("--admin", help="Admin URL of a sidecar, where no `quorate run` keeps the cluster.")
]
Tls = Annotated[Path | None, typer.Option("--tls", help="Directory with admin.pem, admin.key and ca.pem.")]
Address = Annotated[str | None, typer.Option("--address", help="With --admin: where the newcomer listens for peers.")]


@app.command("list")
def list_members(
    data_dir: DataDir = None,
    admin: Admin = None,
    tls: Tls = None,
    output_format: Format = "table",
    color: Color = "auto",
) -> None:
    """Show the voters, and the learner that is about to be one."""
    members = _cluster(data_dir, admin, tls).members()
    if output_format == "json":
        print(json.dumps(members, indent=2))
    else:
        view.console(color, talk=False).print(view.member_table(members["members"]))


@app.command()
def add(
    wait: Annotated[bool | None, typer.Option("--wait/--no-wait", help="Return once the newcomer votes.")] = None,
    data_dir: DataDir = None,
    admin: Admin = None,
    tls: Tls = None,
    address: Address = None,
) -> None:
    """Add a replica, and print its name. With --admin, it is for you to start it afterwards."""
    cluster = _cluster(data_dir, admin, tls, address)
    newcomer = cluster.add()
    if wait or (wait is None and admin is None):
        _wait_vote(cluster, newcomer)
    print(newcomer)


@app.command()
def remove(replica: Replica, data_dir: DataDir = None, admin: Admin = None, tls: Tls = None) -> None:
    """Remove a replica for good; its directory stays."""
    _remove(_cluster(data_dir, admin, tls), replica)


@app.command()
def replace(
    replica: Replica, data_dir: DataDir = None, admin: Admin = None, tls: Tls = None, address: Address = None
) -> None:
    """Add a replica, and once it votes remove another; print the name of the new one."""
    cluster = _cluster(data_dir, admin, tls, address)
    if replica not in names(cluster.members()):
        raise Misuse(f"no replica {replica}", f"members are {', '.join(names(cluster.members()))}")
    newcomer = cluster.add()
    print(newcomer)
    _wait_vote(cluster, newcomer)
    _remove(cluster, replica)


@app.command()
def rescue(
    replica: Annotated[str | None, typer.Argument(help="The survivor, as in r1, of this project's run.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="Or its sidecar's settings.")] = None,
    majority_is_lost: Annotated[
        bool, typer.Option("--majority-is-lost", help="Say that the others will not come back.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make one stopped replica the whole cluster, after a majority was lost for good.

    What the lost majority acknowledged, and this replica never heard of, is lost with it.
    """
    if not majority_is_lost:
        raise Misuse(
            "a rescue gives up whatever only the lost replicas know - command line",
            "bring a majority back if you can; else choose the survivor that is furthest and add --majority-is-lost",
        )
    if (replica is None) == (config_file is None):
        raise Misuse("which replica survives? - command line", "name one of this run, or give --config, not both")
    if config_file is not None:
        done = _rescue(config_file)
        print(f"rescued; set epoch = {done.epoch} in {config_file}, then start it", file=sys.stderr)
        return
    directory = run_directory(data_dir)
    directory.claim()
    name, cluster = known_name(directory, str(replica)), directory.known_cluster()
    assert cluster is not None, "a name is known"
    done = _rescue(directory.replica(name) / "sidecar.toml")
    directory.remember(msgspec.structs.replace(cluster, members=[done.replica], epoch=done.epoch))
    directory.release()
    print(f"rescued; `quorate run` starts {name} alone, and `quorate members add` gives it company", file=sys.stderr)


def _rescue(config_file: Path) -> Rescued:
    config = load_sidecar(config_file)
    identity = Identity(config.cluster, ReplicaId(config.replica), config.epoch)
    return rescue_directory(Path(config.data_dir), identity, founders(config), datetime.now(UTC))


def _cluster(data_dir: Path | None, admin: str | None, tls: Path | None, address: str | None = None) -> Cluster:
    if admin is None:
        if tls or address:
            raise Misuse("--tls and --address go with --admin - command line", "leave them out, or give --admin URL")
        return Supervised(run_directory(data_dir).living())
    context = None if tls is None else tool_context(TlsFiles.of(tls, "admin"))
    return Unsupervised(admin, address, context)


def _wait_vote(cluster: Cluster, newcomer: str) -> None:
    deadline = time.monotonic() + VOTE_SECONDS_MAX
    while newcomer not in _voters(cluster.members()):
        if time.monotonic() > deadline:
            raise NetworkRefused(f"{newcomer} is still catching up", "see how it does with `quorate members list`")
        time.sleep(PAUSE_SECONDS)


def _remove(cluster: Cluster, name: str) -> None:
    left = cluster.remove(name)
    print(f"{name} removed; left are {', '.join(names(left))}", file=sys.stderr)


def _voters(members: dict[str, Any]) -> list[str]:
    return [member["name"] for member in members["members"] if member["role"] == "voter"]
