"""Settings: the only reader of configuration files and of the environment.

Two shapes. `RunConfig` is what `quorate run` wants to know, merged from flags > environment (QUORATE_*) > project file
(quorate.toml) > user file > defaults, and every value remembers where it came from. `SidecarConfig` is what one sidecar
wants to know; it comes from exactly one file, which the supervisor (or an operator) writes, and no environment changes
it: Kubernetes sets variables such as QUORATE_PORT for a service of that name.

Rules: all problems are reported at once, each as one line `what - where - how to fix`. An unknown key is an error that
names the nearest known one. Lower rooms never see these shapes: `ops` hands each room its own options.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from quorate import limits
from quorate.errors import Misuse
from quorate.strict_toml import Check, Sourced, defaults, nested, suggest

PIPELINE_HINT = (
    "leave it at 1: a service that lost its connection could have executed the later calls without the first"
)
PROJECT_FILE = "quorate.toml"
INTERNAL_VARIABLES = frozenset({"QUORATE_SUPERVISED", "QUORATE_STATE_DIR", "QUORATE_REPLICA", "QUORATE_FRONT"})
"""What quorate tells its own children; never a setting."""

Seconds = Annotated[float, Meta(gt=0, le=3600, description="seconds, above 0 and at most 3600")]
Port = Annotated[int, Meta(ge=0, le=65_000, description="a port from 1 to 65000, or 0 to have free ones picked")]
Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:]+):[0-9]{1,5}$", description="an address, host:port")]
Consensus = Annotated[Literal["paxos", "raft"], Meta(description='"paxos" or "raft"')]
Storage = Annotated[
    Literal["sync", "async", "memory"],
    Meta(description='"sync" (fsync before every answer), "async" (survives kill -9, not power loss) or "memory"'),
]
State = Annotated[
    Literal["volatile", "contract", "directory"], Meta(description='"volatile", "contract" or "directory"')
]
Driver = Annotated[
    Literal["none", "http", "directory", "command"], Meta(description='"none", "http", "directory" or "command"')
]
Target = Annotated[str, Meta(pattern="^/[!-~]*$", description="a path that begins with /")]
Count = Annotated[int, Meta(ge=1, le=2**40, description="a whole number from 1")]
Loop = Annotated[Literal["auto", "asyncio", "uvloop"], Meta(description='"auto", "asyncio" or "uvloop"')]
Mode = Annotated[Literal["ordered", "read", "stale", "pass"], Meta(description='"ordered", "read", "stale" or "pass"')]
Pipeline = Annotated[
    int, Meta(ge=1, le=limits.PIPELINE_CALLS_MAX, description=f"a whole number from 1 to {limits.PIPELINE_CALLS_MAX}")
]
Words = Annotated[list[str], Meta(description='a list of strings, as in ["python", "app.py"]')]


def _bytes_up_to(bound: int) -> Any:
    return Meta(ge=1, le=bound, description=f"a number of bytes from 1 to {bound}")


class RouteConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How requests to some paths are served; the first matching route wins."""

    path: Annotated[str, Meta(pattern="^/", description="a path glob that begins with /")]
    mode: Mode
    methods: Annotated[list[str], Meta(description='a list of methods, as in ["POST"]; empty means all')] = []
    key_required: Annotated[bool, Meta(description="true or false")] = False
    """Refuse ordered requests without an Idempotency-Key."""


class HttpConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the front door. Sizes can only be lowered: the consensus bounds are sized for the defaults."""

    request_line_bytes_max: Annotated[int, _bytes_up_to(limits.REQUEST_LINE_BYTES_MAX)] = limits.REQUEST_LINE_BYTES_MAX
    head_bytes_max: Annotated[int, _bytes_up_to(limits.HEAD_BYTES_MAX)] = limits.HEAD_BYTES_MAX
    fields_max: Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")] = limits.FIELDS_MAX
    body_bytes_max: Annotated[int, _bytes_up_to(limits.BODY_BYTES_MAX)] = limits.BODY_BYTES_MAX
    head_seconds_max: Seconds = limits.HEAD_SECONDS_MAX
    body_seconds_max: Seconds = limits.BODY_SECONDS_MAX
    idle_seconds_max: Seconds = limits.IDLE_SECONDS_MAX
    connections_max: Annotated[int, Meta(ge=1, le=100_000, description="a whole number from 1 to 100000")] = (
        limits.CONNECTIONS_MAX
    )


class SnapshotConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the state of the service is taken and put back, and how often."""

    driver: Driver = "none"
    """none: the log is all there is, and grows for ever. directory is the one for state `directory`."""
    get: Target = "/snapshot"
    """http: GET it for the state."""
    put: Target = "/snapshot"
    """http: PUT the state there."""
    capture: Words = []
    """command: writes the state to its standard output."""
    restore: Words = []
    """command: reads the state from its standard input."""
    entries: Count = limits.CHECKPOINT_ENTRIES
    """A checkpoint is taken each time that so many commands were applied,"""
    bytes: Count = limits.CHECKPOINT_BYTES
    """or so many bytes of them."""


class TlsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Certificates of this replica, in PEM, as `quorate tls init` makes them; read anew when the files change."""

    ca: str
    cert: str
    key: str


class AppConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The service beside a sidecar. Without a command it is a neighbour that somebody else starts."""

    address: Address
    command: Words | None = None
    env: Annotated[dict[str, str], Meta(description="a table of strings")] = {}
    """Added to the sidecar's own environment, beside PORT and its kin."""
    pipeline: Pipeline = 1
    """Ordered calls sent ahead of their answers; above 1 only for a service that executes pipelined ones in turn."""
    state_dir: str | None = None
    """The service's own directory, told to it as QUORATE_STATE_DIR; emptied before a `volatile` service starts."""


class SidecarConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything one sidecar has to know: `quorate sidecar --config FILE`."""

    cluster: Annotated[str, Meta(min_length=1, max_length=128, description="the cluster's name, 1 to 128 characters")]
    replica: Annotated[int, Meta(ge=1, le=limits.REPLICA_ID_MAX, description="this replica's number, from 1")]
    peers: Annotated[dict[str, Address], Meta(min_length=1, description='a table as in "1" = "10.0.0.1:7100"')]
    """Replica number -> address of its peer listener; holds this replica too."""
    founders: Annotated[list[int], Meta(description="a list of replica numbers, as in [1, 2, 3]")] | None = None
    """Who the cluster is founded with at the very first start; without it, all peers. A replica that is none of them
    joins, once `quorate members add` has told the others."""
    consensus: Consensus = "paxos"
    epoch: Annotated[int, Meta(ge=1, description="a whole number from 1")] = 1
    data_dir: str
    client: Address
    """This replica's own front."""
    shared: Address | None = None
    """Front shared by all replicas of this machine with SO_REUSEPORT; joined only while ready."""
    admin: Address
    storage: Storage = "sync"
    state: State = "volatile"
    app: AppConfig
    snapshot: SnapshotConfig = SnapshotConfig()
    tls: TlsConfig | None = None
    insecure: bool = False
    """Let peers and the admin listener speak plaintext on other addresses than loopback."""
    routes: list[RouteConfig] = []
    http: HttpConfig = HttpConfig()
    request_seconds: Seconds = limits.REQUEST_SECONDS_MAX
    loop: Loop = "auto"


class RunConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `quorate run` does: the settings of a project."""

    replicas: Annotated[int, Meta(ge=1, le=limits.REPLICAS_MAX, description="a whole number from 1 to 9, best odd")] = 3
    port: Port = 8000
    """Front shared by all ready replicas; replica i has port + i to itself."""
    admin_port: Port = 9000
    """Admin listener of the whole cluster; replica i has admin_port + i."""
    app_port: Port = 3000
    """The service of replica i listens on app_port + i."""
    data_dir: str = ""
    """Empty: the user's state directory, by project."""
    consensus: Consensus = "paxos"
    storage: Storage = "sync"
    state: State = "volatile"
    command: Words = []
    pipeline: Pipeline = 1
    """Ordered calls sent ahead of their answers; above 1 only for a service that executes pipelined ones in turn."""
    request_seconds: Seconds = limits.REQUEST_SECONDS_MAX
    loop: Loop = "auto"
    snapshot: SnapshotConfig = SnapshotConfig()
    http: HttpConfig = HttpConfig()
    routes: list[RouteConfig] = []


