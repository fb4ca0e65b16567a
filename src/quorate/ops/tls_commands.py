"""The verbs of `quorate tls`: certificates for replicas on several machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate import limits
from quorate.types import ReplicaId

app = typer.Typer(no_args_is_help=True, help="Make the certificates by which replicas know each other.")

Directory = Annotated[Path, typer.Option("--dir", help="Where the certificates are.")]
Hosts = Annotated[list[str], typer.Option("--host", help="A name or address of an admin listener; repeat it.")]
Days = Annotated[int, typer.Option(min=1, help="How long certificates are good for.")]


@app.command()
def init(
    cluster: Annotated[str, typer.Argument(help="The cluster's name, as in the settings.")],
    replicas: Annotated[int, typer.Option(min=1, max=limits.REPLICAS_MAX, help="Certificates for r1 up to this.")] = 3,
    host: Hosts = [],  # noqa: B006 - typer copies it
    days: Days = limits.CERTIFICATE_DAYS,
    directory: Directory = Path("tls"),
) -> None:
    """Make an authority, and certificates for every replica and for the operator's tools."""
    from quorate.ops import tls

    _print(tls.init(directory, cluster, [ReplicaId(number) for number in range(1, replicas + 1)], host, days))


@app.command()
def add(
    replica: Annotated[int, typer.Argument(min=1, max=limits.REPLICA_ID_MAX, help="Number of the new replica.")],
    host: Hosts = [],  # noqa: B006 - typer copies it
    days: Days = limits.CERTIFICATE_DAYS,
    directory: Directory = Path("tls"),
) -> None:
    """Make a certificate for one more replica."""
    from quorate.ops import tls

    _print(tls.add(directory, ReplicaId(replica), host, days))


@app.command()
def renew(days: Days = limits.CERTIFICATE_DAYS, directory: Directory = Path("tls")) -> None:
    """Make all certificates anew, under the same authority; running replicas take them up by themselves."""
    from quorate.ops import tls

    _print(tls.renew(directory, days))


def _print(certificates: list[Path]) -> None:
    for certificate in certificates:
        print(certificate)
