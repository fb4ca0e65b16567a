"""The socket: who may open one, what is said over it, and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chat import limits
from chat.adapters.bus_local import LocalBus
from chat.events import Event, conversation_of
from chat.problems import Refused, Unavailable, Unknown
from tests.web.conftest import ANNA, BERT, CARA, DEADLINE_SECONDS, Chat, Client, token

ELSEWHERE = "https://evil.example"


async def refusal(url: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, **{"proxy": None, **options})
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b"")["code"]


async def online(chat: Chat, expected: set[int]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await chat.presence.online() != expected:
            await asyncio.sleep(0.02)


async def test_only_this_page_may_open_a_socket(chat: Chat) -> None:
    good = ["chat", token(ANNA)]
    assert await refusal(chat.url, subprotocols=good, origin=ELSEWHERE) == (403, "bad_origin")
    assert await refusal(chat.url, subprotocols=good, origin="null") == (403, "bad_origin")
    async with chat.connect(ANNA, origin=str(chat.http.base_url).rstrip("/")):
        pass


async def test_other_origins_can_be_allowed(tmp_path: Path, bus: LocalBus) -> None:
    chat = Chat(tmp_path, bus)
    async with chat.running_back(), chat.running_web(origins=(ELSEWHERE,)), chat.connect(ANNA, origin=ELSEWHERE):
        pass


@pytest.mark.parametrize(
    "offered", [None, ["chat"], [token(ANNA)], ["chat", "x.y.z"], ["chat", token(ANNA, -1)], ["chat", "a", "b"]]
)
async def test_without_a_good_token_there_is_no_socket(chat: Chat, offered: list[str] | None) -> None:
    assert await refusal(chat.url, subprotocols=offered) == (401, "unauthorized")


async def test_a_place_that_is_none_is_refused(chat: Chat) -> None:
    for wrong in ("-1", "x", "", "1.5", str(1 << 53)):
        url = f"{chat.url}?last_seq={wrong}"
        assert await refusal(url, subprotocols=["chat", token(ANNA)]) == (422, "invalid")


async def test_there_are_only_so_many_sockets(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SOCKETS_MAX", 1)
    async with chat.connect(ANNA):
        assert await refusal(chat.url, subprotocols=["chat", token(BERT)]) == (503, "busy")


async def test_a_message_reaches_all_devices_of_both(chat: Chat) -> None:
    async with chat.connect(ANNA) as one, chat.connect(ANNA) as other, chat.connect(BERT) as bert:
        uid = await one.write(BERT, text="<b>Grüße</b>")
        assert (await one.next("Accepted"))["messageUid"] == uid
        frames = [await client.next("ReceiveMessage") for client in (other, bert)]
        assert frames[0] == frames[1]
        message = frames[0]["message"]
        assert (frames[0]["seq"], frames[0]["userId"], frames[0]["msg"]) == (1, ANNA, "<b>Grüße</b>")
        assert message["messageUid"] == uid
        assert message["conversationId"] == str(conversation_of((ANNA, BERT)))
        assert (message["seq"], message["recipientIds"], message["body"]) == (1, [BERT], "<b>Grüße</b>")


async def test_a_message_that_is_sent_again_comes_once(chat: Chat) -> None:
    async with chat.connect(BERT) as bert:
        uid = str(uuid.uuid4())
        for _ in range(2):
            async with chat.connect(ANNA) as anna:
                await anna.write(BERT, uid=uid)
                assert (await anna.next("Accepted"))["messageUid"] == uid
        async with chat.connect(ANNA) as anna:
            await anna.write(BERT, text="next")
        assert await bert.texts(2) == [(1, "hello"), (2, "next")]


async def test_messages_of_one_socket_stay_in_their_order(chat: Chat) -> None:
    async with chat.connect(ANNA) as anna, chat.connect(BERT) as bert:
        for number in range(40):
            await anna.write(BERT, text=str(number))
        assert await bert.texts(40) == [(number + 1, str(number)) for number in range(40)]


async def test_a_note_to_oneself(chat: Chat) -> None:
    async with chat.connect(ANNA) as anna:
        await anna.write(conversationId=str(conversation_of((ANNA,))))
        assert await anna.texts(1) == [(1, "hello")]


async def test_whoever_comes_back_gets_what_was_missed(chat: Chat) -> None:
    async with chat.connect(ANNA) as anna:
        async with chat.connect(BERT) as bert:
            await anna.write(BERT, text="1")
            assert await bert.texts(1) == [(1, "1")]
        for number in range(2, 5):
            await anna.write(BERT, text=str(number))
            await anna.next("Accepted")
        async with chat.connect(BERT, last_seq=1) as bert:
            assert bert.last_seq == 1
            assert await bert.texts(3) == [(2, "2"), (3, "3"), (4, "4")]
        async with chat.connect(BERT) as bert:
            assert bert.last_seq == 4
        async with chat.connect(BERT, last_seq=99) as bert:
            assert bert.last_seq == 4
            await anna.write(BERT, text="5")
            assert await bert.texts(1) == [(5, "5")]


async def test_a_long_absence_is_read_page_by_page(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_PAGE_ENTRIES", 7)
    monkeypatch.setattr(limits, "SOCKET_FRAMES_MAX", 10)
    async with chat.connect(ANNA) as anna:
        for number in range(1, 51):
            await anna.write(BERT, text=str(number))
            await anna.next("Accepted")
    async with chat.connect(BERT, last_seq=0) as bert:
        assert await bert.texts(50) == [(number, str(number)) for number in range(1, 51)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"message": ""}, "invalid"),
        ({"message": "ä" * 2049}, "invalid"),
        ({"message": "\0"}, "invalid"),
        ({"message": "\ud800"}, "invalid"),
        ({"message": 7}, "invalid"),
        ({"destinationUsers": "2"}, "invalid"),
        ({"destinationUsers": [2, 2]}, "invalid"),
        ({"destinationUsers": [0]}, "invalid"),
        ({"destinationUsers": list(range(2, 103))}, "invalid"),
        ({"conversationId": "x"}, "invalid"),
        ({"unknown": 1}, "invalid"),
        ({"destinationUsers": [BERT, 999]}, "no_such_user"),
    ],
)
async def test_a_message_that_makes_no_sense_is_refused(chat: Chat, changes: dict[str, Any], code: str) -> None:
    async with chat.connect(ANNA) as anna:
        uid = str(uuid.uuid4())
        good = {"type": "SendMessage", "messageUid": uid, "message": "x", "destinationUsers": [BERT]}
        await anna.say({**good, **changes})
        refused = await anna.next("Refused", "Accepted")
        assert (refused["type"], refused["messageUid"], refused["code"]) == ("Refused", uid, code)
        await anna.say(good)
        assert (await anna.next("Refused", "Accepted"))["type"] == "Accepted"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'{"type": "Pong"}', 1003),
        ("hello", 1003),
        ("[]", 1003),
        ("[" * 60_000, 1003),
        ("{}", 1003),
        ('{"type": "Fly"}', 1003),
        ('{"type": ["SendMessage"]}', 1003),
        ('{"type": "SendMessage"}', 1008),
        ('{"type": "SendMessage", "messageUid": 1}', 1008),
        ('{"type": "Pong", "more": 1}', 1008),
        ('{"type": "Renew", "token": 1}', 1008),
        ('{"type": "UploadHandlerSnippet", "direction": 1}', 1008),
        (json.dumps({"type": "Renew", "token": "x.y.z"}), 4401),
        (json.dumps({"type": "Renew", "token": token(BERT)}), 1008),
        ("x" * (limits.FRAME_BYTES_MAX + 1), 1009),
    ],
)
async def test_misuse_ends_the_socket(chat: Chat, said: str | bytes, code: int) -> None:
    async with chat.connect(ANNA) as anna:
        await anna.socket.send(said)
        assert await anna.closed() == code


async def test_fragments_count_together(chat: Chat) -> None:
    async with chat.connect(ANNA) as anna:
        await anna.socket.send(["x" * 40_000, "x" * 40_000])
        assert await anna.closed() == 1009


@pytest.mark.parametrize(
    ("frame", "code"), [(b"\x81\x82\0\0\0\0\xc3\x28", 1007), (b"\x81\x02hi", 1002), (b"\xf1\x80\0\0\0\0", 1002)]
)
async def test_bytes_that_are_no_good_end_the_socket(chat: Chat, frame: bytes, code: int) -> None:
    async with chat.connect(ANNA) as anna:
        anna.socket.transport.write(frame)
        assert await anna.closed() == code


async def test_a_conversation_of_others_ends_the_socket(chat: Chat) -> None:
    async with chat.connect(ANNA) as anna:
        await anna.write(BERT, conversationId=str(conversation_of((BERT, CARA))))
        assert await anna.closed() == 4403


async def test_a_flood_ends_the_socket(chat: Chat) -> None:
    async with chat.connect(ANNA) as anna:
        for _ in range(limits.SOCKET_FRAMES_BURST + limits.SOCKET_FRAMES_PER_SECOND):
            await anna.say({"type": "Pong"})
        assert await anna.closed() == 1008


class StuckBus(LocalBus):
    """Takes nothing until it is told to, and then as told."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.failures: list[Exception] = []

    async def publish(self, events: Sequence[Event]) -> None:
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        await super().publish(events)


