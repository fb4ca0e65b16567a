"""The edge of the router: conversations, their history, read marks, and inboxes."""

from __future__ import annotations

import time
import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from chat import limits
from chat.adapters.bus import Bus
from chat.adapters.database import Database
from chat.adapters.presence import Presence
from chat.commands import Command, Commands
from chat.events import Topic, UserId, conversation_of
from chat.models import Document
from chat.problems import Refused
from chat.pushes import Heads, Inbox, Message
from chat.router.apply import OpenConversation, Opened, Read, open_conversation
from chat.router.deliver import Deliverer
from chat.router.read import Conversation, conversations_of, heads_of, history, inbox_of
from chat.service import Service
from chat.tokens import ServiceOnly, SignedIn, SignedInOrService

OPEN = Command("messages.open", OpenConversation, Opened, open_conversation)

Seq = Annotated[int, Field(ge=0, lt=1 << 63)]
Limit = Annotated[int, Query(ge=1, le=limits.PAGE_ENTRIES_MAX)]
Id = Annotated[uuid.UUID, Path(alias="id")]
Title = Annotated[str, Field(min_length=1, max_length=limits.TITLE_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]
NO_END = (1 << 63) - 1


class Members(Document):
    """Who is to be in a conversation, besides the one who asks. That they exist is not checked here."""

    participant_ids: Annotated[tuple[UserId, ...], Field(max_length=limits.RECIPIENTS_MAX + 1)]
    title: Title | None = None


class Through(Document):
    """How far."""

    seq: Seq


class Conversations(Document):
    """What one takes part in, newest first."""

    conversations: tuple[Conversation, ...]


class History(Document):
    """Messages of a conversation, ascending."""

    messages: tuple[Message, ...]


def build(database: Database, commands: Commands, presence: Presence, bus: Bus) -> Service:
    """Return the service."""
    deliverer = Deliverer(commands, presence, bus)
    api = APIRouter(prefix="/messages-ms")
    _conversations(api, database, commands, deliverer)
    _inboxes(api, database)
    return Service("router", api, (deliverer.store, deliverer.read, OPEN), {Topic.ROUTER: deliverer.arrived})


def _conversations(api: APIRouter, database: Database, commands: Commands, deliverer: Deliverer) -> None:
    @api.get("/conversations")
    async def find(caller: SignedIn) -> Conversations:
        return Conversations(conversations=await database.read(conversations_of, caller.id))

    @api.post(
        "/conversations", status_code=201, responses={200: {"model": Conversation, "description": "There already"}}
    )
    async def open_(members: Members, caller: SignedIn, response: Response) -> Conversation:
        who = tuple(sorted({caller.id, *members.participant_ids}))
        if len(who) > limits.RECIPIENTS_MAX + 1:
            raise Refused(422, "too_many", f"A conversation has up to {limits.RECIPIENTS_MAX + 1} participants")
        command = OpenConversation(
            conversation_id=conversation_of(who),
            participant_ids=who,
            title=members.title,
            opened_by=caller.id,
            created_at=time.time_ns() // 1_000_000,
        )
        opened = await commands.submit(OPEN, command)
        response.status_code = 201 if opened.created else 200
        return opened.conversation

    @api.get("/conversations/{id}/messages")
    async def read(
        conversation: Id, caller: SignedIn, before: Seq = NO_END, limit: Limit = limits.PAGE_ENTRIES_MAX
    ) -> History:
        return History(messages=await database.read(history, caller.id, conversation, before, limit))

    @api.post("/conversations/{id}/read")
    async def mark(conversation: Id, through: Through, caller: SignedIn) -> Through:
        command = Read(user_id=caller.id, conversation_id=conversation, seq=through.seq)
        return Through(seq=(await commands.submit(deliverer.read, command)).seq)


def _inboxes(api: APIRouter, database: Database) -> None:
    @api.get("/inbox")
    async def inbox(
        caller: SignedInOrService,
        user: UserId | None = None,
        after: Seq = 0,
        limit: Limit = limits.PAGE_ENTRIES_MAX,
    ) -> Inbox:
        whose = user if caller is None else caller.id
        if whose is None or user not in (None, whose):
            raise Refused(422, "invalid", "A service names the user, and a user reads no other's inbox")
        return await database.read(inbox_of, whose, after, limit)

    @api.get("/inbox/heads", dependencies=[ServiceOnly], include_in_schema=False)
    async def heads(users: Annotated[str, Query(pattern=r"^\d{1,10}(,\d{1,10})*$")]) -> Heads:
        ids = [int(one) for one in users.split(",")]
        if len(ids) > limits.PAGE_ENTRIES_MAX or max(ids) >= 1 << 31:
            raise Refused(422, "invalid", f"Up to {limits.PAGE_ENTRIES_MAX} users at a time")
        return Heads(heads=await database.read(heads_of, ids))
