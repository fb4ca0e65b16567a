"""How a broken invariant is told."""

from __future__ import annotations

from quorate.errors import Broken


class Violation(Broken):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def require(condition: bool, invariant: str, *detail: object) -> None:
    """Raise `Violation` unless `condition` holds. Only then is `detail` put into words: this runs at every message."""
    if not condition:
        raise Violation(invariant, " ".join(map(str, detail)))
