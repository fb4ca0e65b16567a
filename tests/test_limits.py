"""Every bound has one definition, a number above zero, and its unit in its name or in words beside it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from quorate import limits

SOURCE = ast.parse(Path(limits.__file__).read_text())


def names() -> list[str]:
    targets = [node.targets[0] for node in SOURCE.body if isinstance(node, ast.Assign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_no_bound_is_defined_twice() -> None:
    assert [name for name, count in Counter(names()).items() if count > 1] == []


def test_every_bound_is_a_number_above_zero() -> None:
    values = {name: getattr(limits, name) for name in names()}
    assert {name: value for name, value in values.items() if not isinstance(value, int | float) or value <= 0} == {}
