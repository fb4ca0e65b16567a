"""How a broken invariant is told."""

from __future__ import annotations

import pytest

from quorate.sim.violation import Violation, require


class Unspeakable:
    """Can't be put into words."""

    def __str__(self) -> str:
        raise AssertionError


def test_what_holds_is_not_put_into_words() -> None:
    require(True, "an invariant", Unspeakable())


def test_what_does_not_hold_is_told_by_name_and_detail() -> None:
    with pytest.raises(Violation, match="an invariant: replica 3") as caught:
        require(False, "an invariant", "replica", 3)
    assert caught.value.invariant == "an invariant"
