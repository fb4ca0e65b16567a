"""The router over HTTP: conversations, history, read marks and inboxes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from chat.events import conversation_of
from chat.pushes import ReadMark
from chat.service import application
from chat.tokens import Tokens
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, signed_in
from tests.router.conftest import Router, event

ANNA, BERT, CARA = 1, 2, 3
SERVICE = {"Service-Key": SERVICE_KEY}


@pytest.fixture
async def http(router: Router) -> AsyncIterator[httpx2.AsyncClient]:
    tokens = Tokens(TOKEN_SECRET, SERVICE_KEY)
    async with served(application([router.service], tokens, [], router.database.is_there)) as client:
        yield client


async def conversations(http: httpx2.AsyncClient, user: int) -> list[dict[str, Any]]:
    response = await http.get("/messages-ms/conversations", headers=signed_in(user))
    assert response.status_code == 200
    return list(response.json()["conversations"])


async def test_conversations_come_newest_first_with_what_is_unread(router: Router, http: httpx2.AsyncClient) -> None:
    await router.store(
        event(ANNA, BERT, body="1", sent_at=1000),
        event(BERT, ANNA, body="2", sent_at=3000),
        event(CARA, ANNA, BERT, body="3", sent_at=2000),
    )
    pair, group = await conversations(http, ANNA)
    assert pair["conversationId"] == str(conversation_of((ANNA, BERT)))
    assert (pair["participantIds"], pair["lastSeq"], pair["readSeq"], pair["unread"]) == ([ANNA, BERT], 2, 0, 1)
    assert pair["lastMessage"]["body"] == "2"
    assert (group["participantIds"], group["lastSeq"], group["unread"]) == ([ANNA, BERT, CARA], 1, 1)
    assert [one["unread"] for one in await conversations(http, CARA)] == [0]


async def test_a_dropped_message_is_not_shown_to_who_dropped_it(router: Router, http: httpx2.AsyncClient) -> None:
    await router.store(event(ANNA, BERT, body="1").model_copy(update={"recipient_ids": ()}))
    (conversation,) = await conversations(http, BERT)
    assert (conversation["lastMessage"], conversation["lastSeq"], conversation["unread"]) == (None, 0, 0)
    path = f"/messages-ms/conversations/{conversation['conversationId']}/messages"
    assert (await http.get(path, headers=signed_in(BERT))).json() == {"messages": []}
    assert len((await http.get(path, headers=signed_in(ANNA))).json()["messages"]) == 1


async def test_history_comes_in_pages(router: Router, http: httpx2.AsyncClient) -> None:
    await router.store(*(event(ANNA, BERT, body=str(number)) for number in range(1, 6)))
    path = f"/messages-ms/conversations/{conversation_of((ANNA, BERT))}/messages"
    page = (await http.get(path, headers=signed_in(BERT), params={"limit": 2})).json()["messages"]
    assert [message["seq"] for message in page] == [4, 5]
    page = (await http.get(path, headers=signed_in(BERT), params={"limit": 9, "before": 4})).json()["messages"]
    assert [message["body"] for message in page] == ["1", "2", "3"]
    assert (await http.get(path, headers=signed_in(BERT), params={"limit": 201})).status_code == 422


async def test_only_participants_see_a_conversation(router: Router, http: httpx2.AsyncClient) -> None:
    await router.store(event(ANNA, BERT))
    seen = []
    for conversation in (conversation_of((ANNA, BERT)), uuid.uuid4()):
        path = f"/messages-ms/conversations/{conversation}"
        reading = await http.get(f"{path}/messages", headers=signed_in(CARA))
        marking = await http.post(f"{path}/read", headers=signed_in(CARA), json={"seq": 1})
        assert reading.status_code == marking.status_code == 403
        assert reading.json() == marking.json()
        assert (await http.get(f"{path}/messages")).status_code == 401
        seen.append(reading.json())
    assert seen[0] == seen[1]
    assert await conversations(http, CARA) == []


async def test_a_group_is_opened_once_and_its_first_title_stays(http: httpx2.AsyncClient) -> None:
    wanted = {"participantIds": [CARA, BERT]}
    first = await http.post("/messages-ms/conversations", headers=signed_in(ANNA), json=wanted)
    assert first.status_code == 201
    assert first.json()["participantIds"] == [ANNA, BERT, CARA]
    for title, expected in (("Choir", "Choir"), ("Other", "Choir")):
        again = await http.post("/messages-ms/conversations", headers=signed_in(BERT), json={
            "participantIds": [ANNA, CARA], "title": title
        })  # fmt: skip
        assert (again.status_code, again.json()["title"]) == (200, expected)
        assert again.json()["conversationId"] == first.json()["conversationId"]
    assert [one["title"] for one in await conversations(http, CARA)] == ["Choir"]


async def test_a_message_in_an_opened_group(router: Router, http: httpx2.AsyncClient) -> None:
    await http.post("/messages-ms/conversations", headers=signed_in(ANNA), json={"participantIds": [BERT]})
    await router.store(event(BERT, ANNA))
    (conversation,) = await conversations(http, ANNA)
    assert (conversation["participantIds"], conversation["unread"]) == ([ANNA, BERT], 1)


@pytest.mark.parametrize(
    "body", [{"participantIds": [0]}, {"participantIds": list(range(1, 103))}, {"participantIds": [2], "title": "a\nb"}]
)
async def test_a_group_that_makes_no_sense_is_refused(http: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    response = await http.post("/messages-ms/conversations", headers=signed_in(ANNA), json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_read_mark_only_goes_forward_and_not_past_the_end(router: Router, http: httpx2.AsyncClient) -> None:
    router.presence.held = {BERT: ["web-1"], ANNA: ["web-1"]}
    await router.store(*(event(ANNA, BERT) for _ in range(3)))
    path = f"/messages-ms/conversations/{conversation_of((ANNA, BERT))}/read"
    async with router.receive("web-1"):
        for asked, given in ((2, 2), (1, 2), (99, 3)):
            assert (await http.post(path, headers=signed_in(BERT), json={"seq": asked})).json() == {"seq": given}
    marks = [push for push in router.pushed["web-1"] if isinstance(push, ReadMark)]
    assert [(mark.user_id, mark.seq) for mark in marks] == [(BERT, 2), (BERT, 2), (BERT, 3)]
    assert [one["unread"] for one in await conversations(http, BERT)] == [0]


async def test_an_inbox_is_its_users_and_the_services(router: Router, http: httpx2.AsyncClient) -> None:
    await router.store(*(event(ANNA, BERT, body=str(number)) for number in range(3)))
    page = (await http.get("/messages-ms/inbox", headers=signed_in(BERT), params={"after": 1, "limit": 1})).json()
    assert [(entry["inboxSeq"], entry["message"]["body"]) for entry in page["entries"]] == [(2, "1")]
    assert page["lastInboxSeq"] == 3
    same = await http.get("/messages-ms/inbox", headers=SERVICE, params={"user": BERT, "after": 1, "limit": 1})
    assert same.json() == page
    assert (await http.get("/messages-ms/inbox", headers=signed_in(CARA))).json() == {"entries": [], "lastInboxSeq": 0}
    assert (await http.get("/messages-ms/inbox", headers=SERVICE)).status_code == 422
    assert (await http.get("/messages-ms/inbox", headers=signed_in(CARA), params={"user": BERT})).status_code == 422
    assert (
        await http.get("/messages-ms/inbox", headers={"Service-Key": "wrong"}, params={"user": 1})
    ).status_code == 401


async def test_heads_of_inboxes_are_for_services(router: Router, http: httpx2.AsyncClient) -> None:
    await router.store(event(ANNA, BERT), event(ANNA, BERT))
    found = await http.get("/messages-ms/inbox/heads", headers=SERVICE, params={"users": "2,3"})
    assert found.json() == {"heads": {"2": 2, "3": 0}}
    assert (
        await http.get("/messages-ms/inbox/heads", headers=signed_in(ANNA), params={"users": "2"})
    ).status_code == 401
    for users in ("", "x", "1,", ",".join(["1"] * 201), "9999999999"):
        wrong = await http.get("/messages-ms/inbox/heads", headers=SERVICE, params={"users": users})
        assert wrong.status_code == 422
