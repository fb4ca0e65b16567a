"""Checks each key of a history on its own, within one bound on time, and words the verdict."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from quorate.sim.checker.counterexample import CounterExample, counterexample
from quorate.sim.checker.history import Model, Operation, moments
from quorate.sim.checker.search import Configuration, OutOfTime, Search
from quorate.sim.checker.timeline import short, shown, timeline

SECONDS_MAX = 60.0
"""Default bound on one check; a history of 20,000 operations by 8 clients takes about a second."""

STATES_SHOWN_MAX = 8


class Verdict(NamedTuple):
    """What a check found; `reason` is empty when the history is linearizable."""

    linearizable: bool
    reason: str
    counterexample: CounterExample | None = None
    """None also where time ran out before a verdict."""


def check(history: Iterable[Operation], model: Model, seconds_max: float = SECONDS_MAX) -> Verdict:
    """Check each key of `history` against `model`, and explain the first that is refused, all within `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    by_key: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key, operations in by_key.items():
        verdict = _judged(operations, model, deadline)
        if not verdict.linearizable:
            return verdict._replace(reason=f"key {key!r}: {verdict.reason}")
    return Verdict(True, "")


def _judged(history: Sequence[Operation], model: Model, deadline: float) -> Verdict:
    """Check one key."""
    start = Configuration(0, model.initial, 0)
    search = Search(model, moments(history, model), [start], lambda: time.monotonic() > deadline)
    returns = len(search.moments)
    try:
        if search.order_exists():
            return Verdict(True, "")
    except OutOfTime:
        return Verdict(False, f"no verdict in the time given, {search.furthest() + 1} of {returns} returns explained")
    found = counterexample(history, search, deadline)
    where = f"no order explains return {search.furthest() + 1} of {returns}:"
    return Verdict(False, "\n".join([where, *_explanation(found)]), found)


def _explanation(found: CounterExample) -> list[str]:
    """Show what is refused, and what it contradicts."""
    lines = [f"  {shown(found.refused)}", f"states possible before it, pending writes aside: {_listed(found.states)}"]
    number = len(found.contradiction)
    what = "it can't be so" if number == 1 else f"these {number} contradict each other"
    others = "all others"
    if found.before:
        lines.append(f"states possible after the first {found.before} returns: {_listed(found.start)}")
        others = "the others after that"
    lines.append(f"{what}, whatever became of {others}:")
    lines += [f"  {row}" for row in timeline(found.contradiction, found.context)]
    if found.context:
        lines.append("what is dotted may have taken effect or not")
    return lines


def _listed(states: Sequence[Hashable]) -> str:
    """Return the first few states."""
    more = ["..."] if len(states) > STATES_SHOWN_MAX else []
    return ", ".join([*map(short, states[:STATES_SHOWN_MAX]), *more])
