"""The edge of the auto-reply service: a user's text and switch, and the answers to messages that come by.

The message itself goes on as it came; each recipient whose switch is on answers it in a message of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import Field
from sqlalchemy import select

from chat.adapters.database import Database
from chat.autoreply.apply import SET, AutoReply, SetAutoReply, settings_of
from chat.autoreply.tables import autoreplies
from chat.commands import Commands
from chat.events import Event, Text, Topic, UserId
from chat.models import Document
from chat.problems import Refused
from chat.service import Service
from chat.tokens import SignedIn, SignedInOrService

MADE_BY = "autoreply"


class Whose(Document):
    """Whose settings to change."""

    user_id: UserId


class Words(Whose):
    """What to answer from now on."""

    message_body: Text


class SetBody(Document):
    """Set the text."""

    action: Literal["setBody"]
    args: Words


class Switch(Document):
    """Switch the answers on or off. Without a text they can't be on."""

    action: Literal["enable", "disable"]
    args: Whose


Change = Annotated[SetBody | Switch, Field(discriminator="action")]


def build(database: Database, commands: Commands) -> Service:
    """Return the service."""
    api = APIRouter(prefix="/autoreply-ms")

    @api.get("/settings")
    async def read(caller: SignedIn) -> AutoReply:
        return await database.read(settings_of, caller.id)

    @api.post("/settings")
    async def change(wanted: Annotated[Change, Body()], caller: SignedInOrService) -> AutoReply:
        if caller is not None and caller.id != wanted.args.user_id:
            raise Refused(403, "not_yours", "Only users themselves may do that")
        return await commands.submit(SET, _command(wanted))

    async def answer(events: Sequence[Event]) -> Sequence[Event]:
        asked = {user for event in events if not event.from_auto_reply for user in event.recipient_ids}
        texts = await _texts(database, asked)
        onward: list[Event] = []
        for event in events:
            onward.append(event.taken(Topic.AUTOREPLY))
            if not event.from_auto_reply:
                onward += [
                    event.reply(user, event.sender_id, texts[user], MADE_BY)
                    for user in event.recipient_ids
                    if user in texts
                ]
        return onward

    return Service("autoreply", api, (SET,), {Topic.AUTOREPLY: answer})


def _command(wanted: SetBody | Switch) -> SetAutoReply:
    if isinstance(wanted, SetBody):
        return SetAutoReply(user_id=wanted.args.user_id, message_body=wanted.args.message_body)
    return SetAutoReply(user_id=wanted.args.user_id, enabled=wanted.action == "enable")


async def _texts(database: Database, users: Collection[int]) -> Mapping[int, str]:
    """Return the text of each of these users whose answers are on: one look-up, however many events ask."""
    statement = select(autoreplies.c.user_id, autoreplies.c.message_body).where(
        autoreplies.c.user_id.in_(sorted(users)), autoreplies.c.enabled
    )
    return {row["user_id"]: row["message_body"] for row in await database.rows(statement)}
