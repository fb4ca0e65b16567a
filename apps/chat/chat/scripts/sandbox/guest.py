"""One run of one program inside WebAssembly, from a task to its verdict. Knows nothing of processes."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from wasmtime import Engine, Func, Linker, Store, Trap, TrapCode

from chat.scripts.sandbox.interpreters import Interpreter
from chat.scripts.sandbox.limits import (
    DETAIL_CHARACTERS_MAX,
    FUEL,
    MEMORY_BYTES_MAX,
    TABLE_ELEMENTS_MAX,
    TABLES_MAX,
)
from chat.scripts.sandbox.tasks import BadResultError, ErrorKind, Task, Verdict, checked_result
from chat.scripts.sandbox.wasi import ExitedError, Host, StoppedError

_TOLD = frozenset({"memory", "recursion", "forbidden", "bad_result", "script_error"})
_TRAPS: dict[TrapCode | None, tuple[ErrorKind, str]] = {
    TrapCode.OUT_OF_FUEL: ("fuel_exhausted", f"it took more than {FUEL} operations"),
    TrapCode.STACK_OVERFLOW: ("recursion", "it called itself too deeply"),
}
# What an interpreter writes to stderr before it gives up, having no memory or stack left to tell it properly.
_LAST_WORDS: tuple[tuple[bytes, ErrorKind, str], ...] = (
    (b"MemoryError", "memory", "it needed more memory than there is"),
    (b"out of memory", "memory", "it needed more memory than there is"),
    (b"stack overflow", "recursion", "it called itself too deeply"),
    (b"maximum recursion", "recursion", "it called itself too deeply"),
)


def run(engine: Engine, interpreter: Interpreter, task: Task, *, only_check: bool = False) -> Verdict:
    """Run `task` to its end. With `only_check` its top level runs, and `handle` must be there, but is not called."""
    request = json.dumps(_request(task, only_check), ensure_ascii=False).encode()
    host = Host(interpreter.arguments, request, task.now_ms, task.seed)
    store = Store(engine)
    store.set_limits(
        memory_size=MEMORY_BYTES_MAX, instances=1, memories=1, tables=TABLES_MAX, table_elements=TABLE_ELEMENTS_MAX
    )
    store.set_fuel(FUEL)
    error, detail, line, result = _outcome(engine, interpreter, store, host, task, only_check)
    return Verdict(
        result=result,
        error=error,
        detail=detail,
        line=line,
        output=host.output.decode(errors="replace"),
        fuel_used=FUEL - store.get_fuel(),
    )


_Outcome = tuple[ErrorKind | None, str, int | None, dict[str, Any] | None]


def _request(task: Task, only_check: bool) -> dict[str, Any]:
    return {
        "source": task.source,
        "input": task.input,
        "nowMs": task.now_ms,
        "seed": task.seed.hex(),
        "onlyCheck": only_check,
    }


def _outcome(
    engine: Engine, interpreter: Interpreter, store: Store, host: Host, task: Task, only_check: bool
) -> _Outcome:
    try:
        _execute(engine, interpreter, store, host)
    except StoppedError as stopped:
        return stopped.kind, stopped.detail, None, None
    except Trap as trap:
        kind, detail = _TRAPS.get(trap.trap_code) or _last_words(host.complaints)
        return kind, detail, None, None
    except ExitedError as exited:
        if exited.code != 0:
            kind, detail = _last_words(host.complaints)
            return kind, detail, None, None
    return _answer(host, task, only_check)


def _execute(engine: Engine, interpreter: Interpreter, store: Store, host: Host) -> None:
    linker = Linker(engine)
    host.define(linker, interpreter.module)
    start = linker.instantiate(store, interpreter.module).exports(store)["_start"]
    assert isinstance(start, Func), "an interpreter is a WASI command"
    start(store)


def _last_words(complaints: bytearray) -> tuple[ErrorKind, str]:
    for words, kind, detail in _LAST_WORDS:
        if words in complaints:
            return kind, detail
    return "script_error", "the interpreter ended early"


def _answer(host: Host, task: Task, only_check: bool) -> _Outcome:
    """Judge what the interpreter said: `{"result": …}`, or `{"error": kind, "detail": text, "line": n}`."""
    try:
        answer = json.loads(host.answer.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return "bad_result", "the result is not JSON", None, None
    match answer:
        case {"error": kind, "detail": str(detail), "line": int() | None as line} if kind in _TOLD:
            return kind, detail[:DETAIL_CHARACTERS_MAX], line, None
        case {"result": _} if only_check:
            return None, "", None, {}
        case {"result": result}:
            return _judged(task, result)
    return "bad_result", "the interpreter's answer has been tampered with", None, None


def _judged(task: Task, result: object) -> _Outcome:
    try:
        return None, "", None, checked_result(task.direction, task.input, result)
    except BadResultError as error:
        return "bad_result", str(error), None, None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
