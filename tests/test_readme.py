"""README's first block is what a newcomer types first, so it has to be right, and it has to work."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO_SECONDS_MAX = 60


def first_block() -> list[str]:
    """Return the commands of README's first code block, whether fenced or indented, without prompts and comments."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"^```\w*\n(.*?)^```$|((?:^ {4}.*\n)+)", readme, re.MULTILINE | re.DOTALL)
    assert block is not None, "README has no code block"
    lines = (line.split("#")[0].strip().removeprefix("$ ") for line in (block[1] or block[2]).splitlines())
    return [line for line in lines if line]


def test_the_first_block_is_demo_and_test() -> None:
    assert first_block() == ["make demo", "make test"]


@pytest.mark.timeout(DEMO_SECONDS_MAX * 3)
def test_the_demo_of_the_first_block_runs() -> None:
    """`make test` runs this very test, so here it is only looked up: make must know how to do it."""
    demo, test = first_block()
    done = subprocess.run(demo.split(), cwd=ROOT, capture_output=True, text=True, timeout=DEMO_SECONDS_MAX * 2)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = subprocess.run([*test.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    assert ".ci/test" in planned.stdout
    assert "pytest" in (ROOT / ".ci" / "test").read_text()
