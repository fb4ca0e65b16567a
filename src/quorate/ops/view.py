"""What people see: the banner, the table of replicas, and the replicas' lines behind coloured prefixes.

On a terminal the table stays at the bottom and the lines scroll above it; elsewhere every change of state is a line.
Symbols say what colours say. NO_COLOR is honoured, `--color always` overrules it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from quorate.ops.output import readable
from quorate.ops.rundir import RunInfo

Color = Literal["auto", "always", "never"]
Row = Mapping[str, Any]

_PREFIX_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
_STATES = {
    "ready": ("●", "green"),
    "starting": ("◔", "yellow"),
    "replaying": ("◑", "yellow"),
    "lagging": ("◑", "yellow"),
    "restarting": ("↻", "yellow"),
    "draining": ("▽", "yellow"),
    "paused": ("‖", "blue"),
    "down": ("✗", "red"),
    "silent": ("?", "red"),
    "stopped": ("■", "red"),
}
_STATUS_COLUMNS = {
    "replica": "name",
    "role": "role",
    "state": "state",
    "applied": "applied",
    "lag": "lag",
    "digest": "digest",
    "app pid": "app_pid",
    "sidecar pid": "sidecar_pid",
}
_PROCESS_COLUMNS = {
    "replica": "name",
    "state": "state",
    "sidecar pid": "sidecar_pid",
    "starts": "starts",
    "app pid": "app_pid",
    "front": "client_url",
    "admin": "admin_url",
    "app": "app_url",
}
_MEMBER_COLUMNS = {"replica": "name", "role": "role", "reached slot": "reached", "address": "address"}
_RIGHT = frozenset({"applied", "lag", "starts", "reached slot"})
_PLAIN_WIDTH = 160


def console(color: Color, *, talk: bool) -> Console:
    """A console on stderr for talk, on stdout for data."""
    stream = sys.stderr if talk else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    if color == "always":
        return Console(file=stream, force_terminal=True, no_color=False, width=width, highlight=False)
    return Console(file=stream, no_color=True if color == "never" else None, width=width, highlight=False)


def table(rows: Iterable[Row]) -> Table:
    """How replicas stand in the order; what is not known is shown as a dash."""
    return _table(rows, _STATUS_COLUMNS)


def process_table(rows: Iterable[Row]) -> Table:
    """Processes and addresses of replicas."""
    return _table(rows, _PROCESS_COLUMNS)


def member_table(rows: Iterable[Row]) -> Table:
    """Who takes part in the consensus."""
    return _table(rows, _MEMBER_COLUMNS)


def labelled(name: str, line: bytes) -> Text:
    """One line of a replica behind its prefix; the service's own colours are kept, other control codes are not."""
    number = int(name[1:]) if name[1:].isdecimal() else 0
    style = _PREFIX_STYLES[(number - 1) % len(_PREFIX_STYLES)]
    return Text.assemble((f"{name} | ", style), Text.from_ansi(readable(line)))


class Display:
    """What one run shows while it goes on. A context manager: the table lives inside it."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if live else None
        self._known: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()

    def banner(self, info: RunInfo, rows: Iterable[Row]) -> None:
        """Where to reach the run and its replicas."""
        self._print(Text.assemble(("quorate ", "bold"), info.cluster))
        self._print(Text.assemble("  service  ", (info.url, "bold"), "  (any ready replica)"))
        self._print(Text.assemble("  admin    ", (info.admin_url, "bold"), "/status"))
        for row in rows:
            self._print(
                Text(f"  {row['name']}       {row['client_url']}  admin {row['admin_url']}  app {row['app_url']}")
            )
        self._print(Text("  Ctrl-C to drain; twice to stop at once", style="dim"))

    def line(self, name: str, line: bytes) -> None:
        """A line that a replica printed."""
        self._print(labelled(name, line))

    def note(self, text: str) -> None:
        """A line of the supervisor's own."""
        self._print(Text(f"-- | {text}", style="bold"))

    def update(self, rows: Sequence[Row]) -> None:
        """Show how the replicas are now."""
        if self._live is not None:
            self._live.update(table(rows), refresh=True)
            return
        for row in rows:
            now = f"{row['state']}, {row['role']}" if row["role"] else str(row["state"])
            if self._known.get(row["name"]) != now:
                self._known[row["name"]] = now
                self.note(f"{row['name']} {now}, applied {row['applied']}" if row["role"] else f"{row['name']} {now}")

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def _table(rows: Iterable[Row], columns: Mapping[str, str]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for title in columns:
        shown.add_column(title, justify="right" if title in _RIGHT else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(_cell(row, key) for key in columns.values()))
    return shown


def _cell(row: Row, key: str) -> Text:
    value = row.get(key)
    if value is None:
        return Text("-", style="dim")
    if key == "state":
        symbol, style = _STATES.get(str(value), ("·", ""))
        return Text(f"{symbol} {value}", style=style)
    if key == "role":
        return Text(f"★ {value}", style="bold") if value == "leader" else Text(f"  {value}")
    return Text(str(value)[:12] if key == "digest" else str(value))
