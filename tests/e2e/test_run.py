"""`quorate run` and the commands beside it, as an operator meets them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.apps.service import COMMANDS
from tests.e2e.harness import DRAIN_SECONDS_MAX, Client, Cluster, Clusters, PersistentClient, add, eventually


def quorate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "quorate", *arguments], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_drains_and_exits_0(clusters: Clusters, how: signal.Signals) -> None:
    counter = clusters.start("counter-node")
    with PersistentClient(counter.urls()) as client:
        client.write("/integer", add(1))
    counter.process.send_signal(how)
    assert counter.process.wait(DRAIN_SECONDS_MAX) == 0
    eventually(lambda: not counter.marked(), 5, "no process is left")
    assert not (counter.data_dir / "run.json").exists()


def test_the_data_outlives_a_clean_stop(clusters: Clusters) -> None:
    first = clusters.start("counter-node")
    with PersistentClient(first.urls()) as client:
        client.write("/integer", add(41))
    assert first.stop() == 0
    again = clusters.start("counter-node")
    again.settled()
    assert again.app_values() == [41] * 3


def test_the_shared_front_is_kept_by_the_ready(counter: Cluster) -> None:
    """Every connection to it finds a replica that answers, also while one has no app."""
    url = counter.status().url
    counter.kill("r2", "app")
    for _ in range(60):
        with Client(url) as client:
            assert client.ask("GET", "/integer").status == 200
    counter.settled()


def test_a_taken_port_is_an_error_that_names_the_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ports = ("--port", str(port), "--admin-port", "0", "--app-port", "0")
        done = quorate("run", "--replicas", "3", *ports, "--data-dir", str(tmp_path), "--", *COMMANDS["counter-node"])
    assert done.returncode == 5
    assert str(port) in done.stderr
    assert str(os.getpid()) in done.stderr
    assert "Traceback" not in done.stderr


def test_status_is_for_people_and_programs(counter: Cluster) -> None:
    where = ("--data-dir", str(counter.data_dir))
    done = quorate("status", "-o", "json", *where)
    assert done.returncode == 0, done.stderr
    replicas = json.loads(done.stdout)["replicas"]
    assert [replica["name"] for replica in replicas] == ["r1", "r2", "r3"]
    wanted = {"client_url", "admin_url", "role", "applied", "digest", "state", "app_pid", "sidecar_pid"}
    assert all(wanted <= replica.keys() for replica in replicas)
    table = quorate("status", *where)
    assert table.returncode == 0, table.stderr
    assert all(name in table.stdout for name in ("r1", "r2", "r3", "leader"))


def test_kill_pause_and_resume_from_the_command_line(counter: Cluster) -> None:
    where = ("--data-dir", str(counter.data_dir))
    before = counter.replica("r3")
    for arguments in (("kill", "r3", "--app"), ("pause", "r2"), ("resume", "r2"), ("kill", "r1", "--sidecar")):
        done = quorate(*arguments, *where)
        assert done.returncode == 0, done.stderr
    counter.settled()
    after = counter.replica("r3")
    assert after.app_pid != before.app_pid
    assert after.sidecar_pid == before.sidecar_pid
