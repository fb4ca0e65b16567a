"""Whole checks: histories that are known to be right or wrong, and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.sim.checker.histories import did, recorded

from quorate.sim.checker import (
    UNSEEN,
    Add,
    Append,
    CompareAndSet,
    Counter,
    Delete,
    Get,
    KeyValue,
    Log,
    Model,
    Operation,
    Put,
    Read,
    ReadEntries,
    ReadEntry,
    ReadLength,
    Register,
    Write,
    check,
)

PAGE = Path(__file__).parents[3] / "docs" / "checker.md"

GOOD: dict[str, tuple[Model, list[Operation]]] = {
    "nothing": (Register(), []),
    "one after the other": (Register(0), [did(1, Write(1), None, 0, 1), did(2, Read(), 1, 2, 3)]),
    "a concurrent read sees the old value": (Register(0), [did(1, Write(1), None, 0, 9), did(2, Read(), 0, 1, 2)]),
    "old, then new, under one long write": (
        Register(0),
        [did(1, Write(1), None, 0, 9), did(2, Read(), 0, 1, 2), did(3, Read(), 1, 3, 4)],
    ),
    "a call at the instant of a return is concurrent": (
        Register(0),
        [did(1, Write(1), None, 0, 1), did(2, Read(), 0, 1, 2)],
    ),
    "answers give the order of concurrent additions": (
        Counter(),
        [did(1, Add(1), 6, 0, 9), did(2, Add(2), 5, 0, 9), did(3, Add(3), 3, 0, 9)],
    ),
    "an unknown write took effect late": (
        Register(0),
        [did(1, Write(1), UNSEEN, 0, None), did(2, Read(), 0, 1, 2), did(2, Read(), 1, 3, 4)],
    ),
    "an unknown write never took effect": (Counter(), [did(1, Add(1), UNSEEN, 0, None), did(2, Read(), 0, 1, 2)]),
    "an unknown read constrains nothing": (Register(0), [did(1, Read(), UNSEEN, 0, None), did(2, Read(), 0, 1, 2)]),
    "of equal unknown writes two took effect": (
        Counter(),
        [*(did(n, Add(1), UNSEEN, n, None) for n in range(5)), did(9, Read(), 0, 9, 10), did(9, Read(), 2, 11, 12)],
    ),
    "an unseen answer with a return": (Counter(), [did(1, Add(1), UNSEEN, 0, 1), did(2, Read(), 1, 2, 3)]),
    "a reset between additions": (
        Counter(5),
        [did(1, Add(1), 6, 0, 1), did(2, Write(0), None, 0, 9), did(3, Add(1), 1, 2, 9)],
    ),
    "one of two concurrent swaps wins": (
        KeyValue(1),
        [did(1, CompareAndSet(1, 2), True, 0, 9), did(2, CompareAndSet(1, 3), False, 0, 9)],
    ),
    "an unknown swap made another fail": (
        KeyValue(1),
        [did(1, CompareAndSet(1, 2), UNSEEN, 0, None), did(2, CompareAndSet(1, 3), False, 1, 2)],
    ),
    "deleted, and created anew": (
        KeyValue(1),
        [did(1, Delete(), True, 0, 1), did(2, CompareAndSet(None, 1), True, 2, 3), did(1, Delete(), True, 4, 5)],
    ),
    "concurrent appends in the order of their positions": (
        Log(),
        [did(1, Append("a"), 2, 0, 9), did(2, Append("b"), 1, 0, 9), did(3, ReadEntries(), ("b", "a"), 10, 11)],
    ),
    "an unknown append found by a read": (
        Log(),
        [did(1, Append("a"), UNSEEN, 0, None), did(2, ReadLength(), 0, 1, 2), did(2, ReadEntry(1), "a", 3, 4)],
    ),
    "an answer that was seen though the operation may have failed": (
        Counter(),
        [did(1, Add(1), 5, 0, None), did(2, Read(), 0, 1, 2)],
    ),
}

BAD: dict[str, tuple[Model, list[Operation]]] = {
    "a stale read": (Register(0), [did(1, Write(1), None, 0, 1), did(2, Read(), 0, 2, 3)]),
    "a value from nowhere": (Register(0), [did(2, Read(), 7, 2, 3)]),
    "new, then old, under one long write": (
        Register(0),
        [did(1, Write(1), None, 0, 9), did(2, Read(), 1, 1, 2), did(3, Read(), 0, 3, 4)],
    ),
    "two readers see two writes in different orders": (
        Register(0),
        [
            did(1, Write(1), None, 0, 1),
            did(2, Write(2), None, 0, 1),
            *(did(3, Read(), 1, 2, 3), did(3, Read(), 2, 4, 5)),
        ],
    ),
    "a lost addition": (Counter(), [did(1, Add(1), 1, 0, 1), did(2, Add(1), 1, 0, 1)]),
    "an addition that took effect twice": (Counter(), [did(1, Add(1), 1, 0, 1), did(2, Read(), 2, 2, 3)]),
    "a counter with a split brain": (
        Counter(),
        [did(1, Add(1), 1, 0, 1), did(1, Add(1), 2, 2, 3), did(2, Add(5), 6, 2, 3), did(2, Add(5), 11, 4, 5)],
    ),
    "an unknown write took effect before its call": (
        Register(0),
        [did(2, Read(), 1, 0, 1), did(1, Write(1), UNSEEN, 2, None)],
    ),
    "an unknown write took effect twice": (
        Register(0),
        [
            did(1, Write(1), UNSEEN, 0, None),
            did(2, Read(), 1, 1, 2),
            did(3, Write(0), None, 3, 4),
            did(2, Read(), 1, 5, 6),
        ],
    ),
    "more effects than equal unknown writes": (
        Counter(),
        [*(did(n, Add(1), UNSEEN, n, None) for n in range(5)), did(9, Read(), 6, 9, 10)],
    ),
    "Add(1) is not Write(1)": (
        Counter(1),
        [did(1, Add(1), UNSEEN, 0, None), did(1, Write(1), UNSEEN, 0, None), did(2, Read(), 3, 1, 2)],
    ),
    "two swaps from one value both win": (
        KeyValue(1),
        [did(1, CompareAndSet(1, 2), True, 0, 9), did(2, CompareAndSet(1, 3), True, 0, 9)],
    ),
    "a swap loses to nobody": (KeyValue(1), [did(1, CompareAndSet(1, 2), False, 0, 9)]),
    "a lost put": (KeyValue(), [did(1, Put(1), None, 0, 1), did(2, Get(), None, 2, 3)]),
    "a deleted value comes back": (
        KeyValue(1),
        [did(1, Delete(), True, 0, 1), did(2, Get(), None, 2, 3), did(2, Get(), 1, 4, 5)],
    ),
    "one value is deleted twice": (KeyValue(1), [did(1, Delete(), True, 0, 1), did(2, Delete(), True, 0, 1)]),
    "an append that took effect twice": (
        Log(),
        [did(1, Append("a"), 1, 0, 1), did(2, ReadEntries(), ("a", "a"), 2, 3)],
    ),
    "an append that was lost": (Log(), [did(1, Append("a"), UNSEEN, 0, 1), did(2, ReadLength(), 0, 2, 3)]),
    "a log in another order": (
        Log(),
        [did(1, Append("a"), UNSEEN, 0, 1), did(1, Append("b"), UNSEEN, 2, 3), did(2, ReadEntries(), ("b", "a"), 4, 5)],
    ),
    "two entries in one place": (Log(), [did(1, Append("a"), 1, 0, 9), did(2, Append("b"), 1, 0, 9)]),
    "an entry that changed": (
        Log(),
        [
            did(1, Append("a"), UNSEEN, 0, 9),
            did(2, Append("b"), UNSEEN, 0, 9),
            *(did(3, ReadEntry(1), "a", 1, 2), did(3, ReadEntry(1), "b", 3, 4)),
        ],
    ),
    "a log that was cut": (Log(("a", "b")), [did(1, ReadEntry(2), "b", 0, 1), did(1, ReadEntry(2), None, 2, 3)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_passes_what_is_right(name: str) -> None:
    model, history = GOOD[name]
    verdict = check(history, model)
    assert verdict.linearizable, verdict.reason
    assert verdict.counterexample is None


@pytest.mark.parametrize("name", BAD)
def test_it_refuses_what_is_wrong(name: str) -> None:
    model, history = BAD[name]
    verdict = check(history, model)
    assert not verdict.linearizable
    assert verdict.counterexample is not None


def test_a_refusal_shows_what_contradicts_each_other() -> None:
    history = [
        did(1, Write(1), None, 0, 9),
        did(2, Read(), 1, 1, 2),
        did(4, Write(5), UNSEEN, 2, None),
        did(3, Read(), 0, 3, 4),
        did(3, Read(), 5, 10, 11),
    ]
    assert check(history, Register(0)).reason.splitlines() == [
        "key 'x': no order explains return 2 of 4:",
        "  client 3: Read() -> 0, 3.000000 to 4.000000",
        "states possible before it, pending writes aside: 1",
        "these 2 contradict each other, whatever became of all others:",
        "  client 1: Write(value=1) -> None  :..............:  0.000000 to 9.000000",
        "  client 2: Read() -> 1                |--|           1.000000 to 2.000000",
        "  client 3: Read() -> 0                      |--|     3.000000 to 4.000000",
        "what is dotted may have taken effect or not",
    ]


def test_a_refusal_of_a_long_history_says_what_counts_as_it_is() -> None:
    history = [did(1, Add(1), n, 2 * n, 2 * n + 1) for n in range(1, 5001)]
    reason = check([*history, did(2, Read(), -1, 10_002, 10_003)], Counter()).reason
    assert "states possible after the first 4801 returns: 4801" in reason
    assert "it can't be so, whatever became of the others after that:" in reason


def test_the_example_of_the_docs_prints_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = re.findall(r"^```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    assert capsys.readouterr().out == printed


def test_keys_are_independent() -> None:
    history = [Operation(n, f"k{n}", Write(n), None, n, n + 1) for n in range(3)]
    history += [Operation(n, f"k{n}", Read(), n, n + 2, n + 3) for n in range(3)]
    assert check(history, Register()).linearizable
    wrong = check([*history, Operation(9, "k1", Read(), 2, 9, 10)], Register())
    assert wrong.reason.startswith("key 'k1': ")


def test_write_skew_across_keys_is_no_matter_of_one_object() -> None:
    """Each of two transactions reads what the other writes: not serializable together, linearizable by key."""
    history = [
        Operation(1, "a", Get(), 1, 0, 1),
        Operation(2, "b", Get(), 1, 0, 1),
        Operation(1, "b", Put(0), None, 2, 3),
        Operation(2, "a", Put(0), None, 2, 3),
    ]
    assert check(history, KeyValue(1)).linearizable


def test_running_out_of_time_is_no_pass() -> None:
    """Twenty different unknown additions have a million sums, and none of them is the odd one that was read."""
    history = [did(n, Add(2 << n), UNSEEN, 0, None) for n in range(20)] + [did(9, Read(), 1, 1, 2)]
    verdict = check(history, Counter(), seconds_max=0.05)
    assert not verdict.linearizable
    assert "no verdict in the time given, 1 of 1 returns" in verdict.reason
    assert verdict.counterexample is None


@pytest.mark.parametrize("unknown", [0.0, 0.001])
def test_a_long_run_is_judged_within_the_default_bound(unknown: float) -> None:
    """Sixty seconds of eight busy clients leave about this many operations."""
    history = recorded("counter", 7, 20_000, 8, unknown)
    verdict = check(history, Counter())
    assert verdict.linearizable, verdict.reason
