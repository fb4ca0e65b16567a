"""State drivers: real services, programs and directories give their state, and get it back."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from tests.apps.service import running
from tests.replica.parts import Request, TinyService, free_address, hang, hang_up, http, raw

from quorate import limits
from quorate.errors import Misbehaviour
from quorate.replica.drivers import CommandDriver, DirectoryDriver, HttpDriver, StateDriver

STATE = random.Random(1).randbytes(300_000)


class Taken:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def captured(driver: StateDriver) -> bytes:
    sink = Taken()
    driver.capture(sink)
    return sink.data


def restore(driver: StateDriver, data: bytes, piece: int = 50_000) -> None:
    driver.restore(len(data), (data[start : start + piece] for start in range(0, len(data), piece)))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAPTURE_SECONDS_MAX", 0.2)
    monkeypatch.setattr(limits, "STATE_SILENCE_SECONDS_MAX", 0.2)


# --- http ------------------------------------------------------------------------------------------------------------


def test_a_real_service_gives_its_state_and_gets_it_back() -> None:
    with running("log") as one, running("log") as other:
        for number in range(50):
            one.ask("POST", "/insert", b"line %d" % number)
        state = captured(HttpDriver(f"127.0.0.1:{one.port}", "/snapshot", "/snapshot"))
        restore(HttpDriver(f"127.0.0.1:{other.port}", "/snapshot", "/snapshot"), state)
        assert other.ask("GET", "/snapshot").body == one.ask("GET", "/snapshot").body == state


async def test_a_large_state_goes_both_ways(service: TinyService) -> None:
    driver = HttpDriver(service.address, "/state", "/put")
    service.answer = raw(http(STATE))
    assert await asyncio.to_thread(captured, driver) == STATE
    service.answer = raw(http(b"", 204))
    await asyncio.to_thread(restore, driver, STATE)
    assert [(one.line, one.body) for one in service.got] == [("GET /state HTTP/1.1", b""), ("PUT /put HTTP/1.1", STATE)]


async def test_an_answer_in_chunks_is_taken(service: TinyService) -> None:
    service.answer = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert await asyncio.to_thread(captured, HttpDriver(service.address, "/", "/")) == b"abcde"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (raw(http(b"", 500)), "answered with 500"),
        (raw(http(b"", 204)), "answered with 204"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstate", close=True), "broke off, 4 bytes before its end"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nstate", close=True), "IncompleteRead"),
        (raw(b"HTTP/1.1 200 OK\r\n\r\nstate", close=True), "neither Content-Length nor chunks"),
        (raw(b"nonsense\r\n\r\n", close=True), "fails"),
        (hang_up, "fails"),
        (hang, "fails"),
    ],
)
async def test_a_bad_answer_is_no_state(service: TinyService, answer: object, why: str, hasty: None) -> None:
    service.answer = answer  # type: ignore[assignment]
    with pytest.raises(Misbehaviour, match=why):
        await asyncio.to_thread(captured, HttpDriver(service.address, "/", "/"))


async def test_an_answer_that_drips_is_given_up(service: TinyService, hasty: None) -> None:
    async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)

    service.answer = drip
    with pytest.raises(Misbehaviour, match=r"longer than 0.2 s"):
        await asyncio.to_thread(captured, HttpDriver(service.address, "/", "/"))


@pytest.mark.parametrize("answer", [raw(http(b"", 422)), hang_up, hang])
async def test_a_service_that_does_not_take_its_state_is_told_of(
    service: TinyService, answer: object, hasty: None
) -> None:
    service.answer = answer  # type: ignore[assignment]
    with pytest.raises(Misbehaviour, match="PUT /"):
        await asyncio.to_thread(restore, HttpDriver(service.address, "/", "/"), STATE)


def test_a_service_that_does_not_listen_has_no_state() -> None:
    with pytest.raises(Misbehaviour, match="refused"):
        captured(HttpDriver(free_address(), "/", "/"))


# --- command ---------------------------------------------------------------------------------------------------------

READ = "import os, shutil, sys; shutil.copyfileobj(open(os.environ['KEPT'], 'rb'), sys.stdout.buffer)"
WRITE = """
import os, sys
data = sys.stdin.buffer.read()
if len(data) != int(os.environ["QUORATE_SNAPSHOT_BYTES"]):
    sys.exit("cut short")
