"""The command line: what it prints where, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ops.conftest import Quorate

import quorate as package
from quorate.config import RunConfig, load_run
from quorate.ops.rundir import RunDirectory


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("statu",), 2, "Did you mean 'status'?"),
        (("run", "--replica", "3"), 2, "--replicas"),
        (("run", "--port", "x", "--", "true"), 2, "Input should be a valid integer"),
        (("run",), 2, "no service to run - command line - end it with `-- CMD`"),
        (("run", "--", "no-such-program"), 2, "no such program: no-such-program"),
        (("run", "--storage", "fast", "--", "true"), 2, "'fast' is not one of 'sync', 'async', 'memory'"),
        (
            ("run", "--replicas", "10", "--", "true"),
            2,
            "replicas is 10 - flag --replicas - give a whole number from 1 to 9",
        ),
        (("run", "-f", "none.toml"), 2, "no such file - none.toml"),
        (("run", "--consensus", "zab", "--", "true"), 2, "'zab' is not one of 'paxos', 'raft'"),
        (("run", "--snapshot", "directory", "--", "true"), 2, 'in state volatile - flag --snapshot - set state = "dir'),
        (("run", "--snapshot-entries", "0", "--", "true"), 2, "snapshot.entries is 0 - flag --snapshot"),
        (("kill", "r1", "--app", "--sidecar"), 2, "--app and --sidecar together"),
        (("logs", "r7"), 2, "no replica r7"),
        (("sidecar",), 2, "--config"),
        (("sidecar", "--config", "none.toml"), 2, "no such file - none.toml"),
        (("status",), 5, "no run is going on"),
        (("ps",), 5, "no run is going on"),
        (("stop",), 5, "no run is going on"),
        (("pause", "r1"), 5, "no run is going on"),
        (("members", "list"), 5, "no run is going on"),
        (("members", "add"), 5, "no run is going on"),
        (("members", "remove", "r1"), 5, "no run is going on"),
        (("members", "replace", "r1"), 5, "no run is going on"),
        (("members", "remove"), 2, "missing argument"),
    ],
)
def test_an_error_is_one_line_on_stderr(quorate: Quorate, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = quorate(*arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert words in done.err


def test_all_problems_of_the_settings_are_lines(quorate: Quorate) -> None:
    Path("quorate.toml").write_text("replics = 3\nport = 70000\n")
    done = quorate("run", "--", "true")
    assert done.code == 2
    assert [line.split(" - ")[0] for line in done.err.splitlines()] == [
        "error: unknown key replics",
        "error: port is 70000",
    ]


def test_debug_shows_the_traceback(quorate: Quorate) -> None:
    done = subprocess.run([sys.executable, "-m", "quorate", "--debug", "status"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NetworkRefused" in done.stderr
    assert "Traceback" not in quorate("run", "--", "no-such-program", "--debug").err


def test_help_begins_with_what_it_is_and_an_example(quorate: Quorate) -> None:
    done = quorate("--help")
    assert done.code == 0
    assert "quorate run --replicas 3 -- python app.py" in done.out
    shown = " ".join(quorate("run", "--help").out.replace("│", " ").split())
    assert "QUORATE_ADMIN_PORT, default 9000" in shown


def test_without_a_verb_it_explains_itself(quorate: Quorate) -> None:
    assert "Commands" in quorate().out


def test_version(quorate: Quorate) -> None:
    done = quorate("version")
    assert done.out.splitlines()[0] == f"quorate {package.__version__}"
    assert [line.split()[0] for line in done.out.splitlines()] == ["quorate", "python", "loop"]


def test_init_writes_settings_that_are_the_defaults_and_overwrites_nothing(quorate: Quorate) -> None:
    assert quorate("init").code == 0
    text = Path("quorate.toml").read_text()
    assert load_run({}).run == RunConfig()
    done = quorate("init")
    assert (done.code, done.out) == (2, "")
    assert "exists already" in done.err
    assert Path("quorate.toml").read_text() == text


def test_what_init_comments_out_is_accepted_and_the_default(quorate: Quorate) -> None:
    """Its lines and the settings can't drift apart."""
    quorate("init")
    lines = Path("quorate.toml").read_text().splitlines()
    settings = [line[2:] for line in lines if line.startswith("# ") and (" = " in line or line.startswith("# ["))]
    Path("quorate.toml").write_text("\n".join(settings))
    loaded = load_run({})
    changed = {key for key, sourced in loaded.origins.items() if sourced.value != load_default(key)}
    assert changed == {"command", "data_dir", "routes"}
    assert {key for key, sourced in loaded.origins.items() if sourced.origin == "default"} == set()


