"""Whatever gets lost on the way to a socket, every reader sees every message once, and all see one order.

The bus loses, doubles, delays and swaps pushes; clients come and go, resume where they were, send again what was not
answered, and some of the time the chain fails although it did its work.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from chat import limits
from chat.adapters.bus_local import LocalBus
from chat.events import Event
from chat.problems import Unavailable, Unknown
from chat.pushes import Push
from chat.router.read import heads_of
from tests.web.conftest import ANNA, BERT, DEADLINE_SECONDS, USERS, Chat, Client

MESSAGES_EACH = 15


class LossyBus(LocalBus):
    """Does to pushes what a network may do, and leaves some publishers in the dark."""

    def __init__(self, random_: random.Random) -> None:
        super().__init__()
        self._random = random_
        self.is_calm = False
        self._held: list[Push] = []

    async def publish(self, events: Sequence[Event]) -> None:
        await super().publish(events)
        if not self.is_calm and self._random.random() < 0.1:
            raise Unknown

    async def push(self, instance: str, pushes: Sequence[Push]) -> None:
        for push in pushes:
            fate = self._random.random()
            if fate < 0.2:
                continue  # lost
            if fate < 0.4:
                self._held.append(push)  # late
                continue
            await super().push(instance, [push] * (2 if fate < 0.6 else 1))
        if self._held and self._random.random() < 0.5:
            self._random.shuffle(self._held)
            late, self._held = self._held, []
            await super().push(instance, late)


class Reader:
    """A user with a device that comes and goes, and remembers what it has seen and what was accepted."""

    def __init__(self, chat: Chat, user: int, random_: random.Random) -> None:
        self._chat = chat
        self._random = random_
        self.user = user
        self.seen: list[tuple[int, str, str, int]] = []
        """Number in the inbox, identifier, conversation, and number in the conversation."""
        self.unsent = [self._new() for _ in range(MESSAGES_EACH)]
        self.accepted: set[str] = set()
        self.codes: set[int | None] = set()
        """With which the server closed sockets; None if it did not."""

    def _new(self) -> tuple[str, list[int]]:
        others = [user for user in USERS if user != self.user]
        return str(uuid.uuid4()), self._random.sample(others, self._random.choice((1, 1, 2)))

    async def live(self) -> None:
        """Connect again and again, until everything is accepted."""
        while self.unsent:
            await self._stay(self._random.uniform(0.05, 0.5))

    async def _stay(self, seconds: float) -> None:
        last = self.seen[-1][0] if self.seen else 0
        async with self._chat.connect(self.user, last_seq=last) as client:
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.gather(self._write(client), self._read(client))
            except (TimeoutError, ConnectionClosed):
                self.codes.add(client.socket.close_code)

    async def _write(self, client: Client) -> None:
        for uid, recipients in list(self.unsent):
            await client.write(*recipients, uid=uid, text=uid)
            await asyncio.sleep(self._random.uniform(0, 0.05))

    async def _read(self, client: Client) -> None:
        while True:
            frame = await client.next("ReceiveMessage", "Accepted")
            if frame["type"] == "Accepted":
                self.accepted.add(frame["messageUid"])
                self.unsent = [one for one in self.unsent if one[0] != frame["messageUid"]]
                continue
            message = frame["message"]
            self.seen.append((frame["seq"], message["messageUid"], message["conversationId"], message["seq"]))

    async def catch_up(self, head: int) -> None:
        """Stay until everything has come; the server has to find out by itself what is missing."""
        last = self.seen[-1][0] if self.seen else 0
        async with self._chat.connect(self.user, last_seq=last) as client:
            reading = asyncio.create_task(self._read(client))
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not self.seen or self.seen[-1][0] < head:
                    await asyncio.sleep(0.02)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("seed", [1, 2])
async def test_everybody_sees_everything_once_in_one_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(limits, "CONFIRM_SECONDS", 0.5)
    bus = LossyBus(random.Random(seed))
    chat = Chat(tmp_path, bus)
    async with chat.running_back(), chat.running_web():
        readers = [Reader(chat, user, random.Random(seed * 100 + user)) for user in USERS]
        wanted = {uid: {reader.user, *to} for reader in readers for uid, to in reader.unsent}
        await asyncio.gather(*(reader.live() for reader in readers))
        bus.is_calm = True
        heads = {user: sum(user in readers_ for readers_ in wanted.values()) for user in USERS}
        await asyncio.gather(*(reader.catch_up(heads[reader.user]) for reader in readers))

    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for reader in readers:
        assert [seq for seq, *_ in reader.seen] == list(range(1, heads[reader.user] + 1))
        assert {uid for _, uid, *_ in reader.seen} == {uid for uid, who in wanted.items() if reader.user in who}
        by_conversation: dict[str, list[int]] = defaultdict(list)
        for _, uid, conversation, seq in reader.seen:
            by_conversation[conversation].append(seq)
            places[uid].add((conversation, seq))
        assert all(seqs == sorted(seqs) for seqs in by_conversation.values())
        assert reader.codes <= {None, 1013}
    assert all(len(place) == 1 for place in places.values())
    assert set().union(*(reader.accepted for reader in readers)) == set(wanted)


class Silent(LocalBus):
    async def push(self, instance: str, pushes: Sequence[Push]) -> None:
        return


async def test_while_it_cant_be_confirmed_who_is_there_lost_pushes_are_looked_for_and_once_more_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes when the presence is back, and is empty yet, must not wait for the next round."""
    monkeypatch.setattr(limits, "CONFIRM_SECONDS", 4.0)
    monkeypatch.setattr(limits, "RETRY_SECONDS_MAX", 0.1)
    chat = Chat(tmp_path, Silent())
    confirmed, is_away, failed = chat.presence.confirm, True, asyncio.Event()

    async def confirm(users: Collection[int]) -> None:
        failed.set()
        if is_away:
            raise Unavailable("Redis")
        await asyncio.gather(confirmed(users), anna.write(BERT, text="third"))
        await until_stored(chat, 3)

    monkeypatch.setattr(chat.presence, "confirm", confirm)
    async with chat.running_back(), chat.running_web(), chat.connect(ANNA) as anna, chat.connect(BERT) as bert:
        await failed.wait()
        next_round = asyncio.get_running_loop().time() + limits.CONFIRM_SECONDS
        for number, text in enumerate(("first", "second"), 1):
            await anna.write(BERT, text=text)
            assert await bert.texts(1) == [(number, text)]
        is_away = False
        assert await bert.texts(1) == [(3, "third")]
        assert asyncio.get_running_loop().time() < next_round


async def until_stored(chat: Chat, seq: int) -> None:
    while (await chat.database.read(heads_of, [BERT]))[BERT] < seq:
        await asyncio.sleep(0.01)


async def test_a_last_push_that_got_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONFIRM_SECONDS", 0.2)
    chat = Chat(tmp_path, Silent())
    async with chat.running_back(), chat.running_web(), chat.connect(ANNA) as anna, chat.connect(BERT) as bert:
        await anna.write(BERT)
        assert await bert.texts(1) == [(1, "hello")]
