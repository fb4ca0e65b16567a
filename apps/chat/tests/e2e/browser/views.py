"""A walk through all views of the page: axe-core sees each in light and in dark, and so does the camera if any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.e2e.browser.accessibility import grave_findings, prepare
from tests.e2e.browser.visitor import Visitor

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", "locale": "en-GB"}
PHONE: dict[str, Any] = {**DESK, "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SETTINGS = {
    "Appearance": ("radio", "Dark"),
    "Auto-reply": ("button", "Save answer"),
    "Outgoing script": ("textbox", "Script"),
    "Incoming script": ("textbox", "Script"),
}
"""Each section, and what is there once it is loaded."""
PICTURED = "Incoming script"


class Walk:
    """Collects what axe finds grave in `findings`; pictures go to the directory, unless there is none."""

    def __init__(self, pictures: Path | None) -> None:
        self.findings: list[str] = []
        self._pictures = pictures

    async def see(self, page: Page, view: str, picture: str | None = None) -> None:
        """Look at what `page` shows, in both colours; there may be a picture of each."""
        for colours in ("light", "dark"):
            await page.emulate_media(color_scheme=colours)
            await self._look(page, f"{view}, {colours}", picture and f"{picture}-{colours}")

    async def _look(self, page: Page, view: str, picture: str | None) -> None:
        self.findings += [f"{view}: {finding}" for finding in await grave_findings(page)]
        if picture and self._pictures:
            await page.screenshot(path=self._pictures / f"chat-{picture}.png", animations="disabled")

    async def door(self, visitor: Visitor) -> None:
        """See how one comes in; stays outside."""
        await self.see(visitor.page, "sign-in", "sign-in")
        await visitor.page.get_by_role("button", name="Create an account").click()
        await self.see(visitor.page, "registration")
        await visitor.arrive()

    async def inside(self, visitor: Visitor) -> None:
        """See a conversation, which is open, and then all that there is besides."""
        page = visitor.page
        await self.see(page, "conversation", "conversation")
        for section, (role, name) in SETTINGS.items():
            await visitor.settings(section)
            await expect(page.get_by_role(role, name=name, exact=True)).to_be_visible()  # type: ignore[arg-type]
            await self.see(page, section, "settings" if section == PICTURED else None)
        await expect(await visitor.try_script("Is this urgent?")).to_contain_text("On my way.")
        await self.see(page, "a script's test run")
        await page.get_by_role("link", name="Notices").click()
        await self.see(page, "notices")
        for opener in ("New group", "Keyboard shortcuts"):
            await page.get_by_role("button", name=opener).click()
            await self.see(page, opener)
            await page.get_by_role("button", name="Close").click()

    async def phone(self, browser: Browser, visitor: Visitor, conversation: str) -> None:
        """See it again on the visitor's phone; `conversation` is the address of one."""
        async with page_on(browser, **PHONE) as page:
            await page.goto(visitor.url)
            await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
            await self._look(page, "sign-in, phone", "sign-in-phone")
        async with page_on(browser, **PHONE, storage_state=await visitor.context.storage_state()) as page:
            await page.goto(visitor.url)
            await expect(page.get_by_role("region", name="People").get_by_role("listitem").first).to_be_visible()
            await self._look(page, "list, phone", None)
            await page.goto(conversation)
            await expect(page.get_by_role("region", name="Messages").get_by_role("listitem").first).to_be_visible()
            await self._look(page, "conversation, phone", "conversation-phone")
            await page.goto(f"{visitor.url}/#/settings/incoming")
            await expect(page.get_by_role("textbox", name="Script")).to_be_visible()
            await self._look(page, "settings, phone", "settings-phone")


@asynccontextmanager
async def page_on(browser: Browser, **device: Any) -> AsyncIterator[Page]:
    """Have a page in a browser profile of its own, which axe-core can look at."""
    context = await browser.new_context(**device)
    try:
        await prepare(context)
        yield await context.new_page()
    finally:
        await context.close()
