"""The asking side of admin listeners: one bounded HTTP exchange per question, JSON back.

Blocking, on the standard library's client: the command line asks once, and the supervisor asks from threads. A refusal
by the other side carries problem details (RFC 9457) and is raised as Misuse in their words.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from quorate import limits
from quorate.errors import Misbehaviour, Misuse, NetworkRefused


def ask(
    url: str,
    method: str = "GET",
    seconds: float = limits.STATUS_SECONDS_MAX,
    body: object = None,
    fields: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """The JSON object at `url`; `body` is sent as JSON, `fields` are further header fields.

    Raises NetworkRefused (unreachable, or so for whoever was asked), Misuse (refused), Misbehaviour (not JSON).
    """
    parts = urlsplit(url)
    connection = (
        http.client.HTTPConnection(parts.netloc, timeout=seconds)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(parts.netloc, timeout=seconds, context=tls)
    )
    payload = None if body is None else json.dumps(body)
    own = {} if payload is None else {"Content-Type": "application/json"}
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, payload, own | dict(fields or {}))
        response = connection.getresponse()
        body = response.read(limits.STATUS_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise NetworkRefused(f"no answer: {error} - {url}", "see whether it lives with `quorate status`") from error
    finally:
        connection.close()
    return _object(response.status, body, url)


def _object(status: int, body: bytes, url: str) -> dict[str, Any]:
    try:
        answer = json.loads(body) if len(body) <= limits.STATUS_BYTES_MAX else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Misbehaviour(f"answered {status} without a JSON object - {url}", "is this a quorate admin listener?")
    if status == 504:
        raise NetworkRefused(str(answer.get("title", "no answer in time")), str(answer.get("hint", "")))
    if status >= 400:
        raise Misuse(str(answer.get("title", f"refused with {status}")), str(answer.get("hint", "")))
    return answer
