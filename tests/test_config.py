"""Settings: precedence, origins, and every way to get them wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate import limits
from quorate.config import (
    AppConfig,
    ConfigRefused,
    RouteConfig,
    RunConfig,
    SidecarConfig,
    SnapshotConfig,
    child_environment,
    data_directory,
    load_run,
    load_sidecar,
    supervisor_pid,
    voters_warning,
)
from quorate.strict_toml import dump

STORAGES = '"sync" (fsync before every answer), "async" (survives kill -9, not power loss) or "memory"'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for every test: no settings of the machine's user leak in."""
    for name in child_environment({}):
        if name.startswith("QUORATE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return tmp_path


def sidecar_settings(home: Path) -> SidecarConfig:
    return SidecarConfig(
        cluster="c",
        replica=2,
        peers={"1": "127.0.0.1:7101", "2": "127.0.0.1:7102"},
        data_dir=str(home / "data"),
        client="127.0.0.1:8002",
        shared="127.0.0.1:8000",
        admin="127.0.0.1:9002",
        app=AppConfig("127.0.0.1:3002", command=["python", 'a "b" \\ é\x7f.py'], env={"A": "1"}),
        routes=[RouteConfig("/metrics", "pass")],
    )


def refusal(text: str, load: str = "run") -> tuple[str, ...]:
    file = Path("quorate.toml")
    file.write_text(text)
    with pytest.raises(ConfigRefused) as refused:
        load_run({}) if load == "run" else load_sidecar(file)
    assert refused.value.exit_code == 2
    return refused.value.problems


# --- precedence -------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    settings = load_run({})
    assert settings.run == RunConfig()
    assert (settings.run.port, settings.run.admin_port, settings.run.app_port) == (8000, 9000, 3000)
    assert {sourced.origin for sourced in settings.origins.values()} == {"default"}
    assert settings.warnings == ()


def test_each_layer_beats_the_ones_below(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = home / "config" / "quorate" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text("replicas = 1\nport = 1000\nadmin_port = 2000\napp_port = 4000\n[http]\nfields_max = 7\n")
    Path("quorate.toml").write_text("port = 1100\nadmin_port = 2100\napp_port = 4100\n")
    monkeypatch.setenv("QUORATE_ADMIN_PORT", "2200")
    monkeypatch.setenv("QUORATE_APP_PORT", "4200")
    settings = load_run({"app_port": 4300, "storage": None})
    run = settings.run
    assert (run.replicas, run.port, run.admin_port, run.app_port) == (1, 1100, 2200, 4300)
    assert {key: settings.origins[key].origin for key in ("replicas", "port", "admin_port", "app_port", "loop")} == {
        "replicas": f"{user}:1",
        "port": "quorate.toml:1",
        "admin_port": "env QUORATE_ADMIN_PORT",
        "app_port": "flag --app-port",
        "loop": "default",
    }
    assert run.http.fields_max == 7
    assert run.http.head_bytes_max == limits.HEAD_BYTES_MAX


def test_variables_reach_tables_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_HTTP_BODY_BYTES_MAX", "100")
    monkeypatch.setenv("QUORATE_COMMAND", "python 'my app.py'")
    monkeypatch.setenv("QUORATE_REQUEST_SECONDS", "2.5")
    run = load_run({}).run
    assert run.http.body_bytes_max == 100
    assert run.command == ["python", "my app.py"]
    assert run.request_seconds == 2.5


def test_an_unknown_variable_only_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_REPLICSA", "5")
    monkeypatch.setenv("QUORATE_SUPERVISED", "1")
    assert load_run({}).warnings == (
        "unknown setting, ignored - env QUORATE_REPLICSA - did you mean QUORATE_REPLICAS?",
    )


def test_a_bad_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_REPLICAS", "many")
    with pytest.raises(
        ConfigRefused, match='replicas is "many" - env QUORATE_REPLICAS - give a whole number from 1 to 9'
    ):
        load_run({})


def test_routes_come_in_order() -> None:
    second = 'path = "/b/*"\nmethods = ["POST"]\nmode = "ordered"\nkey_required = true\n'
    Path("quorate.toml").write_text(f'[[routes]]\npath = "/a"\nmode = "read"\n[[routes]]\n{second}')
    assert load_run({}).run.routes == [RouteConfig("/a", "read"), RouteConfig("/b/*", "ordered", ["POST"], True)]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_all_problems_of_all_layers_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("quorate.toml").write_text('replics = 3\nstorage = "fast"\n')
    monkeypatch.setenv("QUORATE_PORT", "web")
    with pytest.raises(ConfigRefused) as refused:
        load_run({"loop": "twisted"})
    assert refused.value.problems == (
        "unknown key replics - quorate.toml:1 - did you mean replicas?",
        f'storage is "fast" - quorate.toml:2 - give {STORAGES}',
        'port is "web" - env QUORATE_PORT - give a port from 1 to 65000, or 0 to have free ones picked',
        'loop is "twisted" - flag --loop - give "auto", "asyncio" or "uvloop"',
    )


@pytest.mark.parametrize(
    "line",
    [
        "replicas = 0",
        "replicas = 10",
        "replicas = 2.5",
        "port = -1",
        "port = 65001",
        "request_seconds = 0",
        "request_seconds = nan",
        "routes = 3",
        "http = []",
        "command = 'python app.py'",
        "[http]\nbody_bytes_max = 2000000",
        "[[routes]]\npath = 'x'\nmode = 'read'",
        "[[routes]]\npath = '/'\nmode = 'write'",
    ],
)
def test_values_out_of_range_are_refused(line: str) -> None:
    (problem,) = refusal(line)
    assert problem.count(" - ") >= 2
    assert " - give " in problem


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2", "[http", "\x00"])
def test_what_is_not_toml_is_refused_with_its_place(text: str) -> None:
    (problem,) = refusal(text)
    assert problem.startswith("not TOML in UTF-8: ")
    assert problem.endswith(" - quorate.toml - correct the file")


def test_what_is_not_utf8_is_refused() -> None:
    Path("quorate.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigRefused, match="not TOML in UTF-8"):
        load_run({})


def test_a_huge_file_is_refused() -> None:
    (problem,) = refusal("#" * (limits.CONFIG_BYTES_MAX + 1))
    assert "over 1048576 bytes" in problem


def test_a_named_file_must_exist() -> None:
    with pytest.raises(ConfigRefused, match=r"no such file - other\.toml"):
        load_run({}, Path("other.toml"))


def test_a_directory_is_not_a_file() -> None:
    Path("quorate.toml").mkdir()
    with pytest.raises(ConfigRefused, match="cannot be read: Is a directory"):
        load_run({})


def test_port_spans_must_not_meet() -> None:
    with pytest.raises(ConfigRefused, match="port 8000 to 8003 meets admin_port 8003 to 8006"):
        load_run({"admin_port": 8003})
    assert load_run({"admin_port": 8004}).run.admin_port == 8004
    assert load_run({"port": 0, "admin_port": 0, "app_port": 0}).run.port == 0


def test_a_contract_service_takes_one_call_at_a_time() -> None:
    with pytest.raises(ConfigRefused, match="pipeline is above 1 in state contract - flag --pipeline"):
        load_run({"pipeline": 2, "state": "contract"})
    assert load_run({"pipeline": 2}).run.pipeline == 2


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            'state = "contract"\n[snapshot]\ndriver = "directory"',
            'snapshot.driver is "directory" in state contract - quorate.toml:3 - set state = "directory"',
        ),
        (
            'state = "directory"\n[snapshot]\ndriver = "http"',
            'snapshot.driver is "http" in state directory - quorate.toml:3 - leave it out',
        ),
        (
            '[snapshot]\ndriver = "command"\ncapture = ["save"]',
            "snapshot.driver is command - quorate.toml:2 - give both snapshot.capture and snapshot.restore",
        ),
    ],
)
def test_a_snapshot_driver_must_fit_the_state(lines: str, problem: str) -> None:
    assert refusal(lines) == (problem,)


def test_snapshot_drivers_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for state in ("volatile", "contract"):
        assert load_run({"state": state, "snapshot": {"driver": "http", "entries": 7}}).run.snapshot.entries == 7
    assert load_run({"state": "directory"}).run.snapshot.driver == "none"
    monkeypatch.setenv("QUORATE_SNAPSHOT_CAPTURE", "save")
    monkeypatch.setenv("QUORATE_SNAPSHOT_RESTORE", "load --from -")
    snapshot = load_run({"snapshot": {"driver": "command"}}).run.snapshot
    assert (snapshot.capture, snapshot.restore) == (["save"], ["load", "--from", "-"])


@pytest.mark.parametrize("count", [0, -1, 2**40 + 1, 1.5])
def test_a_distance_of_snapshots_is_a_count(count: float) -> None:
    with pytest.raises(ConfigRefused, match=r"snapshot\.entries is .* - flag --snapshot"):
        load_run({"snapshot": {"entries": count}})


def test_a_protocol_is_chosen_by_name() -> None:
    assert load_run({"consensus": "raft"}).run.consensus == "raft"
    with pytest.raises(ConfigRefused, match='consensus is "zab" - flag --consensus - give "paxos" or "raft"'):
        load_run({"consensus": "zab"})


@pytest.mark.parametrize(("count", "warned"), [(1, False), (2, True), (3, False), (4, True)])
def test_even_voters_warn(count: int, warned: bool) -> None:
    assert bool(voters_warning(count)) == warned
    assert load_run({"replicas": count}).warnings == voters_warning(count)


# --- places -----------------------------------------------------------------------------------------------------------


def test_data_directory_is_by_project(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data_directory(RunConfig())
    assert first.parent == home / "state" / "quorate"
    assert first.name.startswith("project-")
    other = home / "other" / "project"
    other.mkdir(parents=True)
    monkeypatch.chdir(other)
    assert data_directory(RunConfig()) != first


def test_data_directory_of_a_file_is_relative_to_it(home: Path) -> None:
    file = home / "elsewhere.toml"
    file.write_text('data_dir = "log"')
    assert data_directory(load_run({}, file).run) == home / "log"


# --- one sidecar ------------------------------------------------------------------------------------------------------


def test_a_sidecar_file_is_read_as_it_was_written(home: Path) -> None:
    settings = sidecar_settings(home)
    file = home / "sidecar.toml"
    file.write_text(dump(settings))
    assert tomllib.loads(file.read_text())["replica"] == 2
    assert load_sidecar(file) == settings


def test_no_variable_changes_a_sidecar(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "sidecar.toml"
    file.write_text(dump(sidecar_settings(home)))
    monkeypatch.setenv("QUORATE_STORAGE", "memory")
    monkeypatch.setenv("QUORATE_PORT", "tcp://10.0.0.1:80")
    assert load_sidecar(file).storage == "sync"


def test_missing_keys_of_a_sidecar_are_all_told() -> None:
    problems = refusal("", load="sidecar")
    assert [problem.split()[0] for problem in problems] == [
        "cluster",
        "replica",
        "peers",
        "data_dir",
        "client",
        "admin",
        "app",
    ]


def test_a_sidecar_that_contradicts_itself_is_refused(home: Path) -> None:
    text = dump(sidecar_settings(home)).replace('"2" = "127.0.0.1:7102"', '"x" = "127.0.0.1:9002"')
    assert refusal(text, load="sidecar") == (
        "peers holds 'x' - quorate.toml - name each replica by its number, from 1",
        "replica 2 is not among the peers - quorate.toml - add its own address to peers",
        "127.0.0.1:9002 is given twice - quorate.toml - give every listener an address of its own",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"founders": [1, 3]}, "founder 3 is not among the peers - quorate.toml - add its address to peers"),
        (
            {"state": "directory"},
            "state is directory without app.state_dir - quorate.toml - name the directory that holds the state",
        ),
        (
            {"snapshot": SnapshotConfig("directory")},
            'snapshot.driver is "directory" in state volatile - quorate.toml - set state = "directory"',
        ),
    ],
)
def test_members_and_state_of_a_sidecar_must_fit(home: Path, changes: dict[str, Any], problem: str) -> None:
    text = dump(msgspec.structs.replace(sidecar_settings(home), **changes))
    assert refusal(text, load="sidecar") == (problem,)


def test_a_joiner_is_no_founder(home: Path) -> None:
    settings = msgspec.structs.replace(sidecar_settings(home), founders=[1])
    file = home / "sidecar.toml"
    file.write_text(dump(settings))
    assert load_sidecar(file) == settings


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost:", ":80", "a b:80", "http://x:80", "::1:80", "x:123456"])
def test_bad_addresses_are_refused(home: Path, address: str) -> None:
    text = dump(sidecar_settings(home)).replace('"127.0.0.1:8002"', f'"{address}"')
    assert refusal(text, load="sidecar") == (f'client is "{address}" - quorate.toml:7 - give an address, host:port',)


def test_the_supervisor_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervisor_pid() is None
    monkeypatch.setenv("QUORATE_SUPERVISED", "4711")
    assert supervisor_pid() == 4711
