"""The verbs of the command line. Each reads its settings, asks or does one thing, and prints the answer.

Options that are not given stay None, so that `config` can tell a flag from a default. Errors are raised, never printed
here (see `cli`).
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import time
from importlib import resources, util
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

import quorate
from quorate import config, limits
from quorate.errors import Misuse, NetworkRefused
from quorate.ops import members_commands, output, tls_commands, view
from quorate.ops.options import (
    Color,
    DataDir,
    Format,
    ProjectFile,
    Replica,
    act,
    ask,
    known_name,
    replica_names,
    run_directory,
    setting,
    settings,
)
from quorate.ops.rundir import RunDirectory
from quorate.ops.sim_commands import sim
from quorate.strict_toml import Sourced

app = typer.Typer(
    name="quorate",
    help="""Make a stateful HTTP service survive: run several copies that execute the same requests in the same order.

    Example:  quorate run --replicas 3 -- python app.py""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_commands = typer.Typer(no_args_is_help=True, help="Look at the settings.")
app.add_typer(config_commands, name="config")
app.add_typer(members_commands.app, name="members")
app.add_typer(tls_commands.app, name="tls")
app.command()(sim)


def run_command(arguments: list[str]) -> int:
    """Execute a command line; raises Misuse for one that makes no sense."""
    try:
        result = app(arguments, prog_name="quorate", standalone_mode=False)
    except typer.TyperException as error:
        what = " ".join(error.format_message().split())
        raise Misuse(f"{what[:1].lower()}{what[1:].rstrip('.')} - command line", "see `quorate --help`") from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else 0


@app.callback()
def quorate_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Nothing to do before a verb: `cli.main` reads --debug itself, since it has to know before this is parsed."""


# --- a run ------------------------------------------------------------------------------------------------------------


@app.command(context_settings={"allow_interspersed_args": False}, epilog="Example: quorate run -- python app.py")
def run(
    command: Annotated[list[str] | None, typer.Argument(help="The service, after --; {port} becomes its port.")] = None,
    replicas: Annotated[int | None, setting("replicas", "Copies of the service.", "Cluster", "--replicas")] = None,
    port: Annotated[int | None, setting("port", "Shared front; replica i has port+i.", "Ports", "--port")] = None,
    admin_port: Annotated[
        int | None, setting("admin_port", "Admin; replica i has it +i.", "Ports", "--admin-port")
    ] = None,
    app_port: Annotated[int | None, setting("app_port", "Service i listens on it +i.", "Ports", "--app-port")] = None,
    data_dir: DataDir = None,
    consensus: Annotated[
        Literal["paxos", "raft"] | None, setting("consensus", "The protocol.", "Cluster", "--consensus")
    ] = None,
    storage: Annotated[
        Literal["sync", "async", "memory"] | None, setting("storage", "sync: fsync first.", "Storage", "--storage")
    ] = None,
    state: Annotated[
        Literal["volatile", "contract", "directory"] | None,
        setting("state", "Who keeps the state.", "Storage", "--state"),
    ] = None,
    snapshot: Annotated[
        Literal["none", "http", "directory", "command"] | None,
        setting("snapshot.driver", "How state is saved.", "Storage", "--snapshot"),
    ] = None,
    checkpoint: Annotated[
        int | None, setting("snapshot.entries", "Commands between two.", "Storage", "--snapshot-entries")
    ] = None,
    pipeline: Annotated[
        int | None, setting("pipeline", "Calls ahead of their answers.", "Cluster", "--pipeline")
    ] = None,
    request_seconds: Annotated[
        float | None, setting("request_seconds", "Deadline of a request.", "Cluster", "--request-seconds")
    ] = None,
    loop: Annotated[
        Literal["auto", "asyncio", "uvloop"] | None, setting("loop", "Event loop.", "Cluster", "--loop")
    ] = None,
    file: ProjectFile = None,
    color: Color = "auto",
) -> int:
    """Run a service as a cluster of replicas on this machine, until Ctrl-C."""
    from quorate.ops.supervisor import Supervisor

    flags = {
        "replicas": replicas,
        "port": port,
        "admin_port": admin_port,
        "app_port": app_port,
        "data_dir": str(data_dir.absolute()) if data_dir else None,
        "consensus": consensus,
        "storage": storage,
        "state": state,
        "snapshot": {key: value for key, value in (("driver", snapshot), ("entries", checkpoint)) if value is not None},
        "pipeline": pipeline,
        "request_seconds": request_seconds,
        "loop": loop,
        "command": command or None,
    }
    merged = settings(flags, file)
    console = view.console(color, talk=True)
    with view.Display(console, live=sys.stderr.isatty()) as display:
        supervisor = Supervisor(merged.run, RunDirectory(config.data_directory(merged.run)), display)
        return asyncio.run(supervisor.run())


@app.command()
def status(data_dir: DataDir = None, output_format: Format = "table", color: Color = "auto") -> None:
    """Show the cluster: role, applied index, lag, digest and state of every replica."""
    answer = ask(run_directory(data_dir).living(), "/status")
    if output_format == "json":
        print(json.dumps(answer, indent=2))
    else:
        view.console(color, talk=False).print(view.table(answer["replicas"]))


@app.command()
def ps(data_dir: DataDir = None, output_format: Format = "table", color: Color = "auto") -> None:
    """Show the processes and addresses of every replica."""
    replicas = ask(run_directory(data_dir).living(), "/status")["replicas"]
    if output_format == "json":
        print(json.dumps(replicas, indent=2))
    else:
        view.console(color, talk=False).print(view.process_table(replicas))


@app.command()
def logs(
    replica: Annotated[str | None, typer.Argument(help="A replica; all without.", autocompletion=replica_names)] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=100_000, help="Last lines of each replica.")] = 50,
    data_dir: DataDir = None,
    color: Color = "auto",
) -> None:
    """Show what replicas and their services printed."""
    directory = run_directory(data_dir)
    names = directory.replica_names() if replica is None else [known_name(directory, replica)]
    paths = {name: directory.replica(name) / "log" for name in names}
    console = view.console(color, talk=False)
    for name, path in paths.items():
        for line in output.last_lines(path, lines):
            console.print(view.labelled(name, line), soft_wrap=True)
    for name, line in output.follow(paths, directory.is_held) if follow else ():
        console.print(view.labelled(name, line), soft_wrap=True)


@app.command()
def kill(
    replica: Replica,
    app_only: Annotated[bool, typer.Option("--app", help="Only the service.")] = False,
    sidecar_only: Annotated[bool, typer.Option("--sidecar", help="Only the sidecar.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Kill a replica's processes with SIGKILL; they are started again."""
    if app_only and sidecar_only:
        raise Misuse("--app and --sidecar together - command line", "give one, or none to kill both")
    what = "app" if app_only else "sidecar" if sidecar_only else "both"
    act(data_dir, replica, f"kill?what={what}")


