"""What `quorate sim` prints, and when it fails."""

from __future__ import annotations

import pytest

from quorate.sim.run import failed, idle, main, run_batch, run_seed, totals
from quorate.sim.swarm import Fault, draw
from quorate.sim.world import Report

SOUND = Report(7, 3, 72_000, 12, 5, 6, 2, 1, 100, {Fault.LOSS: 3, Fault.PAUSE: 0}, "abc")
SICK = SOUND._replace(seed=8, failure="one value per slot: r1", last=("1 r1 sends", "2 r2 delivers"))


def test_a_batch_prints_sums_and_hits_and_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(40, None) == 0
    out = capsys.readouterr().out
    assert out.startswith("seeds 40, simulated 0.")
    for fault in Fault:
        assert f"{fault} " in out
    assert "FAILED" not in out
    assert "commands 0" not in out


def test_reports_come_in_the_order_of_the_seeds_and_equal_those_run_alone() -> None:
    reports = run_batch(range(6, 10))
    assert [report.seed for report in reports] == list(range(6, 10))
    assert reports[2] == run_seed(8)


def test_a_replay_prints_the_swarm_and_the_transcript_and_asks_for_no_further_faults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(500, 3) == 0
    first = capsys.readouterr().out
    assert first.startswith(f"{draw(3)}\nseeds 1,")
    assert first.splitlines()[-1] == f"transcript {run_seed(3).digest}"
    main(500, 3)
    assert capsys.readouterr().out == first


def test_sums_and_extremes() -> None:
    lines = totals([SOUND, SOUND._replace(healing_ticks=30)])
    assert lines == [
        "seeds 2, simulated 2.00 cluster-hours (144000 ticks)",
        "commands 10, slots 12, reads 4, elections 2, messages 200",
        "faults hit: loss 6, pause 0",
        "slowest healing 30 ticks",
    ]


def test_the_first_failure_is_told_in_full_and_how_to_replay_it() -> None:
    assert failed([SOUND]) == []
    assert failed([SOUND, SICK, SICK._replace(seed=9, last=())]) == [
        "1 r1 sends",
        "2 r2 delivers",
        "FAILED: seed 8, 3 replicas: one value per slot: r1",
        "replay it with: quorate sim --seed 8",
        "failing seeds (2): 8 9",
    ]


def test_a_fault_that_never_struck_fails_the_batch() -> None:
    assert idle([SOUND]) == ["FAILED: no pause ever struck: more seeds are needed"]
    assert idle([SOUND, SOUND._replace(hits={Fault.PAUSE: 1})]) == []
