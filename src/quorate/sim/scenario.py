"""One run as it can be asked for again: a seed, and what of it was left out.

Everything a seed brings is drawn from it; a scenario may leave out faults, end the faults sooner, and make do with
fewer clients and replicas. Equal scenarios give equal bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.errors import Misuse
from quorate.sim.kits import KITS
from quorate.sim.swarm import RATES, Fault, Swarm, draw
from quorate.sim.world import Report, World


class Scenario(NamedTuple):
    """What to run. None stands for what the seed brings."""

    core: str
    seed: int
    without: tuple[Fault, ...] = ()
    ticks: int | None = None
    """Length of the phase of faults."""
    clients: int | None = None
    replicas: int | None = None
    """Founders."""

    def swarm(self) -> Swarm:
        """Return the options to run with."""
        drawn = draw(self.seed)
        return drawn._replace(
            safety_ticks=drawn.safety_ticks if self.ticks is None else self.ticks,
            clients=drawn.clients if self.clients is None else self.clients,
            replicas=drawn.replicas if self.replicas is None else self.replicas,
            rates={fault: rate for fault, rate in drawn.rates.items() if fault not in self.without},
        )

    def command(self) -> str:
        """Return the command line that runs it."""
        parts = [f"quorate sim --core {self.core} --seed {self.seed}"]
        if self.without:
            parts.append(f"--without {','.join(self.without)}")
        numbers = {name: getattr(self, name) for name in ("ticks", "clients", "replicas")}
        parts += [f"--{name} {number}" for name, number in numbers.items() if number is not None]
        return " ".join(parts)


def run(scenario: Scenario) -> Report:
    """Run one scenario from its first byte to its last."""
    return World(scenario.swarm(), KITS[scenario.core]).run()


def faults_named(names: str) -> tuple[Fault, ...]:
    """Return the faults of a list with commas. Raises Misuse for a name that is none."""
    known = {fault.value: fault for fault in RATES}
    for name in filter(None, names.split(",")):
        if name not in known:
            raise Misuse(f"no fault is called {name!r}", f"choose of {', '.join(known)}")
    return tuple(known[name] for name in names.split(",") if name)
