"""Tables, prefixes and notes, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from quorate.ops import view
from quorate.ops.rundir import RunInfo

READY = {
    "name": "r1",
    "role": "leader",
    "state": "ready",
    "applied": 12,
    "lag": 0,
    "digest": "abcdef0123456789",
    "starts": 1,
}
READY |= {"app_pid": 11, "sidecar_pid": 10, "client_url": "http://c", "admin_url": "http://a", "app_url": "http://s"}
DOWN = READY | {"name": "r2", "role": None, "state": "restarting", "applied": None, "digest": None, "app_pid": None}


def shown(*things: object, color: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=160, force_terminal=color, color_system="standard" if color else None).print(*things)
    return out.getvalue()


def test_a_table_says_in_symbols_what_it_says_in_colours() -> None:
    header, first, second = shown(view.table([READY, DOWN])).splitlines()
    assert " ".join(header.split()) == "replica role state applied lag digest app pid sidecar pid"
    assert first.split() == ["r1", "★", "leader", "●", "ready", "12", "0", "abcdef012345", "11", "10"]
    assert second.split() == ["r2", "-", "↻", "restarting", "-", "0", "-", "-", "10"]


def test_processes_have_addresses() -> None:
    assert "http://c" in shown(view.process_table([READY]))


def test_members_have_roles() -> None:
    members = [
        {"name": "r1", "role": "voter", "reached": 12, "address": "127.0.0.1:7101"},
        {"name": "r4", "role": "learner", "reached": 0, "address": None},
    ]
    header, *rows = shown(view.member_table(members)).splitlines()
    assert header.split() == ["replica", "role", "reached", "slot", "address"]
    assert [row.split() for row in rows] == [["r1", "voter", "12", "127.0.0.1:7101"], ["r4", "learner", "0", "-"]]


def test_a_line_keeps_its_colours_and_loses_other_control_codes() -> None:
    line = b"\x1b[31mred\x1b[0m \x07\x1b[2J[bold]not markup[/]"
    assert shown(view.labelled("r2", line)) == "r2 | red [bold]not markup[/]\n"
    assert "\x1b[31mred" in shown(view.labelled("r2", line), color=True)


@pytest.mark.parametrize(("color", "coloured"), [("always", True), ("never", False), ("auto", False)])
def test_colours_by_choice(color: view.Color, coloured: bool, capsys: pytest.CaptureFixture[str]) -> None:
    view.console(color, talk=True).print(view.labelled("r1", b"x"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("\x1b[" in captured.err) == coloured


def test_no_color_is_honoured_and_overruled_by_always(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    view.console("auto", talk=False).print(view.labelled("r1", b"x"))
    assert "\x1b[36m" not in capsys.readouterr().out
    view.console("always", talk=False).print(view.labelled("r1", b"x"))
    assert "\x1b[36m" in capsys.readouterr().out


def test_off_a_terminal_changes_are_lines_and_repetitions_are_not() -> None:
    out = io.StringIO()
    with view.Display(Console(file=out, width=160), live=False) as display:
        display.banner(RunInfo(1, "c", "http://front", "http://admin"), [READY])
        display.update([READY, DOWN])
        display.update([READY | {"applied": 13}, DOWN])
        display.update([READY | {"role": "follower"}, DOWN])
        display.line("r1", b"hello")
    banner, _, rest = out.getvalue().partition("Ctrl-C to drain")
    assert "http://front" in banner
    assert "http://admin/status" in banner
    assert rest.splitlines()[1:] == [
        "-- | r1 ready, leader, applied 12",
        "-- | r2 restarting",
        "-- | r1 ready, follower, applied 12",
        "r1 | hello",
    ]


def test_on_a_terminal_the_table_stays_below_the_lines() -> None:
    out = io.StringIO()
    with view.Display(Console(file=out, width=160, force_terminal=True), live=True) as display:
        display.update([READY])
        display.line("r1", b"hello")
    assert out.getvalue().count("leader") >= 2, "drawn again below the line"
