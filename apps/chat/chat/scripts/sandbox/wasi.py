"""What an interpreter may ask of its host: WASI preview 1 without files, network, clock, randomness or waiting.

The clock stands still at the task's time, random bytes come from the task's seed, stdout is kept, and the task and its
answer go through `host_call` (Python) or the descriptors 0 and 3 (Lua). Asking for anything else ends the run.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from wasmtime import FuncType, Memory

from chat.scripts.sandbox.limits import HOST_CALLS_MAX, OUTPUT_BYTES_MAX, RESULT_BYTES_MAX, WRITE_BYTES_MIN

if TYPE_CHECKING:
    from wasmtime import Caller, Linker, Module

    from chat.scripts.sandbox.tasks import ErrorKind

_SUCCESS, _BAD_DESCRIPTOR, _NO_ENTRY = 0, 8, 44
_CHARACTER_DEVICE = 2
_STDIN, _STDOUT, _STDERR, _ANSWER = range(4)
_VECTORS_MAX = 64
_ALL_RIGHTS = 2**64 - 1
_FORBIDDEN = {"path_open": "opening a file"}
_SUBSCRIPTION_BYTES = 48


class StoppedError(Exception):
    """Ends a run from inside a host call: no program can catch it."""

    def __init__(self, kind: ErrorKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class ExitedError(Exception):
    """The interpreter ended itself, with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Host:
    """The host of one run: `request` goes in; `answer`, `output` and `complaints` (stderr) come out."""

    def __init__(self, arguments: tuple[str, ...], request: bytes, now_ms: int, seed: bytes) -> None:
        self.answer: bytearray = bytearray()
        self.output = bytearray()
        self.complaints = bytearray()
        self._arguments = [argument.encode() + b"\0" for argument in arguments]
        self._request = request
        self._unread = request
        self._now = now_ms * 1_000_000
        self._random = _stream(seed)
        self._calls = 0
        self._room = OUTPUT_BYTES_MAX

    def define(self, linker: Linker, module: Module) -> None:
        """Give `linker` each import of `module`: ours where there is one, else one that ends the run."""
        # Go imports some functions twice.
        linker.allow_shadowing = True
        for wanted in module.imports:
            name, kind = str(wanted.name), wanted.type
            assert isinstance(kind, FuncType), "an interpreter imports functions only"
            linker.define_func(wanted.module, name, kind, self._guarded(name), access_caller=True)

    def _guarded(self, name: str) -> Callable[..., int | None]:
        operation = getattr(type(self), f"do_{name}", None)

        def call(caller: Caller, *arguments: int) -> int | None:
            if name != "fd_write":
                self._count()
            if operation is None:
                raise StoppedError("forbidden", f"{_FORBIDDEN.get(name, name)} is not possible here")
            return cast("int | None", operation(self, _Guest(caller), *arguments))

        return call

    def _count(self) -> None:
        self._calls += 1
        if self._calls > HOST_CALLS_MAX:
            raise StoppedError("forbidden", f"more than {HOST_CALLS_MAX} calls of the host")

    def do_args_sizes_get(self, guest: _Guest, count: int, size: int) -> int:
        """Tell how many arguments there are, and their bytes."""
        guest.put(count, struct.pack("<I", len(self._arguments)))
        guest.put(size, struct.pack("<I", sum(map(len, self._arguments))))
        return _SUCCESS

    def do_args_get(self, guest: _Guest, pointers: int, at: int) -> int:
        """Write the arguments at `at`, and where each begins at `pointers`."""
        for argument in self._arguments:
            guest.put(pointers, struct.pack("<I", at))
            guest.put(at, argument)
            pointers += 4
            at += len(argument)
        return _SUCCESS

    def do_environ_sizes_get(self, guest: _Guest, count: int, size: int) -> int:
        """Tell that there is no environment."""
        guest.put(count, bytes(4))
        guest.put(size, bytes(4))
        return _SUCCESS

    def do_environ_get(self, guest: _Guest, pointers: int, at: int) -> int:
        """Write no environment."""
        return _SUCCESS

    def do_clock_time_get(self, guest: _Guest, clock: int, precision: int, at: int) -> int:
        """Tell the task's time, whichever clock is asked for."""
        guest.put(at, struct.pack("<Q", self._now))
        return _SUCCESS

    def do_random_get(self, guest: _Guest, at: int, size: int) -> int:
        """Give the next bytes of the task's randomness."""
        if not 0 <= size <= 4096:
            raise StoppedError("forbidden", "more than 4096 random bytes at once")
        guest.put(at, self._random(size))
        return _SUCCESS

    def do_fd_write(self, guest: _Guest, descriptor: int, vectors: int, count: int, written: int) -> int:
        """Keep what is written to stdout, stderr and the answer's descriptor."""
        target = {_STDOUT: self.output, _STDERR: self.complaints, _ANSWER: self.answer}.get(descriptor)
        if target is None:
            return _BAD_DESCRIPTOR
        total = 0
        for at, size in guest.vectors(vectors, count):
            self._spend(target, size)
            target += guest.get(at, size)
            total += size
        guest.put(written, struct.pack("<I", total))
        return _SUCCESS

    def _spend(self, target: bytearray, size: int) -> None:
        if target is self.answer:
            if len(self.answer) + size > RESULT_BYTES_MAX:
                raise StoppedError("bad_result", f"a result has at most {RESULT_BYTES_MAX} bytes")
            return
        self._room -= max(size, WRITE_BYTES_MIN)
        if self._room < 0:
            raise StoppedError("output_limit", f"a program prints at most {OUTPUT_BYTES_MAX} bytes")

    def do_fd_read(self, guest: _Guest, descriptor: int, vectors: int, count: int, read: int) -> int:
        """Give the request to who reads stdin."""
        if descriptor != _STDIN:
            return _BAD_DESCRIPTOR
        total = 0
        for at, size in guest.vectors(vectors, count):
            piece, self._unread = self._unread[:size], self._unread[size:]
            guest.put(at, piece)
            total += len(piece)
        guest.put(read, struct.pack("<I", total))
        return _SUCCESS

    def do_fd_fdstat_get(self, guest: _Guest, descriptor: int, at: int) -> int:
        """Tell that the first four descriptors are like terminals, and that there are no others."""
        if descriptor > _ANSWER:
            return _BAD_DESCRIPTOR
        guest.put(at, struct.pack("<BxHxxxxQQ", _CHARACTER_DEVICE, 0, _ALL_RIGHTS, _ALL_RIGHTS))
        return _SUCCESS

    def do_fd_fdstat_set_flags(self, guest: _Guest, descriptor: int, flags: int) -> int:
        """Accept any flags: nothing here ever blocks."""
        return _SUCCESS

    def do_fd_close(self, guest: _Guest, descriptor: int) -> int:
        """Let it close what it has."""
        return _SUCCESS

    def do_fd_prestat_get(self, guest: _Guest, descriptor: int, at: int) -> int:
        """Tell that no directory was opened beforehand."""
        return _BAD_DESCRIPTOR

    def do_path_filestat_get(self, guest: _Guest, *arguments: int) -> int:
        """Tell that no file exists: an import looks for one before it fails in its own words."""
        return _NO_ENTRY

    def do_poll_oneoff(self, guest: _Guest, wanted: int, events: int, count: int, happened: int) -> int:
        """Say that all that is waited for has happened: no time passes here. Go's own threads wait now and then."""
        if not 0 < count <= _VECTORS_MAX:
            raise StoppedError("forbidden", "waiting for too much at once")
        subscriptions = guest.get(wanted, count * _SUBSCRIPTION_BYTES)
        for number in range(count):
            who, kind = struct.unpack_from("<QB", subscriptions, number * _SUBSCRIPTION_BYTES)
            guest.put(events + 32 * number, struct.pack("<QHB21x", who, _SUCCESS, kind))
        guest.put(happened, struct.pack("<I", count))
        return _SUCCESS

    def do_sched_yield(self, guest: _Guest) -> int:
        """Go on: there is nobody to yield to."""
        return _SUCCESS

    def do_proc_exit(self, guest: _Guest, code: int) -> None:
        """End the run."""
        raise ExitedError(code)

    def do_host_result_cap(self, guest: _Guest) -> int:
        """Tell Python's `host.call` how much room it needs for what it gets."""
        return len(self._request)

    def do_host_call(
        self, guest: _Guest, name: int, name_size: int, payload: int, payload_size: int, result: int, room: int
    ) -> int:
        """Serve Python's `host.call`: `task` gives the request, `answer` takes the answer."""
        called = guest.get(name, min(name_size, 16))
        if called == b"task" and len(self._request) <= room:
            guest.put(result, self._request)
            return len(self._request)
        if called != b"answer":
            raise StoppedError("forbidden", "the host knows no such call")
        self._spend(self.answer, payload_size)
        self.answer += guest.get(payload, payload_size)
        guest.put(result, b"{}")
        return 2


