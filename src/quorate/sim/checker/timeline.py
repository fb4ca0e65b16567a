"""Draws operations as lines of text: a row for each, in order of call, and time from left to right.

Columns are calls and returns in their order, not seconds: what overlaps in the drawing was concurrent. Solid rows are
operations that count as their clients saw them; dotted ones may or may not have taken effect; an arrow never returned.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import NamedTuple

from quorate.sim.checker.history import UNSEEN, Operation

ROWS_MAX = 24
COLUMN = 3
"""Characters between two events."""


class Stroke(NamedTuple):
    """The characters of a row."""

    edge: str
    inside: str


SOLID = Stroke("|", "-")
DOTTED = Stroke(":", ".")


def timeline(solid: Sequence[Operation], dotted: Sequence[Operation]) -> list[str]:
    """Return the rows of at most ROWS_MAX operations, the latest called, and a word on those left out."""
    every = sorted([(one, SOLID) for one in solid] + [(one, DOTTED) for one in dotted], key=lambda row: row[0].called)
    rows = every[-ROWS_MAX:]
    columns = columns_of([operation for operation, _ in rows])
    end = COLUMN * (len(set(columns.values())) - 1)
    labels = [label(operation) for operation, _ in rows]
    lines = [f"(and {len(every) - len(rows)} called earlier)"] if len(every) > len(rows) else []
    for (operation, stroke), text in zip(rows, labels, strict=True):
        drawn = interval(operation, columns, end, stroke)
        lines.append(f"{text:<{max(map(len, labels))}}  {drawn:<{end + 1}}  {times(operation)}")
    return lines


def columns_of(operations: Sequence[Operation]) -> dict[tuple[float, bool], int]:
    """Return the column of each (time, is a return); at one instant calls come before returns."""
    events = {(one.called, False) for one in operations}
    events |= {(one.returned, True) for one in operations if one.returned is not None}
    return {event: COLUMN * rank for rank, event in enumerate(sorted(events))}


def interval(operation: Operation, columns: dict[tuple[float, bool], int], end: int, stroke: Stroke) -> str:
    """Draw one operation from its call to its return, or to the end."""
    first = columns[operation.called, False]
    if operation.returned is None:
        return " " * first + stroke.edge + stroke.inside * (end - first - 1) + ">"
    return " " * first + stroke.edge + stroke.inside * (columns[operation.returned, True] - first - 1) + stroke.edge


def shown(operation: Operation) -> str:
    """Return one line that tells all of an operation."""
    return f"{label(operation)}, {times(operation)}"


def label(operation: Operation) -> str:
    """Return who did what, and the answer."""
    answer = "?" if operation.answer is UNSEEN else short(operation.answer)
    return f"client {operation.client}: {short(operation.action)} -> {answer}"


def times(operation: Operation) -> str:
    """Return the seconds of call and return."""
    returned = "never" if operation.returned is None else f"{operation.returned:.6f}"
    return f"{operation.called:.6f} to {returned}"


def short(value: object) -> str:
    """Return a representation that is cut in the middle where it is long."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = _SHORT.maxlong = 60
_SHORT.maxtuple = 8
