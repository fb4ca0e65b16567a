"""State drivers: how the state of a service is taken out of it, and put back.

    http        GET a path of the service for its state, PUT it there to replace it
    directory   the service's own directory, as a tar archive; put back while the service does not run
    command     one program writes the state to its standard output, another reads it from its standard input

A driver works while nothing is under way to the service, in a thread of its own, and blocks. The state is opaque bytes.
Where equal states give equal bytes, snapshots of different replicas have chunks in common; the archive sees to that by
order and metadata that are the same everywhere.

What goes wrong on the service's side is `Misbehaviour`, on the disk's OSError. A restore that failed leaves a service,
or a directory, of which nothing is known: it has to be replaced by a fresh one.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from quorate import limits
from quorate.errors import Misbehaviour
from quorate.files import fsync_directory

PIECE_BYTES = 64 * 1024


class Sink(Protocol):
    """Takes the state; raises `Misbehaviour` when it is too large."""

    def write(self, data: bytes, /) -> object:
        """Take the next piece."""
        ...


class StateDriver(Protocol):
    """How a service's state gets out and in. All calls block."""

    name: str
    """Stands in the manifest: a state is put back the way it was taken."""
    offline: bool
    """The service must not run while its state is restored."""

    def capture(self, sink: Sink) -> None:
        """Write the present state to `sink`."""
        ...

    def restore(self, size: int, pieces: Iterator[bytes]) -> None:
        """Replace the state by `size` bytes, given in pieces."""
        ...


