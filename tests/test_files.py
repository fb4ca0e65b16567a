"""A file is replaced whole, or stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorate.files import replace_file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(b"long and old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["facts.json"]


def test_what_a_crash_left_of_a_draft_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    (tmp_path / "facts.json.new").write_bytes(b"half of something longer")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(b"old")
    (tmp_path / "facts.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_permissions_are_those_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.with_name("secret.new").touch(mode=0o644)
    replace_file(path, b"key", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
