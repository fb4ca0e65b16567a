"""Three people in the middle of their day, so that each view has something to show."""

from __future__ import annotations

import asyncio

from playwright.async_api import expect

from tests.e2e.browser.visitor import Visitor

TALK = (
    "Morning! Is the room booked for Thursday?",
    "It is, from ten. Here is the plan: https://example.org/plan",
    "Great. I only have the numbers left to check.",
    "Take your time, we need them by noon.",
    "Noon it is. Shall I bring the printed slides?",
    "No need: Cara shows them from her machine. But bring the good coffee.",
    "Always.",
)
AWAY = "I'm travelling until Monday. If it can't wait, please ask Cara."
SCRIPT = """def handle(message):
    text = message["messageBody"].lower()
    if "win a prize" in text:
        return {"action": "drop", "reply": []}
    if "urgent" in text:
        reply = [{"to": message["senderID"], "message": "On my way."}]
        return {"action": "forward", "reply": reply}
    return {"action": "forward", "reply": []}
"""


async def set_up(anna: Visitor, bert: Visitor, cara: Visitor) -> None:
    """Have Anna and Bert talk, a group, an unread message, an auto-reply and a script; Anna looks at her talk."""
    await asyncio.gather(anna.register(), bert.register(), cara.register())
    await anna.answer_automatically(AWAY)
    await anna.page.get_by_role("switch", name="Answer automatically").click()
    await anna.open_script("incoming", "Python", SCRIPT)
    await anna.save_script()
    await cara.talk_to(bert)
    await cara.create_group("Release", anna, bert)
    await cara.say("The notes for the release are ready. Could you two have a look?")
    await asyncio.gather(anna.talk_to(bert), bert.talk_to(anna))
    for number, text in enumerate(TALK):
        one, other = (anna, bert) if number % 2 else (bert, anna)
        await one.say(text)
        await expect(other.message(text)).to_be_visible()
    await anna.look_until(anna.page.get_by_text("online", exact=True))
