"""Every planted bug is caught, by the invariant that it is meant to break."""

from __future__ import annotations

import pytest

from quorate.sim.planted import table
from quorate.sim.planted.parts import ExecutesEverything
from quorate.sim.planted.table import ELSEWHERE, PLANTED, Catch, hunt, main, run_planted, told
from quorate.sim.world import World

LISTED = 20
"""Bugs in the list of FAULTS.md §4."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_caught(name: str) -> None:
    catch = hunt(name)
    assert catch.seed
    assert catch.broken in PLANTED[name].caught_by


def test_the_list_is_complete() -> None:
    here = [name for name in list(PLANTED)[: list(PLANTED).index("promise forgotten")] if not name.endswith("Raft")]
    assert len(here) + len(ELSEWHERE) == LISTED


def test_clients_that_wait_need_no_sessions_while_nothing_is_forwarded_twice() -> None:
    planted = PLANTED["proposal forwarded twice by ex-leader"]
    seed = hunt("proposal forwarded twice by ex-leader").seed
    assert planted.kit.app is ExecutesEverything
    sound = planted.kit._replace(core=PLANTED["apply before commit"].kit.core)
    assert World(planted.swarm(seed), sound).run().failure == ""


def test_a_bug_that_gets_away_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told({"one": Catch(3, "no exceptions"), "two": Catch(0, "")})
    assert lines[0].split() == ["one", "seed", "3", "no", "exceptions"]
    assert lines[1].split() == ["two", "MISSED"]
    assert lines[-1] == "FAILED: missed two"
    assert told({"one": Catch(3, "no exceptions")})[-1] == "all 1 caught"
    monkeypatch.setattr(table, "spread", lambda work, tasks, at_once: [Catch(0, "")] * len(tasks))
    assert main() == 1
    assert "MISSED" in capsys.readouterr().out


def test_a_hunted_seed_replays_byte_for_byte() -> None:
    name = "lease read after pause"
    seed = hunt(name).seed
    assert run_planted(name, seed) == run_planted(name, seed)
