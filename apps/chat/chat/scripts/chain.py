"""What scripts do to messages on their way: the sender's before anybody gets it, then the script of each recipient.

A script that fails changes nothing: the message goes on as it came, for nobody's message may be lost to a mistake in a
program. Operators see it in the log and the metrics; users, when they try their script.

An event that comes again has the same results, as long as its users' scripts are the same: a run's clock and
randomness come from the event. An automatic answer may be dropped, but it isn't answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from chat.adapters.database import Database
from chat.events import Event, Topic
from chat.scripts.apply import Script, script_of
from chat.scripts.contract import Received, Result, Sent, given, seed
from chat.scripts.running import Program, Running
from chat.scripts.sandbox import Direction
from chat.scripts.source_cache import SourceCache
from chat.scripts.tables import scripts

MADE_BY = "script"


class Chain:
    """The handlers of both topics of scripts."""

    def __init__(self, database: Database, sources: SourceCache, running: Running) -> None:
        self._database = database
        self._sources = sources
        self._running = running

    async def outgoing(self, events: Sequence[Event]) -> Sequence[Event]:
        """Have each sender's script change the text; raises Unavailable."""
        found = await self._enabled("outgoing", {event.sender_id for event in events})

        async def one(event: Event) -> Event:
            sent = await self._result(found, event, event.sender_id)
            body = sent.message_body if isinstance(sent, Sent) else event.message_body
            return event.taken(Topic.SCRIPTS_OUTGOING, message_body=body)

        return await asyncio.gather(*map(one, events))

    async def incoming(self, events: Sequence[Event]) -> Sequence[Event]:
        """Have each recipient's script forward, drop and answer; raises Unavailable."""
        found = await self._enabled("incoming", {user for event in events for user in event.recipient_ids})

        async def one(event: Event) -> Sequence[Event]:
            results = await asyncio.gather(*(self._result(found, event, user) for user in event.recipient_ids))
            decided = dict(zip(event.recipient_ids, results, strict=True))
            return _decided(event, {user: result for user, result in decided.items() if isinstance(result, Received)})

        return [onward for several in await asyncio.gather(*map(one, events)) for onward in several]

    async def _enabled(self, direction: Direction, users: Collection[int]) -> Mapping[int, Script]:
        """Return the scripts of these users that are switched on: one look-up, however many events ask."""
        columns = [scripts.c.user_id, *(scripts.c[name] for name in Script.model_fields)]
        theirs = scripts.c.user_id.in_(sorted(users)), scripts.c.direction == direction, scripts.c.enabled
        return {row["user_id"]: script_of(row) for row in await self._database.rows(select(*columns).where(*theirs))}

    async def _result(self, found: Mapping[int, Script], event: Event, user: int) -> Result | None:
        """Return what this user's script gives back, or None if there is none or it fails."""
        if user not in found:
            return None
        script = found[user]
        try:
            source = await self._sources.get(script.digest)
        except KeyError:  # deleted, or replaced, since it was looked up
            return None
        program = Program(script.direction, script.language, source)
        message, dice = given(event, script.direction, user), seed(event, script.direction, user)
        result, _ = await self._running.run(program, message, event.sent_at, dice)
        return result


def _decided(event: Event, decisions: Mapping[int, Received]) -> Sequence[Event]:
    """Return the message for those who did not drop it, and the answers: to the others of the conversation only."""
    staying = tuple(
        user for user in event.recipient_ids if user not in decisions or decisions[user].action == "forward"
    )
    onward = [event.taken(Topic.SCRIPTS_INCOMING, recipient_ids=staying)]
    if event.from_auto_reply:
        return onward
    for user, decision in decisions.items():
        others = {event.sender_id, *event.recipient_ids} - {user}
        onward += [
            event.reply(user, answer.to, answer.message, f"{MADE_BY}{place}")
            for place, answer in enumerate(decision.reply)
            if answer.to in others
        ]
    return onward
