"""`quorate tls`: certificates that a mesh takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from quorate.transport.tls import Credentials, TlsFiles


def tls(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quorate", "tls", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_a_set_is_made_grows_and_is_renewed(tmp_path: Path) -> None:
    made = tls(tmp_path, "init", "bank", "--replicas", "2", "--host", "bank.example")
    assert made.returncode == 0, made.stderr
    assert [Path(line).name for line in made.stdout.split()] == ["ca.pem", "r1.pem", "r2.pem", "admin.pem"]
    assert tls(tmp_path, "add", "3").stdout.split() == ["tls/r3.pem"]
    before = (tmp_path / "tls" / "r3.pem").read_bytes()
    assert "tls/r3.pem" in tls(tmp_path, "renew").stdout.split()
    assert (tmp_path / "tls" / "r3.pem").read_bytes() != before
    for name in ("r1", "r2", "r3", "admin"):
        Credentials(TlsFiles.of(tmp_path / "tls", name))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert tls(tmp_path, "init", "bank").returncode == 0
    again = tls(tmp_path, "init", "bank")
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
    assert len(again.stderr.splitlines()) == 1


def test_without_an_authority_there_is_nothing_to_add_to(tmp_path: Path) -> None:
    refused = tls(tmp_path, "add", "4")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
