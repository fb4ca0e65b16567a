"""Keeping at it: what can't be done for now is tried again, less and less often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from chat import limits
from chat.problems import Refused, Unavailable, Unknown

T = TypeVar("T")
log = structlog.get_logger()


def _untold() -> None:
    return


async def patiently(work: Callable[[], Awaitable[T]], again: Callable[[], None] = _untold) -> T:
    """Return what `work` returns, calling it until it does; `again` is called before each further attempt.

    Raises Refused. An error that nobody foresaw may pass or not: after SURPRISES_MAX of them it is a refusal too.
    """
    pause, surprises = limits.RETRY_SECONDS_MIN, 0
    while True:
        try:
            return await work()
        except (Unavailable, Unknown) as passing:
            log.info("trying again", why=passing.title)
        except Refused:
            raise
        except Exception as error:
            log.exception("failed unforeseen")
            surprises += 1
            if surprises == limits.SURPRISES_MAX:
                raise Refused(500, "failed", f"{type(error).__name__}: {error}") from error
        again()
        await asyncio.sleep(pause)
        pause = min(2 * pause, limits.RETRY_SECONDS_MAX)


async def reach(what: str, connect: Callable[[], Awaitable[T]]) -> T:
    """Return what `connect` returns, once the server is there; raises Unavailable after START_SECONDS_MAX."""
    try:
        async with asyncio.timeout(limits.START_SECONDS_MAX):
            return await patiently(connect)
    except TimeoutError:
        raise Unavailable(what) from None