@pytest.fixture
async def stuck(tmp_path: Path) -> Any:
    chat = Chat(tmp_path, StuckBus())
    async with chat.running_back(), chat.running_web():
        yield chat


async def test_too_many_unanswered_requests_end_the_socket(stuck: Chat) -> None:
    async with stuck.connect(ANNA) as anna:
        for _ in range(limits.UNANSWERED_MAX + 1):
            await anna.write(BERT)
        assert await anna.closed() == 1008


async def test_what_fails_for_a_while_is_tried_again(stuck: Chat) -> None:
    assert isinstance(stuck.bus, StuckBus)
    stuck.bus.failures = [Unavailable("Kafka"), Unknown()]
    stuck.bus.go.set()
    async with stuck.connect(ANNA) as anna:
        await anna.write(BERT)
        assert (await anna.next("Accepted", "Refused"))["type"] == "Accepted"


@pytest.mark.parametrize(("failure", "code"), [(Unavailable("Kafka"), "unavailable"), (Unknown(), "outcome_unknown")])
async def test_what_fails_for_long_is_refused(
    stuck: Chat, monkeypatch: pytest.MonkeyPatch, failure: Refused, code: str
) -> None:
    assert isinstance(stuck.bus, StuckBus)
    monkeypatch.setattr(limits, "COMMAND_SECONDS_MAX", 0.2)
    stuck.bus.failures = [failure] * 99
    stuck.bus.go.set()
    async with stuck.connect(ANNA) as anna:
        uid = await anna.write(BERT)
        refused = await anna.next("Accepted", "Refused")
        assert (refused["type"], refused["code"]) == ("Refused", code)
        stuck.bus.failures = []
        await anna.write(BERT, uid=uid)
        assert (await anna.next("Accepted", "Refused"))["type"] == "Accepted"


