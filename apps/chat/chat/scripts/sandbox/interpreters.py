"""The interpreters as compiled WebAssembly modules.

Compiling takes half a minute of two cores and a gigabyte, loading what was compiled takes milliseconds: so it is done
once, in a process of its own (`python -m chat.scripts.sandbox DIRECTORY`), into a directory that nobody
else may write to, since what lies there is machine code that workers run. A file's name is the digest of all that it
was made from, its first 32 bytes are the digest of its content.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from wasmtime import Config, Engine, Module

from chat.scripts.sandbox.limits import MEMORY_BYTES_MAX, WASM_STACK_BYTES_MAX
from chat.scripts.sandbox.tasks import Language

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chat-interpreters"
"""Where compiled interpreters lie unless somebody says otherwise: for all processes of a user."""
_SETTINGS = {
    "consume_fuel": True,
    # The same task has the same verdict on every machine.
    "cranelift_nan_canonicalization": True,
    "wasm_relaxed_simd_deterministic": True,
    "wasm_threads": False,
    "wasm_exceptions": True,
    "max_wasm_stack": WASM_STACK_BYTES_MAX,
    # Not the usual 4 GiB, which would not fit the worker's limit of address space.
    "memory_reservation": MEMORY_BYTES_MAX,
    "memory_reservation_for_growth": 0,
    "memory_guard_size": 1 << 16,
    # Would keep a file open for each module.
    "memory_init_cow": False,
}
_ROOM = files("chat.scripts.sandbox")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A module and how it is started."""

    module: Module
    arguments: tuple[str, ...]


class MissingInterpreterError(RuntimeError):
    """An interpreter was not built."""


def engine() -> Engine:
    """Return an engine with this sandbox's settings."""
    config = Config()
    for name, value in _SETTINGS.items():
        setattr(config, name, value)
    return Engine(config)


def is_prepared(cache: Path) -> bool:
    """Tell if `cache` holds all that is needed. Raises MissingInterpreterError, PermissionError if others may write."""
    _private(cache)
    return all((cache / _name(_wasm(language))).exists() for language in _ARGUMENTS)


def prepare(cache: Path) -> None:
    """Compile what `cache` does not hold yet. Raises as `is_prepared`."""
    _private(cache)
    for language in _ARGUMENTS:
        wasm = _wasm(language)
        path = cache / _name(wasm)
        if not path.exists():
            code = bytes(Module(engine(), wasm).serialize())
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_bytes(hashlib.sha256(code).digest() + code)
            draft.replace(path)


def load(cache: Path) -> tuple[Engine, dict[Language, Interpreter]]:
    """Return what `prepare` compiled. Raises OSError, or ValueError if a file is damaged."""
    _private(cache)
    shared = engine()
    return shared, {
        language: Interpreter(_module(shared, cache / _name(_wasm(language))), arguments)
        for language, arguments in _ARGUMENTS.items()
    }


def _module(shared: Engine, path: Path) -> Module:
    content = path.read_bytes()
    digest, code = content[:32], content[32:]
    if hashlib.sha256(code).digest() != digest:
        path.unlink()
        raise ValueError(f"{path} is damaged, and was removed: start again")
    return Module.deserialize(shared, code)


def _private(cache: Path) -> None:
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = cache.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(f"{cache} must belong to this process's user and be writable by nobody else")


def _name(wasm: bytes) -> str:
    made_from = f"{version('wasmtime')} {platform.machine()} {sorted(_SETTINGS.items())}".encode()
    return hashlib.sha256(made_from + b"\0" + wasm).hexdigest()


def _wasm(language: Language) -> bytes:
    path = _ROOM / f"{language}.wasm"
    if not path.is_file():
        raise MissingInterpreterError(f"{language}.wasm is not built: run apps/chat/interpreters/build")
    return path.read_bytes()


_ARGUMENTS: dict[Language, tuple[str, ...]] = {
    # Four times its usual heap: it looks for free room from the start, so a fuller heap is a slower one.
    "python": ("micropython", "-X", "heapsize=4m", "-c", (_ROOM / "prelude.micropython").read_text()),
    "lua": ("lua",),
}