open(os.environ["KEPT"], "wb").write(data)
print("restored " * 100_000)
"""
TAKES_LONG = "import sys, time; sys.stdout.write('some'); sys.stdout.flush(); time.sleep(1000)"


def hooks(capture: str, restore: str, kept: Path) -> CommandDriver:
    env = {**os.environ, "KEPT": str(kept)}
    return CommandDriver((sys.executable, "-c", capture), (sys.executable, "-c", restore), env)


def test_hooks_give_and_take_the_state(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(STATE)
    driver = hooks(READ, WRITE, kept)
    state = captured(driver)
    kept.unlink()
    restore(driver, state)
    assert kept.read_bytes() == state == STATE


def test_a_hook_can_tell_that_its_input_was_cut_short(tmp_path: Path) -> None:
    with pytest.raises(Misbehaviour, match="ended with 1"):
        hooks(READ, WRITE, tmp_path / "kept").restore(10, iter([b"short"]))
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [("print('half'); raise SystemExit(3)", "ended with 3"), (TAKES_LONG, "ended with -9")],
)
def test_a_hook_that_fails_gives_no_state(tmp_path: Path, code: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAPTURE_SECONDS_MAX", 0.5)
    with pytest.raises(Misbehaviour, match=why):
        captured(hooks(code, WRITE, tmp_path))


def test_a_hook_that_does_not_read_has_failed(tmp_path: Path) -> None:
    with pytest.raises(Misbehaviour, match="did not read all"):
        restore(hooks(READ, "pass", tmp_path), STATE * 10)


def test_a_hook_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(Misbehaviour, match="can't be started"):
        captured(CommandDriver((str(tmp_path / "none"),), (), {}))


# --- directory -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "state"
    place.mkdir()
    return place


def fill(place: Path, order: int = 1) -> None:
    """Make a directory of all kinds of things; `order` is the one in which they are made."""
    (place / "deep" / "er").mkdir(parents=True)
    names = ["a", "b\n", "deep/er/ü" + "x" * 120, "deep/z", "empty", ".hidden"][::order]
    for name in names:
        (place / name).write_bytes(b"" if name == "empty" else name.encode() * 9000)
    (place / "a").chmod(0o750)
    (place / "link").symlink_to("deep/z")
    (place / "deep" / "up").symlink_to("../a")


def described(place: Path) -> dict[str, tuple[object, bytes | None]]:
    return {
        path.relative_to(place).as_posix(): (
            str(path.readlink()) if path.is_symlink() else stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() and not path.is_symlink() else None,
        )
        for path in place.rglob("*")
    }


def test_a_directory_is_taken_and_put_back(place: Path) -> None:
    fill(place)
    driver = DirectoryDriver(place)
    before, state = described(place), captured(driver)
    (place / "a").unlink()
    (place / "later").write_text("half a write")
    restore(driver, state)
    assert described(place) == before
    assert [path.name for path in place.parent.iterdir()] == ["state"]


def test_equal_directories_give_equal_bytes(tmp_path: Path) -> None:
    """Whoever made them, when, and in which order."""
    states = []
    for order in (1, -1):
        place = tmp_path / str(order)
        place.mkdir()
        fill(place, order)
        os.utime(place / "a", (order + 5, order + 5))
        states.append(captured(DirectoryDriver(place)))
    assert states[0] == states[1]


def test_a_restore_needs_no_directory_before_it(place: Path) -> None:
    fill(place)
    state = captured(DirectoryDriver(place))
    other = place.parent / "elsewhere" / "state"
    restore(DirectoryDriver(other), state)
    assert described(other) == described(place)


def test_hard_links_become_files_and_sockets_stay_out(place: Path) -> None:
    (place / "one").write_bytes(b"same")
    (place / "two").hardlink_to(place / "one")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "socket"))
        state = captured(DirectoryDriver(place))
    restore(DirectoryDriver(place), state)
    assert {name: data for name, (_, data) in described(place).items()} == {"one": b"same", "two": b"same"}
    assert (place / "one").stat().st_nlink == 1


def test_a_file_that_changes_meanwhile_is_no_state(place: Path) -> None:
    (place / "log").write_bytes(STATE)

    class Disturbing(Taken):
        def write(self, data: bytes) -> None:
            with (place / "log").open("ab") as file:
                file.write(b"more")

    with pytest.raises(Misbehaviour, match="writes to log"):
        DirectoryDriver(place).capture(Disturbing())


def test_a_capture_takes_only_so_long(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(place)
    monkeypatch.setattr(limits, "CAPTURE_SECONDS_MAX", 1e-9)
    with pytest.raises(Misbehaviour, match="longer than"):
        captured(DirectoryDriver(place))


def archive(*members: tarfile.TarInfo) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for member in members:
            made.addfile(member, BytesIO(b"x" * member.size))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


HOSTILE: dict[str, Callable[[], bytes]] = {
    "absolute": lambda: archive(member("/etc/passwd")),
    "parent": lambda: archive(member("../beside")),
    "inner parent": lambda: archive(member("a", tarfile.DIRTYPE), member("a/../../beside")),
    "no name": lambda: archive(member(".")),
    "link out": lambda: archive(member("out", tarfile.SYMTYPE, "../beside")),
    "absolute link": lambda: archive(member("out", tarfile.SYMTYPE, "/etc/passwd")),
    "links in a row": lambda: archive(
        member("d", tarfile.DIRTYPE), member("x", tarfile.SYMTYPE, "y/../../beside"), member("y", tarfile.SYMTYPE, "d")
    ),
    "hard link": lambda: archive(member("a"), member("b", tarfile.LNKTYPE, "a")),
    "device": lambda: archive(member("null", tarfile.CHRTYPE)),
    "pipe": lambda: archive(member("pipe", tarfile.FIFOTYPE)),
    "no archive": lambda: b"nonsense" * 1000,
    "cut": lambda: archive(member("a", size=100_000))[:60_000],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_unsafe_archive_changes_nothing(place: Path, name: str) -> None:
    fill(place)
    before = described(place)
    with pytest.raises(Misbehaviour):
        restore(DirectoryDriver(place), HOSTILE[name]())
    assert described(place) == before
    assert not (place.parent / "beside").exists()


@pytest.mark.parametrize("second", [member("a"), member("a/b"), member("a", tarfile.DIRTYPE)])
def test_a_name_that_comes_twice_changes_nothing(place: Path, second: tarfile.TarInfo) -> None:
    fill(place)
    before = described(place)
    with pytest.raises(OSError, match="a"):
        restore(DirectoryDriver(place), archive(member("a"), second))
    assert described(place) == before


def test_nothing_is_written_through_a_link(place: Path) -> None:
    """A link is made after everything else, so what lies behind its name is not there yet."""
    state = archive(member("d", tarfile.DIRTYPE), member("l", tarfile.SYMTYPE, "d"), member("l/file"))
    with pytest.raises(OSError, match="l/file"):
        restore(DirectoryDriver(place), state)


def test_what_an_interrupted_restore_left_is_in_nobodys_way(place: Path) -> None:
    fill(place)
    driver = DirectoryDriver(place)
    before, state = described(place), captured(driver)

    def stops_half_way() -> Iterator[bytes]:
        yield state[:100_000]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        driver.restore(len(state), stops_half_way())
    assert described(place) == before
    restore(driver, state)
    assert described(place) == before
    assert [path.name for path in place.parent.iterdir()] == ["state"]
