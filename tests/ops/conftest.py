"""A home of its own for every test, the command line as a function, and real runs that are ended with the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.ops.running import SERVICE, Running

from quorate.config import child_environment
from quorate.ops import cli


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Quorate = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No setting and no run of the machine's user is seen; the working directory is `project`."""
    for name in child_environment({}):
        if name.startswith("QUORATE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return tmp_path


@pytest.fixture
def quorate(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Quorate:
    """Run one command line in this process."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["quorate", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def run(*options: str, command: Sequence[str] = SERVICE) -> Running:
        started.append(Running(tmp_path, *options, command=command))
        return started[-1]

    yield run
    for running in started:
        running.kill()
