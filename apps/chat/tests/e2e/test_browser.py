"""Two people at two browsers use all that the page offers, in both deployments."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from deploy.classic import Classic
from deploy.process import workspace
from deploy.replicated import Replicated
from tests.e2e.browser.scene import set_up
from tests.e2e.browser.views import DESK, Walk, page_on
from tests.e2e.browser.visitor import WAIT_SECONDS, Visitor

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

Visit = Callable[..., Awaitable[Visitor]]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PICTURES = Path(__file__).parents[4] / "docs/images"
POLL_SECONDS = 0.1
LANGUAGES = ("Python", "Lua")

SHOUT = {
    "Python": """def handle(message):
    return {"messageBody": message["messageBody"].upper()}
""",
    "Lua": """function handle(message)
  return { messageBody = message.messageBody:upper() }
end
""",
}
GUARD = {
    "Python": """def handle(message):
    if "spam" in message["messageBody"].lower():
        return {"action": "drop", "reply": []}
    return {"action": "forward", "reply": [{"to": message["senderID"], "message": "Noted."}]}
""",
    "Lua": """function handle(message)
  if message.messageBody:lower():find("spam") then return { action = "drop", reply = {} } end
  return { action = "forward", reply = { { to = message.senderID, message = "Noted." } } }
end
""",
}
LOOP = {
    "Python": """def handle(message):
    while True: pass
""",
    "Lua": """function handle(message)
  while true do end
end
""",
}
THIEF = {
    "Python": """def handle(message):
    return {"messageBody": open("/etc/passwd").read()}
""",
    "Lua": """function handle(message)
  return { messageBody = io.open("/etc/passwd"):read("a") }
end
""",
}
NEVER_LOADED = {"Python": "while True: pass\n", "Lua": "while true do end\n"}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["replicated", "classic"])
async def chat(request: pytest.FixtureRequest) -> AsyncIterator[Replicated | Classic]:
    with workspace() as directory:
        async with Replicated(directory) if request.param == "replicated" else Classic(directory) as deployment:
            yield deployment


@pytest.fixture(scope="module")
def url(chat: Replicated | Classic) -> str:
    return chat.url if isinstance(chat, Replicated) else chat.gateway.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        await chromium.close()


numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, url: str) -> AsyncIterator[Visit]:
    """Have somebody arrive, in a browser profile of their own; nobody's page may have had troubles in the end."""
    visitors: list[Visitor] = []
    async with AsyncExitStack() as stack:

        async def arrive(name: str, surname: str) -> Visitor:
            page = await stack.enter_async_context(page_on(browser, **DESK))
            visitor = Visitor(page, url, f"{name.lower()}{next(numbers)}", (name, surname))
            visitors.append(visitor)
            await visitor.arrive()
            return visitor

        yield arrive
    assert not [trouble for visitor in visitors for trouble in visitor.troubles]


@pytest_asyncio.fixture(loop_scope="module")
async def pair(visit: Visit) -> tuple[Visitor, Visitor]:
    """Two who have registered, and opened their conversation."""
    anna, bert = await asyncio.gather(visit("Anna", "Bell"), visit("Bert", "Chase"))
    await asyncio.gather(anna.register(), bert.register())
    await asyncio.gather(anna.talk_to(bert), bert.talk_to(anna))
    return anna, bert


@pytest.mark.parametrize("chat", ["replicated"], indirect=True, scope="module")
async def test_every_view_is_accessible_in_light_in_dark_and_on_a_phone(visit: Visit, browser: Browser) -> None:
    """The page is the same in both deployments. With SCREENSHOTS=1 it leaves the pictures of the docs."""
    walk = Walk(PICTURES if os.environ.get("SCREENSHOTS") == "1" else None)
    anna, bert, cara = [await visit(*name) for name in (("Anna", "Bell"), ("Bert", "Chase"), ("Cara", "Dunn"))]
    await walk.door(anna)
    await set_up(anna, bert, cara)
    conversation = anna.page.url
    await walk.inside(anna)
    await walk.phone(browser, anna, conversation)
    assert walk.findings == []