class _Guest:
    """The memory of the interpreter that calls: every address is checked against its size."""

    def __init__(self, caller: Caller) -> None:
        memory = caller["memory"]
        assert isinstance(memory, Memory), "an interpreter exports its memory"
        self._memory = memory
        self._caller = caller
        self._size = memory.data_len(caller)

    def get(self, at: int, size: int) -> bytes:
        at, size = self._inside(at, size)
        return bytes(self._memory.read(self._caller, at, at + size))

    def put(self, at: int, content: bytes) -> None:
        at, _ = self._inside(at, len(content))
        self._memory.write(self._caller, content, at)

    def vectors(self, at: int, count: int) -> list[tuple[int, int]]:
        if not 0 <= count <= _VECTORS_MAX:
            raise StoppedError("forbidden", f"more than {_VECTORS_MAX} buffers at once")
        return [cast("tuple[int, int]", pair) for pair in struct.iter_unpack("<II", self.get(at, 8 * count))]

    def _inside(self, at: int, size: int) -> tuple[int, int]:
        at, size = at & 0xFFFFFFFF, size & 0xFFFFFFFF
        if at + size > self._size:
            raise StoppedError("forbidden", "an address outside of the program's memory")
        return at, size


def _stream(seed: bytes) -> Callable[[int], bytes]:
    """Return a function that gives the next so many bytes that follow from `seed`."""
    given = 0

    def take(size: int) -> bytes:
        nonlocal given
        given += 1
        return hashlib.shake_256(seed + given.to_bytes(8)).digest(size)

    return take