class Deadline:
    """CAPTURE_SECONDS_MAX from now on."""

    def __init__(self) -> None:
        self._at = time.monotonic() + limits.CAPTURE_SECONDS_MAX

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._at - time.monotonic()

    def check(self) -> None:
        """Raise `Misbehaviour` if it has passed."""
        if self.left <= 0:
            raise Misbehaviour(f"the state takes longer than {limits.CAPTURE_SECONDS_MAX:g} s")

    def watch(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on pieces until it has passed."""
        for piece in pieces:
            self.check()
            yield piece


# --- http ------------------------------------------------------------------------------------------------------------


class HttpDriver:
    """GET `get` of the service at `address` is its state, PUT `put` replaces it; any 2xx to the PUT will do."""

    name = "http"
    offline = False

    def __init__(self, address: str, get: str, put: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._get, self._put = get, put

    def capture(self, sink: Sink) -> None:
        """Write the service's answer to `sink`; an answer of which it can't be told that it is whole is refused."""
        deadline = Deadline()
        with self._exchange("GET", self._get) as connection:
            connection.request("GET", self._get)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise Misbehaviour(f"GET {self._get} is answered with {response.status}")
            if not response.chunked and response.length is None:
                raise Misbehaviour(f"the answer to GET {self._get} has neither Content-Length nor chunks")
            left = limits.SNAPSHOT_BYTES_MAX + 1 if response.length is None else response.length
            while left and (piece := response.read1(min(left, PIECE_BYTES))):
                deadline.check()
                sink.write(piece)
                left -= len(piece)
            if left and not response.chunked:
                raise Misbehaviour(f"the answer to GET {self._get} broke off, {left} bytes before its end")

    def restore(self, size: int, pieces: Iterator[bytes]) -> None:
        """Send the state to the service."""
        fields = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self._exchange("PUT", self._put) as connection:
            connection.request("PUT", self._put, Deadline().watch(pieces), fields)
            response = connection.getresponse()
            response.read()
            if response.status // 100 != 2:
                raise Misbehaviour(f"PUT {self._put} is answered with {response.status}")

    @contextlib.contextmanager
    def _exchange(self, method: str, path: str) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=limits.STATE_SILENCE_SECONDS_MAX)
        try:
            connection.connect()
            yield connection
        except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
            raise Misbehaviour(f"{method} {path} of the service fails: {error!r}") from error
        finally:
            connection.close()


# --- command ---------------------------------------------------------------------------------------------------------


class CommandDriver:
    """Hooks of the operator: `capture_command` writes the state to its standard output, `restore_command` reads it.

    Both get `env`; the latter also QUORATE_SNAPSHOT_BYTES, by which it can tell an input that was cut short. Exit code
    0 means success. A hook that takes too long is killed, with whatever it started.
    """

    name = "command"
    offline = False

    def __init__(self, capture_command: Sequence[str], restore_command: Sequence[str], env: Mapping[str, str]) -> None:
        self._capture_command = list(capture_command)
        self._restore_command = list(restore_command)
        self._env = dict(env)

    def capture(self, sink: Sink) -> None:
        """Write what the hook prints to `sink`."""
        with self._running(self._capture_command, self._env, subprocess.DEVNULL, subprocess.PIPE) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(PIECE_BYTES):
                sink.write(piece)

    def restore(self, size: int, pieces: Iterator[bytes]) -> None:
        """Feed the hook."""
        env = self._env | {"QUORATE_SNAPSHOT_BYTES": str(size)}
        with self._running(self._restore_command, env, subprocess.PIPE, subprocess.DEVNULL) as process:
            assert process.stdin is not None
            try:
                with process.stdin as stdin:
                    for piece in pieces:
                        stdin.write(piece)
            except BrokenPipeError as error:
                raise Misbehaviour(f"hook {self._restore_command[0]!r} did not read all of the state") from error

    @contextlib.contextmanager
    def _running(
        self, command: list[str], env: Mapping[str, str], stdin: int, stdout: int
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a hook and see to its end, good or bad."""
        try:
            process = subprocess.Popen(command, env=env, stdin=stdin, stdout=stdout, start_new_session=True)
        except OSError as error:
            raise Misbehaviour(f"hook {command[0]!r} can't be started: {error}") from error
        alarm = threading.Timer(limits.CAPTURE_SECONDS_MAX, _kill_group, (process.pid,))
        alarm.start()
        try:
            yield process
            if process.wait() != 0:
                raise Misbehaviour(f"hook {command[0]!r} ended with {process.returncode}")
        finally:
            if process.poll() is None:
                _kill_group(process.pid)
            alarm.cancel()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


# --- directory -------------------------------------------------------------------------------------------------------


class DirectoryDriver:
    """The files, directories and inner symbolic links in `directory`, with their modes; owners and times stay out.

    The service must have written all its state to files when it answers a call, and write nothing while it has none.
    Hard links become files of their own, sockets and pipes are left out.
    """

    name = "directory"
    offline = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def capture(self, sink: Sink) -> None:
        """Write the archive. Raises `Misbehaviour` if a file changes meanwhile."""
        deadline = Deadline()
        with tarfile.open(
            fileobj=cast("IO[bytes]", _Output(sink)), mode="w|", bufsize=PIECE_BYTES, format=tarfile.PAX_FORMAT
        ) as archive:
            for path in _walk(self._directory):
                deadline.check()
                _add(archive, path, path.relative_to(self._directory).as_posix())

    def restore(self, size: int, pieces: Iterator[bytes]) -> None:
        """Make a new directory of the archive, and put it into the place of the old one."""
        fresh = self._directory.with_name(self._directory.name + ".restoring")
        old = self._directory.with_name(self._directory.name + ".replaced")
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            with _archive(pieces) as archive:
                _extract(archive, fresh)
        except tarfile.TarError as error:
            raise Misbehaviour(f"the state is no tar archive: {error}") from error
        if self._directory.exists():
            self._directory.rename(old)
        fresh.rename(self._directory)
        fsync_directory(self._directory.parent)
        shutil.rmtree(old, ignore_errors=True)


def _archive(pieces: Iterator[bytes]) -> tarfile.TarFile:
    source = cast("IO[bytes]", _Input(Deadline().watch(pieces)))
    return tarfile.open(fileobj=source, mode="r|", bufsize=PIECE_BYTES)


def _walk(directory: Path) -> Iterator[Path]:
    """Yield what is in a directory, parents first, in an order that depends on nothing but names."""
    for path in sorted(directory.iterdir(), key=lambda path: os.fsencode(path.name)):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    before = path.lstat()
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(before.st_mode)
    if stat.S_ISDIR(before.st_mode):
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    elif stat.S_ISLNK(before.st_mode):
        info.type, info.mode = tarfile.SYMTYPE, 0o777
        info.linkname = str(path.readlink())
        archive.addfile(info)
    elif stat.S_ISREG(before.st_mode):
        info.size = before.st_size
        with path.open("rb") as file:
            archive.addfile(info, file)
        after = path.lstat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Misbehaviour(f"the service writes to {name} while no call is under way")


def _extract(archive: tarfile.TarFile, root: Path) -> None:
    """Make what the archive holds; links come last, so that nothing is written through one."""
    links: list[tuple[Path, str]] = []
    directories: list[tuple[Path, int]] = [(root, stat.S_IMODE(root.stat().st_mode))]
    for member in archive:
        path = root / _safe_name(member.name)
        if member.isdir():
            path.mkdir()
            directories.append((path, member.mode))
        elif member.issym():
            links.append((path, member.linkname))
        elif member.isreg():
            source = archive.extractfile(member)
            assert source is not None
            _write(path, source, member.mode)
        else:
            raise Misbehaviour(f"the state holds {member.name!r}, which is neither file, directory nor symbolic link")
    for path, target in links:
        path.symlink_to(target)
    for path, target in links:
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            raise Misbehaviour(f"the state holds a link out of its directory, to {target!r}")
    for path, mode in reversed(directories):
        fsync_directory(path)
        path.chmod(mode & 0o7777)


def _safe_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise Misbehaviour(f"the state holds the unsafe name {name!r}")
    return path


def _write(path: Path, source: IO[bytes], mode: int) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(source, file, PIECE_BYTES)
        file.flush()
        os.fchmod(file.fileno(), mode & 0o7777)
        os.fsync(file.fileno())


class _Output:
    """A sink as the file that tarfile writes to."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        return len(data)


class _Input:
    """Pieces as the file that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
