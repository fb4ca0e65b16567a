"""What the verbs of the command line share: options, and the way to the run they speak of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from quorate import config, limits
from quorate.errors import Misuse
from quorate.ops import client
from quorate.ops.rundir import RunDirectory, RunInfo
from quorate.strict_toml import defaults

_DEFAULTS = defaults(config.RunConfig())


def setting(key: str, text: str, panel: str, *names: str) -> Any:
    """An option that is also a setting: its help names the variable and the default."""
    shown = _DEFAULTS[key].value or "by project"
    return typer.Option(
        *names, help=f"{text} (env {config.variable(key)}, default {shown})", rich_help_panel=panel, show_default=False
    )


def replica_names(incomplete: str) -> list[str]:
    """Names of the replicas of this project's run, for completion in the shell."""
    names = run_directory(None).replica_names()
    return [name for name in names if name.startswith(incomplete)]


DataDir = Annotated[Path | None, setting("data_dir", "Where the run keeps its log.", "Storage", "--data-dir")]
ProjectFile = Annotated[Path | None, typer.Option("-f", "--file", help="Project file.", show_default="quorate.toml")]
Color = Annotated[Literal["auto", "always", "never"], typer.Option(help="Colours; NO_COLOR is honoured by auto.")]
Replica = Annotated[str, typer.Argument(help="A replica, as in r1.", autocompletion=replica_names)]
Format = Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="How to print.")]


def settings(flags: dict[str, Any], file: Path | None) -> config.Settings:
    """Merge all layers, and print what they warn of. Raises ConfigRefused."""
    merged = config.load_run(flags, file)
    for warning in merged.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return merged


def run_directory(data_dir: Path | None) -> RunDirectory:
    """The directory of the run that is meant: as given, or this project's."""
    if data_dir is None:
        return RunDirectory(config.data_directory(config.load_run({}).run))
    return RunDirectory(data_dir.absolute())


def ask(
    info: RunInfo, path: str, method: str = "GET", seconds: float = 2 * limits.STATUS_SECONDS_MAX + 1
) -> dict[str, Any]:
    """Ask the supervisor of a living run. Raises as `client.ask` does."""
    return client.ask(info.admin_url + path, method, seconds)


def known_name(directory: RunDirectory, name: str) -> str:
    """A replica's name, checked. Raises Misuse."""
    names = directory.replica_names()
    if name in names:
        return name
    raise Misuse(f"no replica {name} - {directory.path}", f"known are {', '.join(names) or 'none yet'}")


def act(data_dir: Path | None, replica: str, verb: str) -> None:
    """Have the supervisor act on one replica, and print what it did."""
    directory = run_directory(data_dir)
    info = directory.living()
    answer = ask(info, f"/replicas/{known_name(directory, replica)}/{verb}", "POST")
    print(f"{answer['name']}: {answer['done']}", file=sys.stderr)