@app.command()
def pause(replica: Replica, data_dir: DataDir = None) -> None:
    """Freeze a replica's processes with SIGSTOP."""
    act(data_dir, replica, "pause")


@app.command()
def resume(replica: Replica, data_dir: DataDir = None) -> None:
    """Let a paused replica go on."""
    act(data_dir, replica, "resume")


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Drain and end the run of this project."""
    directory = run_directory(data_dir)
    info = directory.living()
    ask(info, "/stop", "POST")
    deadline = time.monotonic() + limits.DRAIN_SECONDS_MAX + 5
    while directory.is_held():
        if time.monotonic() > deadline:
            raise NetworkRefused(f"still draining - pid {info.pid}", "stop again to end it at once")
        time.sleep(0.1)
    print("stopped", file=sys.stderr)


# --- around a run -----------------------------------------------------------------------------------------------------


@app.command()
def sidecar(
    config_file: Annotated[Path, typer.Option("--config", help="Its settings, in TOML.")],
    insecure: Annotated[bool, typer.Option("--insecure", help="Speak plaintext beyond loopback.")] = False,
) -> int:
    """Be one replica's sidecar, as in a container."""
    from quorate.ops.sidecar import main as be_sidecar

    return be_sidecar(config_file, insecure=insecure)


@app.command()
def demo(color: Color = "auto") -> int:
    """Watch three replicas lose their leader and lose nothing, in under a minute."""
    from quorate.ops.demo import Demo

    return Demo(view.console(color, talk=True)).run()


@app.command()
def init() -> None:
    """Write an annotated quorate.toml here."""
    path = Path(config.PROJECT_FILE)
    try:
        with path.open("x") as out:
            out.write(resources.files("quorate.ops").joinpath("quorate.toml").read_text())
    except FileExistsError as error:
        raise Misuse(f"exists already - {path.absolute()}", "edit it, or move it away first") from error
    print(f"wrote {path.absolute()}", file=sys.stderr)


@app.command()
def version() -> None:
    """Show the versions of quorate and Python, and the event loop in use."""
    loop = "uvloop" if util.find_spec("uvloop") else "asyncio"
    print(f"quorate {quorate.__version__}\npython {platform.python_version()}\nloop {loop}")


@config_commands.command("show")
def config_show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    file: ProjectFile = None,
) -> None:
    """Print the settings that `quorate run` would use."""
    merged = settings({}, file)
    merged.origins["data_dir"] = Sourced(str(config.data_directory(merged.run)), merged.origins["data_dir"].origin)
    for key, (value, source) in merged.origins.items():
        shown = f"{key} = {json.dumps(msgspec.to_builtins(value))}"
        print(f"{shown:<50} # {source}" if origin else shown)