class Settings(NamedTuple):
    """The merged settings; `origins` maps each dotted key to its value and source, in the order of RunConfig."""

    run: RunConfig
    origins: dict[str, Sourced]
    warnings: tuple[str, ...]


class ConfigRefused(Misuse):
    """The settings hold one or more problems, each a line of its own."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_run(flags: Mapping[str, object], file: Path | None = None) -> Settings:
    """Merge all layers. `flags` holds the options given, by key; `file` must exist, quorate.toml here need not.

    Raises ConfigRefused with every problem found in any layer.
    """
    check = Check(RunConfig)
    found = defaults(RunConfig())
    known = tuple(found)
    found |= _run_file_layer(check, user_file(), required=False)
    found |= _run_file_layer(check, file or Path(PROJECT_FILE), required=file is not None)
    variables, warnings = _environment_layer(check, known)
    found |= variables
    given = {key: value for key, value in flags.items() if value is not None}
    found |= check.table(given, lambda path: "flag --" + str(path[0]).replace("_", "-"))
    refuse(check.problems + _overlapping_ports(found) + _unsafe_pipeline(found))
    run = msgspec.convert(nested(found), RunConfig)
    refuse(_snapshot_contradictions(run.state, run.snapshot, found["snapshot.driver"].origin))
    return Settings(run, found, (*warnings, *voters_warning(run.replicas)))


def load_sidecar(file: Path) -> SidecarConfig:
    """Read one sidecar's file; raises ConfigRefused with every problem found in it."""
    check = Check(SidecarConfig)
    found = _file_layer(check, file, required=True)
    refuse(check.problems)
    config = msgspec.convert(nested(found), SidecarConfig)
    refuse(_contradictions(config, str(file)))
    return config


def refuse(problems: list[str]) -> None:
    """Raise ConfigRefused if there are any problems."""
    if problems:
        raise ConfigRefused(problems)


def voters_warning(count: int) -> tuple[str, ...]:
    """An even cluster survives no more failures than the next smaller odd one, and needs a larger quorum."""
    if count % 2:
        return ()
    return (
        f"{count} replicas survive no more failures than {count - 1} - replicas - choose {count - 1} or {count + 1}",
    )


# --- places and the environment --------------------------------------------------------------------------------------


def user_file() -> Path:
    """The user's own defaults (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "quorate" / "config.toml"


def data_directory(run: RunConfig) -> Path:
    """Where the run keeps its log: as set, or in the user's state directory under the project's name and path hash."""
    if run.data_dir:
        return Path(run.data_dir).expanduser().absolute()
    here = Path.cwd()
    state_home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    digest = blake2b(bytes(here), digest_size=4).hexdigest()
    return state_home / "quorate" / f"{here.name or 'root'}-{digest}"


def supervisor_pid() -> int | None:
    """The supervisor this process must not outlive, if it has one."""
    text = os.environ.get("QUORATE_SUPERVISED", "")
    return int(text) if text.isdecimal() else None


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment with `extra` on top, for a child process."""
    return {**os.environ, **extra}


def variable(key: str) -> str:
    """The environment variable of a dotted key."""
    return "QUORATE_" + key.replace(".", "_").upper()


# --- layers ----------------------------------------------------------------------------------------------------------


