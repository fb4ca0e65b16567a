"""The demo holds what it claims, and says so by its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from quorate.ops.demo import counter_command


def test_the_demo_tells_its_story_and_exits_0() -> None:
    done = subprocess.run([sys.executable, "-m", "quorate", "demo"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "✗" not in done.stderr
    for claim in ("kill -9: the leader's sidecar", "the three values are equal", "none was lost, none done twice"):
        assert claim in done.stderr


def test_the_counter_is_found() -> None:
    program, app = counter_command()
    assert Path(program).exists()
    assert Path(app).read_text().count("/integer")
