"""Refusals as problem documents (RFC 9457): what happened, what to do about it, and whether trying again is safe.

`code` is the stable name a program tests; `retryable` says that the request was not executed and may be sent again as
it is; `title` and `hint` are for people and may change. Nothing a client sent is echoed.
"""

from __future__ import annotations

import msgspec

from quorate.types import Outcome


class _Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    code: str
    hint: str
    retryable: bool
    request_id: str | None = None


_encode = msgspec.json.Encoder().encode
_HEAD = b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n"


def problem(
    status: int,
    code: str,
    title: str,
    hint: str,
    *,
    retryable: bool = False,
    retry_after: int | None = None,
    request_id: bytes | None = None,
) -> Outcome:
    """Return the answer that tells of a refusal; `retry_after` in seconds, `request_id` raw, shown in hexadecimal."""
    shown = None if request_id is None else request_id.hex()
    document = _Problem(f"/problems/{code}", title, status, code, hint, retryable, shown)
    head = _HEAD if retry_after is None else b"%bRetry-After: %d\r\n" % (_HEAD, retry_after)
    return Outcome(status, head, _encode(document))
