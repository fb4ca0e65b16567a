"""Users who do what users do, again and again, and a record of each attempt: for `bench.outages`.

They are spread over all addresses of the chat, and who finds nothing at one goes on to the next. What they do is named:
send, receive, log in, history, people, settings (of the auto-reply), script, new script. The latter two are answers to
messages, by a script that is in use, and by scripts that never ran before.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import httpx2

from chat.events import conversation_of
from deploy.client import Client

OVERDUE_SECONDS = 0.5
ATTEMPT_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.1
"""After an attempt that failed."""
UNDER_WAY_MAX = 50
"""Attempts of one probe; less than a socket may have unanswered."""
SIGNING_IN_AT_ONCE = 4
TALKERS = 6
NEW_SCRIPTS = 24
"""A script is new only once."""
SECONDS = {"send": 0.1, "log in": 0.4, "history": 0.2, "people": 0.3, "settings": 0.4, "script": 0.4, "new script": 1}
"""From one attempt to the next, of all who do the same: all of them take half a core of the chat."""
ARRIVAL_SECONDS = 30.0
PASSWORD = "a password"
ECHO = """def handle(message):
    reply = {"to": message["senderID"], "message": message["messageBody"]}
    return {"action": "forward", "reply": [reply]}
"""


class Failed(Exception):
    """An attempt that came to nothing; the next one may work."""


class Spoilt(Exception):
    """What must not be: a message lost or doubled, or something that stays broken."""


class Attempt(NamedTuple):
    """When it was begun and had ended, in seconds of `time.perf_counter`, and whether it worked."""

    begun: float
    ended: float
    worked: bool


Act = Callable[[float], Awaitable[None]]
"""One attempt, which is told when it was begun; raises Failed, TimeoutError."""


class Probe:
    """One thing that one user does; `name` says what."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts: list[Attempt] = []
        self.under_way: set[float] = set()
        """When attempts were begun that have not ended."""
        self._failed = asyncio.Event()

    def end(self, begun: float, worked: bool = True) -> None:
        """Note what became of the attempt that was begun then."""
        self.under_way.discard(begun)
        self.attempts.append(Attempt(begun, time.perf_counter(), worked))

    @property
    def is_well(self) -> bool:
        """Whether the last attempt worked, and none is overdue."""
        overdue = time.perf_counter() - OVERDUE_SECONDS
        return all(attempt.worked for attempt in self.attempts[-1:]) and all(one > overdue for one in self.under_way)

    async def repeat(self, acts: Iterable[Act], every: float, over: asyncio.Event) -> None:
        """Begin one after the other until it is over, sooner after one that failed; return when all have ended."""
        turns = asyncio.Semaphore(UNDER_WAY_MAX)
        await asyncio.sleep(random.uniform(0, every))  # or all probes would try at the same moments
        async with asyncio.TaskGroup() as group:
            for act in acts:
                await turns.acquire()
                if over.is_set():
                    break
                group.create_task(self._attempt(act, turns))
                with suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await self._failed.wait()
                    await asyncio.sleep(RETRY_SECONDS)
                self._failed.clear()

    async def _attempt(self, act: Act, turns: asyncio.Semaphore) -> None:
        begun = time.perf_counter()
        self.under_way.add(begun)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS_MAX):
                await act(begun)
        except (Failed, TimeoutError):
            self.end(begun, worked=False)
            self._failed.set()
        else:
            self.end(begun)
        finally:
            turns.release()


