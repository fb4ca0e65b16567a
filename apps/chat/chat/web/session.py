"""One socket and all that happens on it: its frames in and out, its bounds, and its end.

Requests are answered in their order, one batch at a time. What ends the socket is a `Closing`; the first one counts.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Sequence

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from chat import limits
from chat.events import Event, Topic, conversation_of
from chat.problems import Refused
from chat.tokens import Tokens
from chat.web.feed import Feed
from chat.web.frames import (
    Accepted,
    Closing,
    CodeSnippetRefused,
    CodeSnippetUploaded,
    Ping,
    RefusedMessage,
    Renew,
    SendMessage,
    ServerFrame,
    UploadHandlerSnippet,
    Welcome,
    read_frame,
    text_of,
)
from chat.web.neighbours import Neighbours, ScriptRefused
from chat.web.people import People
from chat.web.publisher import Publisher

log = structlog.get_logger()
TOPICS = tuple(Topic)
Request = SendMessage | UploadHandlerSnippet


class Session:
    """A client, from the acceptance of its socket to its end."""

    def __init__(
        self,
        websocket: WebSocket,
        token: str,
        tokens: Tokens,
        neighbours: Neighbours,
        people: People,
        publisher: Publisher,
        silence_seconds: float,
    ) -> None:
        self._websocket = websocket
        self._token = token
        self._tokens = tokens
        self._caller = tokens.verify(token)
        self._neighbours = neighbours
        self._people = people
        self._publisher = publisher
        self._silence_seconds = silence_seconds
        self._id = uuid.uuid4()
        self._out: asyncio.Queue[str] = asyncio.Queue(limits.SOCKET_FRAMES_MAX)
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        """Bounded by `_unanswered`."""
        self._unanswered = 0
        self._allowance = Allowance()
        self._heard_at = time.monotonic()
        self._pinged_at = self._heard_at
        self._end: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self.feed = Feed(self._caller.id, neighbours, self.send, self._drained)

    @property
    def user(self) -> int:
        """Whose socket it is."""
        return self._caller.id

    async def run(self, last_seq: int | None) -> Closing | None:
        """Serve the client until one side has enough; return how the socket is to be closed, if it isn't."""
        closing = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._read(), self._write(), self._answer(), self._follow(last_seq), self._until_end()):
                    tasks.create_task(work)
        except* Closing as closings:
            (closing, *_) = (one for one in closings.exceptions if isinstance(one, Closing))
        except* WebSocketDisconnect:
            log.debug("a client is gone", user=self.user)
        return closing

    def send(self, text: str) -> None:
        """Put a frame in the queue; a queue that is full ends the socket."""
        try:
            self._out.put_nowait(text)
        except asyncio.QueueFull:
            self.close(1013, "too slow: come again and resume")

    def close(self, code: int, reason: str) -> None:
        """End the socket soon."""
        if not self._end.done():
            self._end.set_result(Closing(code, reason))

    def look_after(self) -> None:
        """Have a silent client pinged, or ended; and one whose token has expired. Called now and then."""
        now = time.monotonic()
        if time.time() >= self._caller.expires_at:
            self.close(4401, "the token has expired")
        elif now - self._heard_at >= self._silence_seconds:
            self.close(1013, "nothing was heard for too long")
        elif now - max(self._heard_at, self._pinged_at) >= self._silence_seconds / 2:
            self._pinged_at = now
            self._tell(Ping())

    def _tell(self, frame: ServerFrame) -> None:
        self.send(text_of(frame))

    async def _follow(self, last_seq: int | None) -> None:
        await self.feed.begin(last_seq)
        self._tell(Welcome(user_id=self.user, last_seq=self.feed.last, expires_at=1000 * self._caller.expires_at))
        await self.feed.follow()

    async def _write(self) -> None:
        while True:
            text = await self._out.get()
            try:
                await self._websocket.send_text(text)
            except RuntimeError:  # the protocol has closed it for a bad frame, and `_read` is about to hear of it
                raise WebSocketDisconnect(1006) from None
            self._out.task_done()

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(limits.SLOW_SECONDS_MAX):
                await self._out.join()
        except TimeoutError:
            raise Closing(1013, "too slow: come again and resume") from None

    async def _until_end(self) -> None:
        raise await self._end

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            self._heard_at = time.monotonic()
            if not self._allowance.take():
                raise Closing(1008, "too many frames")
            if message.get("text") is None:
                raise Closing(1003, "frames are text")
            self._take(message["text"])

    def _take(self, text: str) -> None:
        match frame := read_frame(text):
            case RefusedMessage() | CodeSnippetRefused():
                self._tell(frame)
            case Renew():
                self._renew(frame.token)
            case SendMessage() | UploadHandlerSnippet():
                if self._unanswered >= limits.UNANSWERED_MAX:
                    raise Closing(1008, "too many requests at a time")
                self._unanswered += 1
                self._requests.put_nowait(frame)

    def _renew(self, token: str) -> None:
        try:
            caller = self._tokens.verify(token)
        except Refused:
            raise Closing(4401, "the new token is no good") from None
        if caller.id != self.user:
            raise Closing(1008, "the new token is somebody else's")
        self._caller, self._token = caller, token

    async def _answer(self) -> None:
        while True:
            requests = [await self._requests.get()]
            while not self._requests.empty():
                requests.append(self._requests.get_nowait())
            for _, alike in itertools.groupby(requests, type):
                await self._answer_alike(list(alike))
            self._unanswered -= len(requests)

    async def _answer_alike(self, requests: Sequence[Request]) -> None:
        messages = [request for request in requests if isinstance(request, SendMessage)]
        if messages:
            await self._send_messages(messages)
        for request in requests:
            if isinstance(request, UploadHandlerSnippet):
                await self._upload(request)

    async def _send_messages(self, messages: Sequence[SendMessage]) -> None:
        """Put messages on their way together, and say what became of them."""
        events = []
        for message in messages:
            try:
                events.append(await self._event(message))
            except Refused as refused:
                self._refuse(message.message_uid, refused)
        if not events:
            return
        try:
            await self._publisher.publish(events)
        except Refused as refused:
            for event in events:
                self._refuse(event.message_uid, refused)
        else:
            for event in events:
                self._tell(Accepted(message_uid=event.message_uid))

    async def _event(self, message: SendMessage) -> Event:
        """Return the message as it starts on its way; raises Refused, Closing."""
        if time.time() >= self._caller.expires_at:
            raise Closing(4401, "the token has expired")
        recipients = tuple(user for user in message.destination_users if user != self.user)
        conversation = conversation_of((self.user, *recipients))
        if message.conversation_id not in (None, conversation):
            raise Closing(4403, "the conversation is not that of the sender and the recipients")
        stranger = await self._people.unknown(recipients)
        if stranger is not None:
            raise Refused(422, "no_such_user", f"There is no user {stranger}")
        return Event(
            message_uid=message.message_uid,
            session_id=self._id,
            conversation_id=conversation,
            message_body=message.message,
            sender_id=self.user,
            recipient_ids=recipients,
            event_destinations=TOPICS,
            sent_at=time.time_ns() // 1_000_000,
        )

    def _refuse(self, message_uid: uuid.UUID, refused: Refused) -> None:
        self._tell(RefusedMessage(message_uid=message_uid, code=refused.code, title=refused.title))

    async def _upload(self, snippet: UploadHandlerSnippet) -> None:
        direction = snippet.direction
        try:
            await self._neighbours.upload(self._token, direction, snippet.language, snippet.file_data)
        except Refused as refused:
            line = refused.line if isinstance(refused, ScriptRefused) else None
            self._tell(CodeSnippetRefused(direction=direction, code=refused.code, title=refused.title, line=line))
        else:
            self._tell(CodeSnippetUploaded(direction=direction))


class Allowance:
    """How many frames a client may send now: so many at once, and so many a second."""

    def __init__(self) -> None:
        self._left = float(limits.SOCKET_FRAMES_BURST)
        self._counted_at = time.monotonic()

    def take(self) -> bool:
        """Use one up; say whether there was one."""
        now = time.monotonic()
        earned = (now - self._counted_at) * limits.SOCKET_FRAMES_PER_SECOND
        self._left = min(self._left + earned, limits.SOCKET_FRAMES_BURST) - 1
        self._counted_at = now
        return self._left >= 0
