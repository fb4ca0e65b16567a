"""The record of the torture: sums, the longest gap, and a table that hides no stage."""

from __future__ import annotations

import re
from typing import Any

from tests.faults.torture import PAGE, STAGES, TABLE, merged, table

CIRCUMSTANCES = {"when": "2026-01-01", "commit": "abcdef", "machine": "Linux 6, Python 3.11"}


def test_records_add_up_and_the_longest_gap_counts() -> None:
    one: dict[str, Any] = {"done": 2, "kinds": {"app": 1}, "longest_gap_seconds": 3.0}
    other: dict[str, Any] = {"done": 3, "kinds": {"app": 1, "sidecar": 4}, "longest_gap_seconds": 2.0, "seconds": 1.5}
    assert merged(one, other) == {
        "done": 5,
        "kinds": {"app": 2, "sidecar": 4},
        "longest_gap_seconds": 3.0,
        "seconds": 1.5,
    }


def test_the_table_has_a_line_for_each_stage_also_where_nothing_was_done() -> None:
    found = {"done": 1000, "acknowledged_writes": 5000, "seconds": 10.0, "longest_gap_seconds": 1.5}
    text = table(CIRCUMSTANCES | {"kills": found})
    assert "| 1,000 | 5,000 | 500 | 1.5 s |" in text
    assert all(f"| {stage.title} |" in text for stage in STAGES.values())


def test_the_page_has_a_place_for_the_table() -> None:
    assert len(re.findall(TABLE, PAGE.read_text())) == 1