async def test_two_people_register_log_in_and_talk(visit: Visit) -> None:
    anna, bert = await asyncio.gather(visit("Anna", "Bell"), visit("Bert", "Chase"))
    await asyncio.gather(anna.register(), bert.register())
    await bert.log_out()
    await bert.log_in()
    await anna.talk_to(bert)
    await anna.say("Hello Bert, <b>bold</b> as ever?")
    thread = bert.page.get_by_role("region", name="Conversations").get_by_role("link", name="Anna Bell")
    await expect(thread).to_contain_text("1 unread")
    await thread.click()
    await expect(bert.message("Hello Bert, <b>bold</b> as ever?")).to_be_visible()
    await expect(thread).not_to_contain_text("unread")
    await bert.say("Always.")
    for one in (anna, bert):
        await expect(one.bodies).to_have_text(["Hello Bert, <b>bold</b> as ever?", "Always."])
        await one.page.reload()
        await expect(one.bodies).to_have_text(["Hello Bert, <b>bold</b> as ever?", "Always."])


async def test_an_auto_reply_answers_at_once(pair: tuple[Visitor, Visitor]) -> None:
    anna, bert = pair
    await bert.answer_automatically("Back on Monday.")
    await anna.say("Are you there?")
    await expect(anna.message("Back on Monday.")).to_contain_text("auto-reply")
    await expect(anna.bodies).to_have_text(["Are you there?", "Back on Monday."])


@pytest.mark.parametrize("language", LANGUAGES)
async def test_scripts_change_answer_and_drop_messages(pair: tuple[Visitor, Visitor], language: str) -> None:
    anna, bert = pair
    await anna.open_script("outgoing", language, SHOUT[language])
    await expect(await anna.try_script("quietly")).to_contain_text('"messageBody": "QUIETLY"')
    await bert.open_script("incoming", language, GUARD[language])
    await expect(await bert.try_script("Spam, spam!")).to_contain_text('"action": "drop"')
    await asyncio.gather(anna.save_script(), bert.save_script())
    await asyncio.gather(anna.talk_to(bert), bert.talk_to(anna))
    await anna.send("hello")
    await expect(anna.bodies).to_have_text(["HELLO", "Noted."])
    await anna.send("spam")
    await expect(anna.message("SPAM")).to_contain_text("Delivered")
    await anna.send("bye")
    await expect(anna.bodies).to_have_text(["HELLO", "Noted.", "SPAM", "BYE", "Noted."])
    await expect(bert.bodies).to_have_text(["HELLO", "Noted.", "BYE", "Noted."])


@pytest.mark.parametrize("language", LANGUAGES)
async def test_hostile_scripts_are_refused_or_stopped_and_harm_nobody(
    pair: tuple[Visitor, Visitor], language: str
) -> None:
    anna, bert = pair
    await anna.open_script("outgoing", language, NEVER_LOADED[language])
    await anna.page.get_by_role("button", name="Save script").click()
    await expect(anna.page.get_by_role("alert").filter(has_text="took more than")).to_be_visible()
    cases = {"ran too long": LOOP, "isn't allowed": THIEF}
    for number, (what, sources) in enumerate(cases.items(), 1):
        await anna.open_script("outgoing", language, sources[language])
        await expect(await anna.try_script("Hello")).to_contain_text(what)
        await anna.save_script()
        await anna.talk_to(bert)
        await anna.say(f"message {number}")
    for one in pair:
        await expect(one.bodies).to_have_text(["message 1", "message 2"])


@pytest.mark.parametrize("chat", ["replicated"], indirect=True, scope="module")
async def test_who_loses_their_copy_comes_back_and_misses_nothing(
    chat: Replicated, pair: tuple[Visitor, Visitor]
) -> None:
    anna, bert = pair
    await anna.say("before, from Anna")
    await bert.say("before, from Bert")
    async with anna.loses_connection():
        await chat.kill(await holder(chat, anna))
        await asyncio.gather(anna.send("meanwhile, from Anna"), bert.send("meanwhile, from Bert"))
    await asyncio.gather(anna.is_connected(), bert.is_connected())
    await asyncio.gather(anna.say("after, from Anna"), bert.say("after, from Bert"))
    sent = sorted(f"{when}, from {who}" for when in ("before", "meanwhile", "after") for who in ("Anna", "Bert"))
    await asyncio.gather(*(expect(one.bodies).to_have_count(len(sent)) for one in pair))
    seen = await anna.bodies.all_text_contents()
    assert sorted(seen) == sent
    assert await bert.bodies.all_text_contents() == seen


async def holder(chat: Replicated, visitor: Visitor) -> str:
    """Return the copy that has the visitor's socket, as soon as the copies know of it."""
    path = chat.database(chat.replicas()[0]["name"])
    query = "SELECT instance FROM presence_held JOIN users ON users.id = user_id WHERE username = ?"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        async with asyncio.timeout(WAIT_SECONDS):
            while (found := database.execute(query, (visitor.username,)).fetchone()) is None:
                await asyncio.sleep(POLL_SECONDS)
    return str(found[0])
