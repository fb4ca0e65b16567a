"""FAULTS §3e: each kind of hostile program, in both languages, is stopped with the error that it is due."""

from __future__ import annotations

import pytest

from chat.scripts.sandbox import Language, Sandbox, Task, guest, interpreters

from .conftest import handler, task

Case = tuple[Language, str, set[str]]

CASES: dict[str, Case] = {
    "endless loop": ("python", "while True: pass", {"fuel_exhausted"}),
    "endless loop, lua": ("lua", "while true do end", {"fuel_exhausted"}),
    "endless loop that catches all": (
        "python",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        {"fuel_exhausted"},
    ),
    "endless loop that catches all, lua": (
        "lua",
        "while true do pcall(function() while true do end end) end",
        {"fuel_exhausted"},
    ),
    "huge power": ("python", "return 9 ** 99999", {"fuel_exhausted"}),
    "huge text": ("python", "return 'x' * 10 ** 9", {"memory"}),
    "huge text, lua": ("lua", "return ('x'):rep(1e9)", {"memory"}),
    "regular expression": (
        "python",
        "import re\nreturn re.match('(a|a)*b', 'a' * 40)",
        {"recursion", "fuel_exhausted"},
    ),
    "pattern": ("lua", "return ('a'):rep(30):find(('a*'):rep(30) .. 'b')", {"fuel_exhausted"}),
    "output": ("python", "while True: print('x' * 100)", {"output_limit"}),
    "output, lua": ("lua", "while true do print(('x'):rep(100)) end", {"output_limit"}),
    "empty output": ("python", "while True: print('', end='')", {"output_limit", "fuel_exhausted"}),
    "recursion": ("python", "return handle(message) + 1", {"recursion"}),
    "recursion, lua": ("lua", "return handle(message) + 1", {"recursion"}),
    "memory": ("python", "kept = []\nwhile True: kept.append(bytearray(5000))", {"memory"}),
    "memory, lua": (
        "lua",
        "local kept = {} while true do kept[#kept + 1] = ('x'):rep(1e6) .. #kept end",
        {"memory", "fuel_exhausted"},
    ),
    "open": ("python", "return open('/etc/passwd').read()", {"forbidden"}),
    "open, lua": ("lua", "return io.open('/etc/passwd')", {"forbidden"}),
    "socket": ("python", "import socket", {"forbidden"}),
    "socket, lua": ("lua", "return require('socket')", {"forbidden"}),
    "os.remove": ("python", "import os\nos.remove('/etc/passwd')", {"forbidden"}),
    "os.remove, lua": ("lua", "os.remove('/etc/passwd')", {"forbidden"}),
    "getenv": ("python", "import os\nreturn os.getenv('HOME')", {"forbidden"}),
    "getenv, lua": ("lua", "return os.getenv('HOME')", {"forbidden"}),
    "a program, lua": ("lua", "os.execute('true')", {"forbidden"}),
    "dofile, lua": ("lua", "dofile('/etc/passwd')", {"forbidden"}),
    "endless sleep": ("python", "import time\nwhile True: time.sleep(3600)", {"forbidden"}),
    "a million host calls": ("python", "import time\nfor _ in range(10 ** 6): time.time()", {"forbidden"}),
    "no such name": ("python", "return nothing.there()", {"script_error"}),
    "no such name, lua": ("lua", "return nothing.there()", {"script_error"}),
    "exit": ("python", "raise SystemExit(0)", {"script_error"}),
    "a failing failure": (
        "python",
        "class Bad(Exception):\n    def __str__(self): raise self\nraise Bad()",
        {"script_error", "recursion"},
    ),
}

# Without a line: the program itself has no part in its end.
STOPPED_BY_THE_HOST = ("endless sleep", "a million host calls", "a failing failure")


@pytest.mark.parametrize("name", CASES)
async def test_it_is_stopped_and_the_next_program_runs(sandbox: Sandbox, name: str) -> None:
    language, body, kinds = CASES[name]
    verdict = await sandbox.run(task(language, handler(language, body)))
    assert verdict.error in kinds, verdict
    assert verdict.result is None
    assert len(verdict.output) <= 64 * 1024
    if verdict.error in ("script_error", "forbidden") and name not in STOPPED_BY_THE_HOST:
        assert (verdict.line or 0) >= 2, verdict
    after = await sandbox.run(task("python", handler("python", "return message")))
    assert after.error == "bad_result"


