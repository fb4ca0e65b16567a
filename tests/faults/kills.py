"""kill -9, again and again, of whatever part of a cluster, while clients write.

The laboratory stands in for the container platform: what was killed is started again at once.
"""

from __future__ import annotations

import random
from collections import Counter as Tally

from tests.faults.judge import PROGRESS_SECONDS_MAX
from tests.faults.lab import Lab
from tests.faults.load import Load

CLIENTS = 12
WRITES_PER_SECOND_MIN = 100
"""Fewer, and the kills hit nothing."""
PAUSE_SECONDS = (0.2, 0.6)
"""Between two kills: less than a restart takes, so that they also hit replicas that recover."""
SIDECAR, APP, ALL = "sidecar", "app", "all sidecars at once"
WEIGHTS = (75, 20, 5)
"""Of these three."""


def storm(lab: Lab, load: Load, kills: int, draw: random.Random) -> Tally[str]:
    """SIGKILL at least so many processes; returns how many of which kind."""
    tally: Tally[str] = Tally()
    while tally.total() < kills and not load.troubles:
        load.go_on(draw.uniform(*PAUSE_SECONDS))
        if strike(lab, draw, tally) == ALL:
            load.wait_progress(PROGRESS_SECONDS_MAX)
    return tally


def strike(lab: Lab, draw: random.Random, tally: Tally[str]) -> str:
    """Kill an app, a sidecar, with which its app goes, or all sidecars at one moment; returns which it was to be.

    A lone sidecar dies only while both others answer, lest the cluster stand still most of the time.
    """
    what = draw.choices((SIDECAR, APP, ALL), WEIGHTS)[0]
    victim = draw.choice(lab.numbers)
    if what == ALL:
        restart(lab, *lab.numbers)
        tally[what] += len(lab.numbers)
    elif what == APP:
        tally[what] += lab.kill_app(victim)
    elif all(lab.status(number) for number in lab.others(victim)):
        status = lab.status(victim)
        restart(lab, victim)
        tally["leading sidecar" if status and status.role == "leader" else what] += 1
    return what


def restart(lab: Lab, *numbers: int) -> None:
    lab.kill(*numbers)
    lab.start(*numbers)
