"""Jolie programs, in Jolie's own interpreter behind the walls that this machine permits.

The interpreter is the one from Maven Central. The services around it (console, files, JSON) are in no registry, so
`jolie/` has a little one of ours for standard input and output.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat import limits
from chat.scripts import jolie
from chat.scripts.jolie import Jolie

HERE = Path(__file__).parent / "jolie"
OUTGOING: dict[str, Any] = {"messageBody": "hello", "ownID": 1, "recipientIDs": [2]}
INCOMING: dict[str, Any] = {**OUTGOING, "ownID": 2, "senderID": 1}


def program(behaviour: str) -> str:
    return (
        f"from streams import Streams\nservice Main {{\n  embed Streams as Streams\n  main {{\n{behaviour}\n  }}\n}}\n"
    )


ECHO = program("""    read@Streams()(message)
    write@Streams({ messageBody = message.messageBody + "!" })()""")
SPIN = program("    while( true ) { nullProcess }")
FLOOD = program('    while( true ) { write@Streams({ messageBody = "hm" })() }')


@pytest.fixture(scope="session")
def distribution() -> Iterator[Path]:
    """A directory with a `jolie` command, which nobody can read as well."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        get = [
            "mvn",
            "-q",
            "-B",
            "-f",
            HERE / "pom.xml",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={home}/lib",
        ]
        subprocess.run(get, check=True)
        subprocess.run(["javac", "-cp", f"{home}/lib/*", "-d", home / "classes", HERE / "Streams.java"], check=True)
        (home / "packages").mkdir()
        shutil.copy(HERE / "streams.ol", home / "packages")
        shutil.copy(HERE / "jolie", home)
        (home / "jolie").chmod(0o755)
        yield home


@pytest.fixture
def found(distribution: Path, monkeypatch: pytest.MonkeyPatch) -> Jolie:
    monkeypatch.setenv("PATH", str(distribution), prepend=":")
    found = jolie.found(insecure=False)
    assert found is not None
    return found


async def test_a_program_reads_a_message_and_prints_what_becomes_of_it(found: Jolie) -> None:
    verdict = await found.run(ECHO, "outgoing", OUTGOING)
    assert verdict.result == {"messageBody": "hello!"}, verdict


async def test_a_program_drops_and_answers(found: Jolie) -> None:
    behaviour = """
    read@Streams()(message)
    result.action = "drop"
    result.reply._[0] << { to = message.senderID, message = "Not now." }
    write@Streams( result )()"""
    verdict = await found.run(program(behaviour), "incoming", INCOMING)
    assert verdict.result == {"action": "drop", "reply": [{"to": 1, "message": "Not now."}]}, verdict


async def test_a_source_that_is_no_program_is_refused_with_its_line(found: Jolie) -> None:
    assert await found.check(ECHO) is None
    error = await found.check(program("    write@@Streams()()"))
    assert error is not None
    assert (error.code, error.line) == ("syntax", 5)
    nul = await found.check("main {\n\0}")
    assert nul is not None
    assert (nul.code, nul.line) == ("nul", 2)


async def test_a_fault_is_told(found: Jolie) -> None:
    verdict = await found.run(program("    throw( Oops )"), "outgoing", OUTGOING)
    assert (verdict.error, verdict.result) == ("script_error", None)
    assert "Oops" in verdict.detail


async def test_a_program_that_does_not_end_or_floods_is_stopped(found: Jolie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOLIE_SECONDS_MAX", 5)
    assert (await found.run(SPIN, "outgoing", OUTGOING)).error == "fuel_exhausted"
    assert (await found.run(FLOOD, "outgoing", OUTGOING)).error == "output_limit"


@pytest.fixture
def lookout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jolie]:
    """What a program could reach is what any command could, so a shell script looks around in Jolie's place."""
    looks = "grep -c : /proc/net/dev; ls -d /proc/[0-9]* | wc -l; id -u; env | grep -c CHAT_; touch here 2>&1"
    with tempfile.TemporaryDirectory() as name:
        command = Path(name) / "jolie"
        command.write_text(f"#!/bin/sh\n{{ {looks}; }} >&2; exit 1\n")
        for path in (command, command.parent):
            path.chmod(0o755)
        monkeypatch.setenv("PATH", name, prepend=":")
        monkeypatch.setenv("CHAT_TOKEN_SECRET", "not to be seen")
        found = jolie.found(insecure=False)
        assert found is not None
        yield found


async def test_a_program_sees_no_network_no_other_process_and_no_secret(lookout: Jolie) -> None:
    seen = (await lookout.run("", "outgoing", OUTGOING)).detail
    interfaces, processes, user, secrets, touched, *_ = seen.split("\n")
    assert int(interfaces) == 1, "the loopback alone"
    assert int(processes) < 8
    assert int(user) != 0
    assert int(secrets) == 0
    assert "Permission denied" in touched


def test_without_the_command_there_is_no_jolie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jolie.found(insecure=True) is None