async def test_a_refusal_meets_only_the_one_to_blame(stuck: Chat) -> None:
    """All but the first few messages travel together, for the bus is stuck with those."""
    assert isinstance(stuck.bus, StuckBus)
    clients = [stuck.connect(user) for user in range(1, 8)]
    for client in clients:
        await client.__aenter__()
        await client.write(8, text="bad" if client is clients[-1] else "good")
    publish = LocalBus.publish

    async def picky(events: Sequence[Event]) -> None:
        await stuck.bus.go.wait()  # type: ignore[attr-defined]
        if any(event.message_body == "bad" for event in events):
            raise Refused(413, "too_large", "No")
        await publish(stuck.bus, events)

    stuck.bus.publish = picky  # type: ignore[method-assign]
    stuck.bus.go.set()
    answers = [(await client.next("Accepted", "Refused"))["type"] for client in clients]
    assert answers == ["Accepted"] * 6 + ["Refused"]
    for client in clients:
        await client.__aexit__()


async def test_an_expired_token_ends_the_socket_unless_it_is_renewed(chat: Chat) -> None:
    soon = ["chat", token(ANNA, 10)]
    async with chat.connect(ANNA, subprotocols=soon) as expiring, chat.connect(ANNA, subprotocols=soon) as renewed:
        await renewed.say({"type": "Renew", "token": token(ANNA)})
        assert await expiring.closed() == 4401
        await renewed.write(BERT)
        assert (await renewed.next("Accepted"))["type"] == "Accepted"


async def test_a_silent_client_is_pinged_and_then_ended(tmp_path: Path, bus: LocalBus) -> None:
    chat = Chat(tmp_path, bus)
    async with chat.running_back(), chat.running_web(socket_seconds=4.0), chat.connect(ANNA) as anna:
        for _ in range(2):
            assert await anna.next("Ping") == {"type": "Ping"}
            await anna.say({"type": "Pong"})
        assert await anna.closed() == 1013


async def test_a_slow_reader_is_told_to_come_again(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers between here and there take some megabytes; behind them, frames wait in the socket's queue."""
    monkeypatch.setattr(limits, "SOCKET_FRAMES_MAX", 50)
    monkeypatch.setattr(limits, "SOCKET_FRAMES_BURST", 10_000)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((chat.http.base_url.host, chat.http.base_url.port))
    async with chat.connect(BERT, sock=slow, max_queue=1, ping_interval=None) as bert, chat.connect(ANNA) as anna:
        await online(chat, {ANNA, BERT})
        written = 0
        while BERT in await chat.presence.online():
            assert written < 5000
            for _ in range(20):
                await anna.write(BERT, text="x" * 4000)
            for _ in range(20):
                await anna.next("Accepted")
            written += 20
        assert await bert.closed() == 1013


async def test_the_end_of_the_server_is_told(tmp_path: Path, bus: LocalBus) -> None:
    chat = Chat(tmp_path, bus)
    async with chat.running_back():
        async with chat.running_web():
            anna: Client = await chat.connect(ANNA).__aenter__()
        assert await anna.closed() == 1012


async def test_presence_follows_the_first_and_the_last_socket(chat: Chat) -> None:
    async with chat.connect(ANNA):
        async with chat.connect(ANNA), chat.connect(BERT):
            await online(chat, {ANNA, BERT})
        await online(chat, {ANNA})
    await online(chat, set())
