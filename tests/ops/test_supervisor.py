"""A whole run with real processes: what `quorate run` keeps alive, and how it ends. See also tests/e2e/test_run.py."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.ops.running import Running, all_in

from quorate.config import RouteConfig, RunConfig, load_sidecar
from quorate.errors import Misuse
from quorate.ops import ports
from quorate.ops.rundir import ClusterInfo, RunDirectory
from quorate.ops.supervisor import refuse_missing_program, sidecar_configs
from quorate.strict_toml import dump


def test_a_life_of_kills_pauses_and_a_drain(start: Callable[..., Running]) -> None:
    run = start("--replicas", "3")
    before = run.wait(all_in("ready"))
    assert {row["starts"] for row in before.values()} == {1}

    run.ask("/replicas/r1/kill?what=sidecar", "POST")
    run.ask("/replicas/r2/kill?what=app", "POST")
    run.ask("/replicas/r3/pause", "POST")
    paused = run.wait(lambda rows: rows["r3"]["state"] == "paused" and rows["r1"]["starts"] == 2)
    frozen = [psutil.Process(paused["r3"]["sidecar_pid"]), psutil.Process(before["r3"]["app_pid"])]
    run.wait(lambda _: all(process.status() == psutil.STATUS_STOPPED for process in frozen))
    run.ask("/replicas/r3/resume", "POST")

    after = run.wait(all_in("ready"))
    assert after["r1"]["sidecar_pid"] != before["r1"]["sidecar_pid"]
    assert (after["r2"]["sidecar_pid"], after["r2"]["starts"]) == (before["r2"]["sidecar_pid"], 1)
    assert after["r2"]["app_pid"] != before["r2"]["app_pid"]
    assert after["r3"]["app_pid"] == before["r3"]["app_pid"]

    run.ask("/replicas/r3/pause", "POST")
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(15) == 0, "a paused replica drains too"
    assert not any(psutil.pid_exists(row[key]) for row in after.values() for key in ("app_pid", "sidecar_pid"))


def test_the_second_signal_stops_at_once(start: Callable[..., Running]) -> None:
    stubborn = ["sh", "-c", 'trap "" TERM; while :; do sleep 0.1; done']
    run = start("--replicas", "1", command=stubborn)
    rows = run.wait(lambda rows: rows["r1"]["app_pid"])
    family = [psutil.Process(rows["r1"][key]) for key in ("app_pid", "sidecar_pid")]
    run.process.send_signal(signal.SIGINT)
    while "draining" not in run.log.read_text() and run.process.poll() is None:
        time.sleep(0.01)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(5) in (0, 1)
    assert psutil.wait_procs(family, 5)[1] == []


def test_nothing_outlives_a_killed_supervisor(start: Callable[..., Running]) -> None:
    run = start("--replicas", "2")
    rows = run.wait(all_in("ready"))
    family = [psutil.Process(row[key]) for row in rows.values() for key in ("app_pid", "sidecar_pid")]
    run.process.kill()
    _, alive = psutil.wait_procs(family, 15)
    assert alive == []
    again = start("--replicas", "2")
    assert again.wait(all_in("ready")).keys() == {"r1", "r2"}, "a stale record does not matter"


def test_a_refused_identity_is_final(start: Callable[..., Running]) -> None:
    """A replica in memory forgets what it voted: its sidecar is refused, and not started over and over."""
    run = start("--replicas", "3", "--storage", "memory")
    run.wait(all_in("ready"))
    run.ask("/replicas/r3/kill?what=sidecar", "POST")
    rows = run.wait(lambda rows: rows["r3"]["state"] == "stopped")
    assert rows["r3"]["sidecar_pid"] is None
    assert rows["r3"]["app_pid"] is None
    with pytest.raises(Misuse, match="replica r3 is not running"):
        run.ask("/replicas/r3/kill", "POST")
    assert "r3 stopped (it was refused its identity)" in run.log.read_text()


def test_a_run_whose_replicas_all_ended_for_good_ends_as_they_did(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    run = start("--replicas", "1")
    run.wait(all_in("ready"))
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(15) == 0
    for path in sorted((tmp_path / "d" / "r1" / "data").rglob("*.mdb")):
        path.unlink()
    again = start("--replicas", "1")
    assert again.process.wait(15) == 3
    assert "store empty" in again.log.read_text(), "its last words are heard"


def test_a_second_run_is_refused(start: Callable[..., Running]) -> None:
    first = start("--replicas", "1")
    first.wait(all_in("ready"))
    second = start("--replicas", "1")
    assert second.process.wait(10) == 3
    assert f"error: a run is going on there, pid {first.process.pid} - " in second.log.read_text()


# --- what the sidecars are told ---------------------------------------------------------------------------------------


def test_sidecar_settings_of_a_run(tmp_path: Path) -> None:
    run = RunConfig(
        replicas=3,
        port=0,
        admin_port=0,
        app_port=0,
        state="contract",
        command=["app", "--listen=:{port}", "{other}"],
        routes=[RouteConfig("/x", "pass")],
    )
    plan = ports.plan(run, [1, 2, 3])
    cluster = ClusterInfo("c", "sync", "paxos", [1, 2, 3], [1, 2, 3])
    configs = sidecar_configs(run, plan, cluster, RunDirectory(tmp_path))
    assert [config.replica for config in configs] == [1, 2, 3]
    assert all(config.peers == configs[0].peers and config.routes == run.routes for config in configs)
    assert {config.shared for config in configs} == {f"127.0.0.1:{plan.front}"}
    for config, each in zip(configs, plan.replicas.values(), strict=True):
        home = tmp_path / f"r{config.replica}"
        assert config.app.command == ["app", f"--listen=:{each.app}", "{other}"]
        assert (config.data_dir, config.app.state_dir) == (str(home / "data"), str(home / "app"))
        file = home / "sidecar.toml"
        file.write_text(dump(config))
        assert load_sidecar(file) == config


def test_a_missing_program_is_told_before_anything_starts() -> None:
    with pytest.raises(Misuse, match="no service to run"):
        refuse_missing_program([])
    with pytest.raises(Misuse, match=r"no such program: \./nothing"):
        refuse_missing_program(["./nothing"])
    refuse_missing_program([os.environ.get("SHELL", "sh")])