@pytest.mark.parametrize("body", ["host.call('nothing', '')", "host.call('task' * 100, 'x' * 1000)"])
async def test_malformed_calls_of_the_host_end_the_program(sandbox: Sandbox, body: str) -> None:
    """A program that finds the interpreter's own door to the host, behind the wall that only hides it."""
    engine, known = interpreters.load(sandbox.cache)
    bare = interpreters.Interpreter(known["python"].module, ("micropython", "-c", f"import host\n{body}"))
    verdict = guest.run(engine, bare, task("python", ""))
    assert verdict.error == "forbidden", verdict


@pytest.mark.parametrize(
    "answer", ["{}", "[]", '{"error": "none such", "detail": "", "line": 1}', '{"error": 1}', '{"result": 1}{}', "nan"]
)
async def test_forged_answers_are_no_results(sandbox: Sandbox, answer: str) -> None:
    engine, known = interpreters.load(sandbox.cache)
    program = f"import host\nhost.call('answer', {answer!r})"
    bare = interpreters.Interpreter(known["python"].module, ("micropython", "-c", program))
    assert guest.run(engine, bare, task("python", "")).error == "bad_result"


async def test_a_huge_answer_is_no_result(sandbox: Sandbox) -> None:
    engine, known = interpreters.load(sandbox.cache)
    program = "import host\nhost.call('answer', 'x' * 262145)"
    bare = interpreters.Interpreter(known["python"].module, ("micropython", "-c", program))
    verdict = guest.run(engine, bare, task("python", ""))
    assert (verdict.error, verdict.detail) == ("bad_result", "a result has at most 262144 bytes")


SOURCES: dict[str, tuple[Language, str | bytes, str, int | None]] = {
    "too large": ("python", "#" * (64 * 1024 + 1), "too_large", None),
    "NUL": ("lua", "x = 1\ny = '\0'", "nul", 2),
    "not UTF-8": ("python", b"x = 1\ny = 2\nz = '\xff'", "invalid_utf8", 3),
    "lone surrogate": ("python", "x = '\ud800'", "invalid_utf8", 1),
    "syntax": ("python", "x = 1\ny = 2\ndef handle(:\n  pass", "syntax", 3),
    "syntax, lua": ("lua", "x = 1\ny = = 2", "syntax", 2),
    "unfinished, lua": ("lua", "function handle()\n  x = 1\n", "syntax", 2),
    "no handle": ("python", "def handler(message): return message", "script_error", None),
    "no handle, lua": ("lua", "x = 1", "script_error", None),
    "unknown API": ("python", "x = 1\nimport requests", "forbidden", 2),
    "unknown API, lua": ("lua", "x = 1\n\nos.exit(1)", "forbidden", 3),
    "hangs": ("lua", "while true do end", "fuel_exhausted", None),
}


@pytest.mark.parametrize("name", SOURCES)
async def test_a_bad_source_is_refused_with_its_line(sandbox: Sandbox, name: str) -> None:
    language, source, code, line = SOURCES[name]
    wrong = await sandbox.check(language, source)
    assert wrong is not None
    assert (wrong.code, wrong.line) == (code, line), wrong


async def test_a_good_source_is_accepted(sandbox: Sandbox) -> None:
    assert await sandbox.check("python", handler("python", "return 1/0")) is None
    assert await sandbox.check("lua", handler("lua", "return nothing.there")) is None


async def test_a_source_that_was_never_checked_is_no_crash(sandbox: Sandbox) -> None:
    for source in ("\ud800", "\0", "x" * 70000, "def handle(:"):
        verdict = await sandbox.run(task("python", source))
        assert verdict.error == "script_error", verdict


def test_a_task_that_is_too_large_is_the_callers_mistake() -> None:
    with pytest.raises(AssertionError):
        Task("python", "", "outgoing", {"messageBody": "x" * 300_000}, 0, bytes(16))