class Users:
    """The users of one outage, whose names begin alike, and their probes; `urls` is where the chat is found."""

    def __init__(self, http: httpx2.AsyncClient, urls: Sequence[str], prefix: str) -> None:
        self.clients: list[Client] = []
        """Those who are to hold a socket."""
        self.probes: list[Probe] = []
        self._http = http
        self._urls = urls
        self._names = (f"{prefix}-{number}" for number in itertools.count())
        self._accepted: dict[str, Sequence[Client]] = {}
        """By messageUid: whose sockets it must reach."""
        self._work: list[Callable[[asyncio.Event], Coroutine[None, None, None]]] = []

    async def prepare(self) -> None:
        """Make them all, with all that they are about to do."""
        await self._talkers()
        for turn in range(len(self._urls)):
            await self._visitor(turn)
            await self._askers(turn)

    async def probing(self, over: asyncio.Event) -> None:
        """Do it, again and again, until it is over; raises Refused if a message is."""
        async with asyncio.TaskGroup() as group:
            for work in self._work:
                group.create_task(work(over))

    async def judge(self) -> None:
        """Wait until every accepted message has reached those whom it was for, and was answered; raises Spoilt."""
        end = time.perf_counter() + ARRIVAL_SECONDS
        while (missing := self._missing()) and time.perf_counter() < end:
            await asyncio.sleep(0.1)
        twice = [uid for client in self.clients for uid, times in _received(client).items() if times > 1]
        out_of_turn = [trouble for client in self.clients for trouble in client.out_of_turn]
        if missing or twice or out_of_turn:
            raise Spoilt(f"messages were lost: {missing}; came twice: {twice}; out of turn: {out_of_turn}")

    def _missing(self) -> Sequence[str]:
        got = {client: _received(client) for client in self.clients}
        lost = [uid for uid, due in self._accepted.items() if any(uid not in got[client] for client in due)]
        return lost + [f"{len(probe.under_way)} of {probe.name}" for probe in self.probes if probe.under_way]

    async def _talkers(self) -> None:
        """Each talks to the next, and the last to the first."""
        talkers = await self._made(TALKERS)
        self.clients += talkers
        for sender, recipient in zip(talkers, talkers[1:] + talkers[:1], strict=True):
            every = TALKERS * SECONDS["send"]
            self._messages("receive", every, sender, recipient, itertools.repeat(recipient.id))

    async def _visitor(self, turn: int) -> None:
        """Somebody without a socket, who finds the chat at one address first."""
        (client,) = await self._made(1, turn)
        one, other = self.clients[:2]
        await self._ask(one, "POST", "/messages-ms/conversations", {"participantIds": [other.id]})
        history = f"/messages-ms/conversations/{conversation_of([one.id, other.id])}/messages?limit=20"
        text = {"action": "setBody", "args": {"userId": client.id, "messageBody": "I'm away"}}
        name_and_password = {"username": client.username, "password": PASSWORD}
        self._requests("log in", turn, client, "POST", "/login", name_and_password)
        self._requests("history", turn, one, "GET", history)
        self._requests("people", turn, client, "GET", "/web-ms/people")
        self._requests("settings", turn, client, "POST", "/autoreply-ms/settings", text)

    async def _askers(self, turn: int) -> None:
        """Two whom scripts answer: one that is in use, and one after the other of those that never ran before."""
        users = await self._made(1 + NEW_SCRIPTS // len(self._urls), turn)
        for user in users:
            script = {"language": "python", "source": f"# {user.username}\n{ECHO}"}  # nobody else has the same
            await self._ask(user, "PUT", "/scripts-ms/scripts/incoming", script)
        asker, other = askers = await self._made(2, turn)
        self.clients += askers
        self._messages("script", self._every("script"), asker, asker, itertools.repeat(users[0].id))
        self._messages("new script", self._every("new script"), other, other, [user.id for user in users[1:]])

    async def _made(self, number: int, turn: int = 0) -> list[Client]:
        """Return so many users, signed in; the first of them looks first at the address whose turn it is."""
        made = [Client(self._rotated(turn + one), next(self._names), PASSWORD) for one in range(number)]
        turns = asyncio.Semaphore(SIGNING_IN_AT_ONCE)

        async def sign_in(client: Client) -> None:
            async with turns:
                await client.register()
                await client.log_in()

        await asyncio.gather(*map(sign_in, made))
        return made

    def _rotated(self, turn: int) -> list[str]:
        first = turn % len(self._urls)
        return [*self._urls[first:], *self._urls[:first]]

    async def _ask(self, client: Client, method: str, path: str, body: object, turn: int = 0) -> None:
        bearer = {"Authorization": f"Bearer {client.token}"}
        answer = await self._http.request(method, self._rotated(turn)[0] + path, headers=bearer, json=body)
        answer.raise_for_status()

    def _messages(self, heard_as: str, every: float, sender: Client, hearer: Client, to: Iterable[int]) -> None:
        """Have messages sent, and heard by the hearer: these themselves, or what answers them."""
        sent, heard = Probe("send"), Probe(heard_as)
        hearer.on_message = partial(_hear, hearer, heard)

        async def send(recipient: int, begun: float) -> None:
            heard.under_way.add(begun)
            self._accepted[await sender.send(repr(begun), recipient)] = (sender, hearer)

        self._add(sent, every, (partial(send, recipient) for recipient in to))
        self.probes.append(heard)

    def _requests(self, name: str, turn: int, client: Client, method: str, path: str, body: object = None) -> None:
        """Have a request made: at the next address after one at which it failed."""
        turns = itertools.count(turn)
        present = next(turns)

        async def request(begun: float) -> None:
            nonlocal present
            try:
                await self._ask(client, method, path, body, present)
            except httpx2.HTTPError as error:
                if isinstance(error, httpx2.HTTPStatusError) and error.response.status_code < 500:
                    raise
                present = next(turns)
                raise Failed from error

        self._add(Probe(name), self._every(name), itertools.repeat(request))

    def _every(self, name: str) -> float:
        """How often one does it, if there is one at each address."""
        return len(self._urls) * SECONDS[name]

    def _add(self, probe: Probe, every: float, acts: Iterable[Act]) -> None:
        self.probes.append(probe)
        self._work.append(partial(probe.repeat, acts, every))


def _hear(client: Client, heard: Probe, message: Mapping[str, Any]) -> None:
    """Take note of a message of somebody else: it says when its sender had begun."""
    if message["senderId"] != client.id:
        heard.end(float(message["body"]))


def _received(client: Client) -> Counter[str]:
    return Counter(message["messageUid"] for message in client.received)