def _file_layer(check: Check, path: Path, *, required: bool) -> dict[str, Sourced]:
    """The settings of one TOML file by dotted key. A missing file is empty unless it is required."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_BYTES_MAX + 1)
        if len(data) > limits.CONFIG_BYTES_MAX:
            raise ValueError(f"over {limits.CONFIG_BYTES_MAX} bytes")
        return check.text(data.decode(), str(path))
    except FileNotFoundError:
        if required:
            check.problems.append(f"no such file - {path} - name another, or write one with `quorate init`")
    except OSError as error:
        check.problems.append(f"cannot be read: {error.strerror} - {path} - check the file and its permissions")
    except ValueError as error:
        check.problems.append(f"not TOML in UTF-8: {error} - {path} - correct the file")
    return {}


def _run_file_layer(check: Check, path: Path, *, required: bool) -> dict[str, Sourced]:
    """A layer of RunConfig; a relative data_dir is meant relative to the file."""
    found = _file_layer(check, path, required=required)
    if "data_dir" in found and found["data_dir"].value:
        place = path.parent / Path(found["data_dir"].value).expanduser()
        found["data_dir"] = found["data_dir"]._replace(value=str(place.absolute()))
    return found


def _environment_layer(check: Check, known: Iterable[str]) -> tuple[dict[str, Sourced], tuple[str, ...]]:
    """Settings from QUORATE_*; an unknown variable only warns, since somebody else may have named it."""
    keys = {variable(key): key for key in known if key != "routes"}
    found: dict[str, Sourced] = {}
    warnings = []
    for name, text in os.environ.items():
        if name in keys:
            found |= check.word(keys[name], text, f"env {name}")
        elif name.startswith("QUORATE_") and name not in INTERNAL_VARIABLES:
            warnings.append(f"unknown setting, ignored - env {name} - {suggest(name, keys)}")
    return found, tuple(warnings)


# --- rules across keys -----------------------------------------------------------------------------------------------


def _overlapping_ports(found: Mapping[str, Sourced]) -> list[str]:
    """Front, admin and service each take their base port and one more per replica; these spans must not meet."""
    replicas = found["replicas"].value
    spans = sorted((found[key].value, key) for key in ("app_port", "port", "admin_port") if found[key].value)
    return [
        f"{low_key} {low} to {low + replicas} meets {high_key} {high} to {high + replicas}"
        f" - {found[high_key].origin} - move {high_key} to {low + replicas + 1} or above"
        for (low, low_key), (high, high_key) in itertools.pairwise(spans)
        if high <= low + replicas
    ]


def _unsafe_pipeline(found: Mapping[str, Sourced]) -> list[str]:
    if found["state"].value != "contract" or found["pipeline"].value == 1:
        return []
    return [f"pipeline is above 1 in state contract - {found['pipeline'].origin} - {PIPELINE_HINT}"]


def _snapshot_contradictions(state: str, snapshot: SnapshotConfig, where: str) -> list[str]:
    """What is wrong with a driver in a state mode; state `directory` needs none, it has its own."""
    problems = []
    if snapshot.driver == "directory" and state != "directory":
        problems.append(f'snapshot.driver is "directory" in state {state} - {where} - set state = "directory"')
    if snapshot.driver in ("http", "command") and state == "directory":
        problems.append(f'snapshot.driver is "{snapshot.driver}" in state directory - {where} - leave it out')
    if snapshot.driver == "command" and not (snapshot.capture and snapshot.restore):
        problems.append(f"snapshot.driver is command - {where} - give both snapshot.capture and snapshot.restore")
    return problems


def _contradictions(config: SidecarConfig, where: str) -> list[str]:
    problems = [
        f"peers holds {key!r} - {where} - name each replica by its number, from 1"
        for key in config.peers
        if not re.fullmatch("[1-9][0-9]*", key)
    ]
    if str(config.replica) not in config.peers:
        problems.append(f"replica {config.replica} is not among the peers - {where} - add its own address to peers")
    problems += _snapshot_contradictions(config.state, config.snapshot, where)
    problems += [
        f"founder {founder} is not among the peers - {where} - add its address to peers"
        for founder in config.founders or ()
        if str(founder) not in config.peers
    ]
    if config.state == "directory" and config.app.state_dir is None:
        problems.append(f"state is directory without app.state_dir - {where} - name the directory that holds the state")
    if config.state == "contract" and config.app.pipeline > 1:
        problems.append(f"app.pipeline is above 1 in state contract - {where} - {PIPELINE_HINT}")
    addresses = [*config.peers.values(), config.client, config.admin, config.app.address]
    addresses += [config.shared] if config.shared else []
    problems += [
        f"{address} is given twice - {where} - give every listener an address of its own"
        for address, times in Counter(addresses).items()
        if times > 1
    ]
    return problems
