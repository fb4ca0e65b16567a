"""The verb `quorate sim`: many clusters on virtual time, one again, or those with planted bugs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from quorate.errors import Misuse


def sim(
    core: Annotated[Literal["paxos", "raft"], typer.Option(help="Whose core to simulate.")] = "paxos",
    seeds: Annotated[int, typer.Option(min=1, help="How many clusters to simulate.")] = 100,
    seed: Annotated[int | None, typer.Option(min=1, help="Replay only this seed.", rich_help_panel="Replay")] = None,
    without: Annotated[str, typer.Option(help="Faults to leave out, by commas.", rich_help_panel="Replay")] = "",
    ticks: Annotated[
        int | None, typer.Option(min=1, help="Length of the phase of faults.", rich_help_panel="Replay")
    ] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="Fewer clients.", rich_help_panel="Replay")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Other founders.", rich_help_panel="Replay")] = None,
    planted: Annotated[bool, typer.Option("--planted", help="Show that each of a list of bugs is caught.")] = False,
) -> int:
    """Simulate whole clusters under faults, on virtual time."""
    from quorate.sim import run as simulation
    from quorate.sim.planted import table
    from quorate.sim.scenario import Scenario, faults_named

    if seed is None and (without or ticks or clients or replicas):
        raise Misuse("what to replay? - command line", "give --seed beside --without, --ticks, --clients or --replicas")
    if planted:
        return table.main()
    if seed is None:
        return simulation.batch(core, seeds)
    return simulation.replay(Scenario(core, seed, faults_named(without), ticks, clients, replicas))
