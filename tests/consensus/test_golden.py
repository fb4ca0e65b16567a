"""Golden conversations: scripts beside the transcript of everything their members said, stored and delivered.

A script is read like a story, and a change of a core is reviewed as the difference it makes there (the interaction
tests of etcd-io/raft are the model). Lines of verbs (see `script`) end with `----`, then comes what they led to, then
an empty line. With REWRITE_GOLDEN=1 in the environment the transcripts are written anew: read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.consensus.script import Player

from quorate import registry

GOLDEN = Path(__file__).parent / "golden"
SCRIPTS = sorted(GOLDEN.glob("*/*.txt"))
RULE = "----"


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def replay(script: str, player: Player) -> Iterator[str]:
    """Yield the lines of a script with the transcript that its verbs have now."""
    told: list[str] = []
    in_transcript = False
    for line in script.splitlines():
        if line == RULE:
            yield from (line, *told)
            told, in_transcript = [], True
        elif not line:
            in_transcript = False
        if line == RULE or (line and in_transcript):
            continue
        yield line
        if line and not line.startswith("#"):
            told += player.play(line)
    assert not told, "the last verbs have no transcript"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_the_conversation_goes_as_written(path: Path) -> None:
    written = path.read_text()
    lines = replay(written, Player(registry.resolve(registry.CORES, path.parent.name)))
    now = "".join(f"{line}\n" for line in lines)
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(now)
    else:
        assert now == written


@pytest.mark.parametrize("core", sorted(registry.CORES))
def test_every_core_has_its_conversations(core: str) -> None:
    assert len(list((GOLDEN / core).glob("*.txt"))) >= 6


def test_a_difference_is_seen() -> None:
    script = "group 1\ntick r1 12\n----\nr1 says nothing\n\nstatus\n----\n"
    core = registry.resolve(registry.CORES, sorted(registry.CORES)[0])
    now = "\n".join(replay(script, Player(core)))
    assert "r1 says nothing" not in now
    assert "r1: leader" in now
