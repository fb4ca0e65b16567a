"""What a client and the server say to each other over a socket, as JSON text.

A frame that is no JSON object of a known type closes the socket (1003). One of a known type that makes no sense is
refused, if it says what the refusal is to name; or else it closes the socket (1008).
"""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from chat import limits
from chat.events import Recipients, Text, UserId
from chat.models import Document
from chat.pushes import Message, Notification


class Closing(Exception):
    """The end of a socket: its close code, and the reason for people."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class SendMessage(Document):
    """A message to send. The conversation, if named, must be that of its sender and recipients."""

    type: Literal["SendMessage"]
    message_uid: uuid.UUID
    message: Text
    destination_users: Recipients
    conversation_id: uuid.UUID | None = None


class UploadHandlerSnippet(Document):
    """A script to install for oneself."""

    type: Literal["UploadHandlerSnippet"]
    direction: Literal["outgoing", "incoming"]
    language: Literal["python", "lua"]
    file_data: str


class Pong(Document):
    """The answer to a Ping."""

    type: Literal["Pong"]


class Renew(Document):
    """A later token of the same user."""

    type: Literal["Renew"]
    token: Annotated[str, Field(max_length=limits.TOKEN_BYTES_MAX)]


ClientFrame = SendMessage | UploadHandlerSnippet | Pong | Renew
_FRAMES: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])
_TYPES = ("SendMessage", "UploadHandlerSnippet", "Pong", "Renew")


class Welcome(Document):
    """The socket stands; what comes after `last_seq` will be sent."""

    type: Literal["Welcome"] = "Welcome"
    user_id: UserId
    last_seq: int
    expires_at: int
    """Of the token, in Unix milliseconds."""


class Accepted(Document):
    """The message can't be lost any more."""

    type: Literal["Accepted"] = "Accepted"
    message_uid: uuid.UUID


class RefusedMessage(Document):
    """The message was not taken; or, if the code is outcome_unknown, nobody can tell."""

    type: Literal["Refused"] = "Refused"
    message_uid: uuid.UUID
    code: str
    title: str


class CodeSnippetUploaded(Document):
    """The script is in force."""

    type: Literal["CodeSnippetUploaded"] = "CodeSnippetUploaded"
    direction: str


class CodeSnippetRefused(Document):
    """The script was not taken; `line` is where it is wrong, if that is known."""

    type: Literal["CodeSnippetRefused"] = "CodeSnippetRefused"
    direction: str
    code: str
    title: str
    line: int | None = None


class Noticed(Document):
    """The user is told of something."""

    type: Literal["Notice"] = "Notice"
    notification: Notification


class Ping(Document):
    """Are you there? Any frame is an answer."""

    type: Literal["Ping"] = "Ping"


class ReadThrough(Document):
    """Another device of this user has read so far."""

    type: Literal["Read"] = "Read"
    conversation_id: uuid.UUID
    seq: int


ServerFrame = (
    Welcome | Accepted | RefusedMessage | CodeSnippetUploaded | CodeSnippetRefused | Noticed | Ping | ReadThrough
)


def text_of(frame: ServerFrame) -> str:
    """Return a frame as it travels."""
    return frame.model_dump_json(by_alias=True, exclude_none=True)


def message_text(message: Message) -> str:
    """Return what is the same in all frames that bring this message: encoded once, however many get it."""
    body = to_json(message.body).decode()
    return f'"userId":{message.sender_id},"msg":{body},"message":{message.model_dump_json(by_alias=True)}}}'


def receive_message(seq: int, text: str) -> str:
    """Return the frame that brings a message, as `message_text` has it, in its place in an inbox."""
    return f'{{"type":"ReceiveMessage","seq":{seq},{text}'


def read_frame(text: str) -> ClientFrame | RefusedMessage | CodeSnippetRefused:
    """Return what a client says, or the refusal of what makes no sense; raises Closing."""
    try:
        return _FRAMES.validate_json(text)
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"]
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise Closing(1003, "a frame is a JSON object") from None
    if not isinstance(said, dict) or said.get("type") not in _TYPES:
        raise Closing(1003, "a frame of an unknown type")
    return _refusal(said, why[: limits.REASON_CHARACTERS_MAX])


def _refusal(said: dict[str, Any], why: str) -> RefusedMessage | CodeSnippetRefused:
    try:
        if said["type"] == "SendMessage":
            return RefusedMessage(message_uid=uuid.UUID(said["messageUid"]), code="invalid", title=why)
        if said["type"] == "UploadHandlerSnippet":
            return CodeSnippetRefused(direction=said["direction"], code="invalid", title=why)
    except (KeyError, ValueError, AttributeError, TypeError):  # it doesn't say which one it is
        raise Closing(1008, f"a {said['type']} that can't be answered") from None
    raise Closing(1008, f"a {said['type']} that makes no sense")
