"""Lines of replicas: cut, kept, followed, made readable; all of it bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate import limits
from quorate.ops.output import LineSplitter, LogFile, follow, last_lines, readable


def split(*pieces: bytes) -> list[bytes]:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    for piece in pieces:
        splitter.data_received(piece)
    return lines


def test_lines_are_whole_however_they_arrive() -> None:
    assert split(b"one\ntw", b"o\n\nthr") == [b"one", b"two", b""]


def test_last_words_need_no_end() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    splitter.data_received(b"one\nlast")
    splitter.eof_received()
    assert lines == [b"one", b"last"]
    assert splitter.ended.is_set()


@given(st.lists(st.binary(max_size=20)), st.data())
def test_cuts_do_not_matter(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    cut = data.draw(st.integers(0, len(whole)))
    assert split(whole[:cut], whole[cut:]) == split(whole)


def test_an_endless_line_is_cut_rather_than_kept() -> None:
    bound = limits.LOG_LINE_BYTES_MAX
    assert [len(line) for line in split(b"x" * bound, b"x" * bound, b"x" * 5 + b"\n")] == [bound, bound, 5]
    assert [len(line) for line in split(b"x" * (bound + 1) + b"\n")] == [bound, 1]


def test_a_full_log_becomes_the_one_old_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_FILE_BYTES_MAX", 30)
    log = LogFile(tmp_path / "log")
    for number in range(10):
        log.write(b"line %d" % number)
    log.close()
    assert (tmp_path / "log.1").read_bytes() == b"line 5\nline 6\nline 7\nline 8\nline 9\n"
    assert (tmp_path / "log").read_bytes() == b""


def test_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\nthree\n")
    assert last_lines(tmp_path / "log", 2) == [b"two", b"three"]
    assert last_lines(tmp_path / "log", 0) == []
    assert last_lines(tmp_path / "none", 2) == []


def test_follow_yields_what_is_appended_also_after_the_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old line\n")
    steps = iter([b"new\nhal", b"f\n", None])

    def alive() -> bool:
        step = next(steps, b"")
        if step is None:
            path.write_bytes(b"afresh\n")
        elif step:
            path.write_bytes(path.read_bytes() + step)
        return step != b""

    assert list(follow({"r1": path}, alive)) == [("r1", b"new"), ("r1", b"half"), ("r1", b"afresh")]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain", "plain"),
        (b"caf\xc3\xa9 \xff", "café �"),
        (b"{not json", "{not json"),
        (b'{"a": 1}', '{"a": 1}'),
        (b"[1]", "[1]"),
        (
            b'{"event": "state", "level": "warning", "timestamp": "2026-01-02T03:04:05Z", "replica": "r1", "lag": 7}',
            "03:04:05 warning state lag=7",
        ),
        (b'{"event": "hello"}', "info    hello"),
    ],
)
def test_sidecar_lines_are_made_readable_and_others_left_alone(line: bytes, shown: str) -> None:
    assert readable(line) == shown
