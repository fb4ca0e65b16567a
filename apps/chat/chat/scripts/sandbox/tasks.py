"""What is asked of the sandbox and what it answers, and the shape that a program's result must have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from chat.scripts.sandbox.limits import BODY_BYTES_MAX, INPUT_BYTES_MAX, REPLIES_MAX, SOURCE_BYTES_MAX

Language = Literal["python", "lua"]
Direction = Literal["outgoing", "incoming"]
ErrorKind = Literal[
    "fuel_exhausted",
    "memory",
    "output_limit",
    "recursion",
    "forbidden",
    "bad_result",
    "script_error",
    "crash",
]


@dataclass(frozen=True, slots=True)
class Task:
    """One run: `input` is S3's message, `now_ms` Unix milliseconds, `seed` 16 bytes of the event's own randomness."""

    language: Language
    source: str
    direction: Direction
    input: dict[str, Any]
    now_ms: int
    seed: bytes

    def __post_init__(self) -> None:
        assert len(self.seed) == 16, "a seed has 16 bytes"
        assert self.now_ms >= 0, "time begins in 1970"
        assert len(json.dumps(self.input, ensure_ascii=False).encode()) <= INPUT_BYTES_MAX, "an event is smaller"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run: `result` in the shape of its direction, or `error` with `detail` and, when known, the line.

    A `crash` is this machine's, not the program's: run it again, here or elsewhere, and never order it.
    """

    result: dict[str, Any] | None = None
    error: ErrorKind | None = None
    detail: str = ""
    line: int | None = None
    output: str = ""
    fuel_used: int = 0


@dataclass(frozen=True, slots=True)
class SourceError:
    """Why a source is no program: `too_large`, `invalid_utf8`, `nul`, `syntax`, or the kind that its first run gave."""

    code: str
    detail: str
    line: int | None = None


class BadResultError(ValueError):
    """A program's result has not the shape of its direction."""


def text_of(source: str | bytes) -> str | SourceError:
    """Return `source` as text that may be given to an interpreter, or what is wrong with it."""
    raw = source if isinstance(source, bytes) else source.encode(errors="surrogatepass")
    if len(raw) > SOURCE_BYTES_MAX:
        return SourceError("too_large", f"{len(raw)} bytes; at most {SOURCE_BYTES_MAX} are allowed")
    if (at := raw.find(b"\0")) >= 0:
        return SourceError("nul", "a NUL character", 1 + raw.count(b"\n", 0, at))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return SourceError("invalid_utf8", error.reason, 1 + raw.count(b"\n", 0, error.start))


def checked_result(direction: Direction, message: dict[str, Any], value: object) -> dict[str, Any]:
    """Return `value` in the shape of `direction`; `message` was the input. Raises BadResultError."""
    if not isinstance(value, dict):
        raise BadResultError(f"a result is a table of fields, not {value!r:.60}")
    if direction == "outgoing":
        _only(value, {"messageBody"})
        return {"messageBody": _body(value.get("messageBody"), "messageBody")}
    _only(value, {"action", "reply"})
    action = value.get("action")
    if action not in ("forward", "drop"):
        raise BadResultError(f"action is forward or drop, not {action!r:.60}")
    known = {message["senderID"], message["ownID"], *message["recipientIDs"]}
    return {"action": action, "reply": _replies(value.get("reply"), known)}


def _replies(value: object, known: set[int]) -> list[dict[str, Any]]:
    # Lua's empty list and empty table are one: both come as {}.
    replies = [] if value is None or value == {} else value
    if not isinstance(replies, list):
        raise BadResultError("reply is a list")
    if len(replies) > REPLIES_MAX:
        raise BadResultError(f"{len(replies)} replies; at most {REPLIES_MAX} are allowed")
    return [_reply(reply, known) for reply in replies]


def _reply(value: object, known: set[int]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadResultError("a reply is {to, message}")
    _only(value, {"to", "message"})
    to = value.get("to")
    if type(to) is not int or to not in known:
        raise BadResultError(f"a reply goes to the sender or another recipient, not to {to!r:.60}")
    return {"to": to, "message": _body(value.get("message"), "message")}


def _body(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadResultError(f"{name} is text, not {value!r:.60}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadResultError(f"{name} is not valid Unicode") from None
    if not 1 <= size <= BODY_BYTES_MAX:
        raise BadResultError(f"{name} has {size} bytes; 1 to {BODY_BYTES_MAX} are allowed")
    return value


def _only(value: dict[str, Any], names: set[str]) -> None:
    if unknown := sorted(set(map(str, value)) - names):
        raise BadResultError(f"unknown field {unknown[0]!r:.60}")
