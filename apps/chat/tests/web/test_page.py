"""The page, its headers, and the list of people."""

from __future__ import annotations

from chat.pushes import Notice, Notification, ReadMark
from tests.conftest import signed_in
from tests.web.conftest import ANNA, BERT, USERS, Chat


async def test_a_page_that_is_not_built_says_what_to_do(chat: Chat) -> None:
    response = await chat.http.get("/")
    assert (response.status_code, response.json()["code"]) == (503, "not_built")
    assert "make chat" in response.json()["hint"]


async def test_the_page_is_asked_for_anew_and_its_assets_never(chat: Chat) -> None:
    (chat.page / "assets").mkdir(parents=True)
    (chat.page / "index.html").write_text("<!doctype html>")
    (chat.page / "secret.txt").write_text("secret")
    (chat.page / "assets/main-1.js").write_text("1")
    page, asset = await chat.http.get("/"), await chat.http.get("/assets/main-1.js")
    assert (page.status_code, page.text, page.headers["cache-control"]) == (200, "<!doctype html>", "no-cache")
    assert (asset.status_code, asset.text) == (200, "1")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    for response in (page, asset):
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    for missing in (
        "/assets/none.js",
        "/assets/",
        "/assets/..%2fsecret.txt",
        "/assets/%2e%2e/secret.txt",
        "/secret.txt",
    ):
        response = await chat.http.get(missing)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


async def test_people_are_listed_with_who_is_online(chat: Chat) -> None:
    assert (await chat.http.get("/web-ms/people")).status_code == 401
    async with chat.connect(BERT):
        await chat.presence.confirm([BERT])
        people = (await chat.http.get("/web-ms/people", headers=signed_in(ANNA))).json()["people"]
    assert [person["id"] for person in people] == list(USERS)
    assert [person["id"] for person in people if person["online"]] == [BERT]
    assert people[0] == {"id": 1, "username": "user1", "name": "user1", "surname": "", "online": False}


async def test_notices_and_read_marks_reach_the_devices_of_their_user(chat: Chat) -> None:
    notification = Notification(
        id="00000000-0000-0000-0000-000000000001", number=1, kind="login", body="You logged in", at=5
    )
    mark = ReadMark(user_id=ANNA, conversation_id="00000000-0000-0000-0000-000000000002", seq=7)
    async with chat.connect(ANNA) as one, chat.connect(ANNA) as other:
        await chat.bus.push("local", [Notice(user_id=ANNA, notification=notification), mark])
        for device in (one, other):
            assert (await device.next("Notice"))["notification"] == notification.model_dump(mode="json", by_alias=True)
            assert await device.next("Read") == {"type": "Read", "conversationId": str(mark.conversation_id), "seq": 7}
