"""The process that runs programs: `python -m chat.scripts.sandbox.worker CACHE [insecure]`, started by `pool`.

It loads the interpreters, shuts itself in, says that it is ready, and then for each request on stdin forks a process
that runs it and ends. The answer is passed on to stdout only when that process is gone, so none of it outlives its run.
A frame is four bytes of length, big endian, and JSON.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from wasmtime import Engine

from chat.scripts.sandbox.guest import run
from chat.scripts.sandbox.interpreters import Interpreter, load
from chat.scripts.sandbox.limits import FRAME_BYTES_MAX
from chat.scripts.sandbox.tasks import Language, Task, Verdict
from chat.scripts.sandbox.walls import Cell, WallError, confine

_STDIN, _STDOUT, _STDERR = range(3)


def main(cache: str, mode: str = "") -> None:
    """Serve requests until stdin ends."""
    engine, interpreters = load(Path(cache))
    os.closerange(3, 256)
    try:
        cell = confine(insecure=mode == "insecure")
    except WallError as error:
        _write(_STDOUT, _frame({"refused": str(error)}))
        return
    # A fork shares this heap with its parent for as long as nobody writes to it.
    gc.freeze()
    _write(_STDOUT, _frame({"ready": os.getpid()}))
    while (request := _request()) is not None:
        _write(_STDOUT, _in_a_process_of_its_own(cell, engine, interpreters, request))


def _in_a_process_of_its_own(
    cell: Cell, engine: Engine, interpreters: dict[Language, Interpreter], request: dict[str, Any]
) -> bytes:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_and_end(cell, engine, interpreters, request, writer)
    os.close(writer)
    answer = _read_to_end(reader)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if status != 0:
        return _frame(dataclasses.asdict(Verdict(error="crash", detail=f"its process ended with status {status}")))
    return answer


def _run_and_end(
    cell: Cell, engine: Engine, interpreters: dict[Language, Interpreter], request: dict[str, Any], writer: int
) -> NoReturn:
    status = 1
    try:
        for descriptor in (_STDIN, _STDOUT, _STDERR):
            os.close(descriptor)
        cell.enter()
        task = Task(**{**request["task"], "seed": bytes.fromhex(request["task"]["seed"])})
        verdict = run(engine, interpreters[task.language], task, only_check=request["onlyCheck"])
        _write(writer, _frame(dataclasses.asdict(verdict)))
        status = 0
    finally:
        # Not sys.exit: nothing of the parent's is to be cleaned up here.
        os._exit(status)


def _request() -> dict[str, Any] | None:
    head = _read(_STDIN, 4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head)
    assert size <= FRAME_BYTES_MAX, "the pool bounds its frames"
    request: dict[str, Any] = json.loads(_read(_STDIN, size))
    return request


def _read_to_end(descriptor: int) -> bytes:
    return _read(descriptor, FRAME_BYTES_MAX + 4)


def _read(descriptor: int, size: int) -> bytes:
    """Return `size` bytes, or fewer if the stream ends."""
    content = b""
    while len(content) < size and (piece := os.read(descriptor, size - len(content))):
        content += piece
    return content


def _frame(content: dict[str, Any]) -> bytes:
    encoded = json.dumps(content).encode()
    return len(encoded).to_bytes(4) + encoded


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