def load_default(key: str) -> object:
    value: object = RunConfig()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_config_show_says_where_each_value_came_from(quorate: Quorate, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("quorate.toml").write_text("replicas = 5\n")
    monkeypatch.setenv("QUORATE_LOOP", "asyncio")
    lines = {line.split(" = ")[0]: line for line in quorate("config", "show", "--origin").out.splitlines()}
    assert lines["replicas"].split() == ["replicas", "=", "5", "#", "quorate.toml:1"]
    assert lines["loop"].endswith("# env QUORATE_LOOP")
    assert lines["http.fields_max"].endswith("# default")
    assert "#" not in quorate("config", "show").out


def test_warnings_go_to_stderr(quorate: Quorate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_REPLICAS", "4")
    done = quorate("config", "show")
    assert done.err == "warning: 4 replicas survive no more failures than 3 - replicas - choose 3 or 5\n"
    assert "replicas = 4\n" in done.out


def test_logs_of_a_run_that_ended(quorate: Quorate, home: Path) -> None:
    directory = RunDirectory(home / "d")
    directory.path.mkdir()
    directory.cluster(2, "sync", "paxos")
    for name in directory.replica_names():
        directory.replica(name).mkdir()
        (directory.replica(name) / "log").write_text(f"one\ntwo of {name}\n")
    assert quorate("logs", "-n", "1", "--data-dir", str(home / "d")).out == "r1 | two of r1\nr2 | two of r2\n"
    assert quorate("logs", "r2", "-f", "--data-dir", str(home / "d")).out == "r2 | one\nr2 | two of r2\n"


def test_completion_knows_the_replicas(home: Path) -> None:
    """As a shell asks for it."""
    directory = RunDirectory(home / "d")
    directory.path.mkdir()
    directory.cluster(3, "sync", "paxos")
    asked = {"_QUORATE_COMPLETE": "complete_bash", "COMP_WORDS": "quorate kill r", "COMP_CWORD": "2"}
    environment = {**os.environ, **asked, "QUORATE_DATA_DIR": str(directory.path)}
    done = subprocess.run([sys.executable, "-m", "quorate"], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["r1", "r2", "r3"], done.stderr


def test_a_sidecar_does_not_load_the_command_line() -> None:
    """It runs for months beside every replica."""
    script = (
        "import sys; sys.argv = ['quorate', 'sidecar', '--config', 'none.toml']\n"
        "import quorate.ops.cli, quorate.ops.sidecar, atexit, json\n"
        "unwanted = lambda: [name for name in ('typer', 'quorate.ops.commands') if name in sys.modules]\n"
        "atexit.register(lambda: print(json.dumps(unwanted())))\n"
        "quorate.ops.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout) == []


def test_the_reader_may_leave(home: Path) -> None:
    directory = RunDirectory(home / "d")
    directory.path.mkdir()
    directory.cluster(1, "sync", "paxos")
    directory.replica("r1").mkdir()
    (directory.replica("r1") / "log").write_text("a long line of log\n" * 50_000)
    command = [sys.executable, "-m", "quorate", "logs", "-n", "50000", "--data-dir", str(home / "d")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as logs:
        assert logs.stdout is not None
        assert logs.stderr is not None
        logs.stdout.readline()
        logs.stdout.close()
        assert logs.stderr.read() == ""
        assert logs.wait(10) == 1
