"""Scripts that are uploaded over the socket, to a real scripts service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat.adapters.bus_local import LocalBus
from chat.deployments import process
from tests.conftest import served, settings, signed_in
from tests.web.conftest import ANNA, Chat

GOOD = 'def handle(message):\n    return {"messageBody": message["messageBody"].upper()}\n'


@pytest.fixture
async def chat(tmp_path: Path, bus: LocalBus) -> AsyncIterator[Chat]:
    chat = Chat(tmp_path, bus)
    urls = {"database_url": f"sqlite:///{tmp_path / 'scripts.db'}", "sources_url": f"file:{tmp_path / 'sources'}"}
    app = process(settings(**urls), ["scripts"])
    async with served(app) as scripts, chat.running_back(), chat.running_web(scripts_url=str(scripts.base_url)):
        chat.scripts = scripts
        yield chat


async def test_a_script_is_installed_for_its_user(chat: Chat) -> None:
    snippet = {"type": "UploadHandlerSnippet", "direction": "outgoing", "language": "python", "fileData": GOOD}
    async with chat.connect(ANNA) as anna:
        await anna.say(snippet)
        assert await anna.next("CodeSnippetUploaded") == {"type": "CodeSnippetUploaded", "direction": "outgoing"}
    found = await chat.scripts.get("/scripts-ms/scripts/outgoing", headers=signed_in(ANNA))
    assert found.json()["source"] == GOOD


async def test_a_script_that_is_no_good_is_refused_with_its_line(chat: Chat) -> None:
    snippet = {"type": "UploadHandlerSnippet", "direction": "incoming", "language": "python"}
    async with chat.connect(ANNA) as anna:
        await anna.say({**snippet, "fileData": "def handle(message):\n    return {\n"})
        refused = await anna.next("CodeSnippetRefused")
        assert refused["direction"] == "incoming"
        assert refused["line"] >= 2
        assert refused["code"]
        assert refused["title"]
        for wrong in ({**snippet, "fileData": 7}, {**snippet, "fileData": GOOD, "language": "cobol"}):
            await anna.say(wrong)
            assert (await anna.next("CodeSnippetRefused"))["code"] == "invalid"


async def test_a_scripts_service_that_is_away_is_told(tmp_path: Path, bus: LocalBus) -> None:
    chat = Chat(tmp_path, bus)
    nowhere = "http://127.0.0.1:9"
    async with chat.running_back(), chat.running_web(scripts_url=nowhere), chat.connect(ANNA) as anna:
        await anna.say({"type": "UploadHandlerSnippet", "direction": "incoming", "language": "lua", "fileData": ""})
        assert (await anna.next("CodeSnippetRefused"))["code"] == "unavailable"
