"""What `quorate sim` prints, and when it fails."""

from __future__ import annotations

import pytest

from quorate.sim import run as runs
from quorate.sim.run import batch, failed, rare, replay, spread, totals
from quorate.sim.scenario import Scenario, run
from quorate.sim.swarm import Fault
from quorate.sim.world import Report

SOUND = Report(7, 3, 72_000, 12, 5, 6, 2, 1, 1, 2, 3, 4, 1, 100, {Fault.LOSS: 3, Fault.PAUSE: 0}, "abc")
SICK = SOUND._replace(seed=8, failure="one value per slot: r1", last=("1 r1 sends", "2 r2 delivers"))


def test_a_batch_prints_sums_and_hits_and_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert batch("raft", 60) == 0
    out = capsys.readouterr().out
    assert out.startswith("seeds 60, simulated 0.")
    for fault in Fault:
        assert f"{fault} " in out
    assert "FAILED" not in out
    assert "commands 0" not in out


def test_reports_come_in_the_order_of_the_seeds_and_equal_those_run_alone() -> None:
    reports = spread(run, [Scenario("paxos", seed) for seed in range(6, 10)])
    assert [report.seed for report in reports] == list(range(6, 10))
    assert reports[2] == run(Scenario("paxos", 8))


def test_a_replay_prints_the_swarm_and_the_transcript_and_asks_for_no_further_faults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scenario = Scenario("paxos", 3)
    assert replay(scenario) == 0
    first = capsys.readouterr().out
    assert first.startswith(f"{scenario.swarm()}\nseeds 1,")
    assert first.splitlines()[-1] == f"transcript {run(scenario).digest}"
    replay(scenario)
    assert capsys.readouterr().out == first


def test_sums_and_extremes() -> None:
    lines = totals([SOUND, SOUND._replace(healing_ticks=30)])
    sums = "commands 10, slots 12, reads 4, retries 2, histories 2, elections 2, changes 4, snapshots 6, installs 8"
    assert lines == [
        "seeds 2, simulated 2.00 cluster-hours (144000 ticks)",
        f"{sums}, messages 200",
        "faults hit 6: loss 6, pause 0",
        "slowest healing 30 ticks",
    ]


def test_the_first_failure_is_told_in_full_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    scenarios = [Scenario("paxos", seed) for seed in (7, 8, 9)]
    assert failed(scenarios[:1], [SOUND]) == []
    smallest = scenarios[1]._replace(ticks=9)
    monkeypatch.setattr(runs, "minimise", lambda scenario, report, run: (smallest, SICK._replace(last=("small",))))
    assert failed(scenarios, [SOUND, SICK, SICK._replace(seed=9, last=())]) == [
        "small",
        "FAILED: seed 8, 3 replicas: one value per slot: r1",
        "replay it with: quorate sim --core paxos --seed 8",
        f"minimised, on {smallest.swarm()}: one value per slot: r1",
        "replay that with: quorate sim --core paxos --seed 8 --ticks 9",
        "failing seeds (2): 8 9",
    ]


def test_a_fault_that_struck_too_seldom_fails_the_batch() -> None:
    hits = dict.fromkeys(Fault, 3)
    assert rare([SOUND._replace(hits=hits)]) == []
    (line,) = rare([SOUND._replace(hits=hits | {Fault.PAUSE: 0})])
    assert line.startswith("FAILED: pause struck 0 times, 1 are needed")
    lines = rare([SOUND._replace(hits=hits)] + [SOUND._replace(hits={})] * 199)
    assert len(lines) == len(Fault)
    assert lines[0].startswith("FAILED: loss struck 3 times, 4 are needed")
