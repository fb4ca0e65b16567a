"""A user at a browser of their own: what people do on the page, by the names that they and screen readers find there.

Whatever an action leads to is waited for, WAIT_SECONDS at most. `troubles` collects what must never happen in a page:
errors that nobody caught, and what its content security policy refused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import BrowserContext, ConsoleMessage, Error, Locator, Page, expect
from playwright.async_api import TimeoutError as NotInTime

WAIT_SECONDS = 30.0
"""For what takes a second when the machine is idle."""
LOOK_AGAIN_SECONDS = 1.0
PASSWORD = "a password for everybody"
FILE_NAMES = {"Python": "script.py", "Lua": "script.lua"}
POLICY = "Content Security Policy"
CONNECTION_LOST = """new Promise((resolve) => {
  const mark = document.querySelector(".connection-mark");
  const look = () => mark.textContent === "Not connected" && resolve();
  new MutationObserver(look).observe(mark, { characterData: true, childList: true, subtree: true });
})"""
"""It may be back within a tenth of a second, so the page itself has to watch."""

expect.set_options(timeout=1000 * WAIT_SECONDS)


class Visitor:
    """One user with one page; `username` must be nobody else's."""

    def __init__(self, page: Page, url: str, username: str, name: tuple[str, str]) -> None:
        self.page = page
        self.url = url
        self.username = username
        self.name, self.surname = name
        self.troubles: list[str] = []
        page.set_default_timeout(1000 * WAIT_SECONDS)
        page.on("pageerror", self._threw)
        page.on("console", self._printed)

    @property
    def context(self) -> BrowserContext:
        """Return the browser profile, which holds the login."""
        return self.page.context

    @property
    def messages(self) -> Locator:
        """Return the messages of the open conversation."""
        return self.page.get_by_role("region", name="Messages").get_by_role("listitem")

    def message(self, text: str) -> Locator:
        """Return the message that says just this."""
        return self.messages.filter(has=self.page.get_by_text(text, exact=True))

    @property
    def bodies(self) -> Locator:
        """Return what they say, from the first to the last."""
        return self.messages.locator(".body")

    async def arrive(self) -> None:
        """Open the page, for the first time or again."""
        await self.page.goto(self.url)

    async def register(self) -> None:
        """Create the account from the door; leads into the chat."""
        await self.page.get_by_role("button", name="Create an account").click()
        await self.page.get_by_label("First name").fill(self.name)
        await self.page.get_by_label("Last name").fill(self.surname)
        await self._enter("Create account")

    async def log_in(self) -> None:
        """Go through the door."""
        await self._enter("Log in")

    async def log_out(self) -> None:
        """Leave the chat for the door."""
        await self.page.get_by_role("button", name="Log out").click()
        await expect(self.page.get_by_role("heading", name="Log in")).to_be_visible()

    async def _enter(self, button: str) -> None:
        await self.page.get_by_label("Username").fill(self.username)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name=button).click()
        await self.is_connected()

    async def is_connected(self) -> None:
        """Return once the page says that it is."""
        await expect(self.page.get_by_text("Connected", exact=True)).to_be_visible()

    @asynccontextmanager
    async def loses_connection(self) -> AsyncIterator[None]:
        """See that the page loses its connection, and says so, while the context lasts."""
        told = asyncio.create_task(self.page.evaluate(CONNECTION_LOST))
        yield
        async with asyncio.timeout(WAIT_SECONDS):
            await told

    async def talk_to(self, other: Visitor) -> None:
        """Open the conversation with somebody from the list of people."""
        person = self.page.get_by_role("region", name="People").get_by_role("button", name=f"@{other.username} ")
        await self.look_until(person)
        await person.click()
        await expect(self.page.get_by_role("heading", name=f"{other.name} {other.surname}")).to_be_visible()

    async def create_group(self, title: str, *members: Visitor) -> None:
        """Open a conversation with several who are in the list of people."""
        await self.page.get_by_role("button", name="New group").click()
        dialog = self.page.get_by_role("dialog", name="New group")
        await dialog.get_by_label("Title").fill(title)
        for member in members:
            await dialog.get_by_role("checkbox", name=f"@{member.username} ").check()
        await dialog.get_by_role("button", name="Create group").click()
        await expect(self.page.get_by_role("heading", name=title)).to_be_visible()

    async def look_until(self, wanted: Locator) -> None:
        """See what depends on the list of people: it may be out of date, but who comes back to the page renews it."""
        for _ in range(int(WAIT_SECONDS / LOOK_AGAIN_SECONDS)):
            try:
                await wanted.wait_for(timeout=1000 * LOOK_AGAIN_SECONDS)
            except NotInTime:
                await self.page.evaluate("dispatchEvent(new Event('focus'))")
            else:
                return
        raise AssertionError(f"{self.username} doesn't find {wanted}")

    async def send(self, text: str) -> None:
        """Write a message into the open conversation; it need not be delivered yet."""
        composer = self.page.get_by_role("textbox", name="Message")
        await composer.fill(text)
        await composer.press("Enter")
        await expect(composer).to_have_value("")

    async def say(self, text: str) -> None:
        """Send a message and see it delivered."""
        await self.send(text)
        await expect(self.message(text)).to_contain_text("Delivered")

    async def settings(self, section: str) -> None:
        """Open a section of the settings."""
        await self.page.get_by_role("link", name="Settings").click()
        await self.page.get_by_role("link", name=section).click()

    async def turn_on(self, switch: str) -> None:
        """See a switch on, which may be on already."""
        control = self.page.get_by_role("switch", name=switch)
        await expect(control).to_be_enabled()
        if await control.get_attribute("aria-checked") == "false":
            await control.click()
        await expect(control).to_be_checked()

    async def answer_automatically(self, text: str) -> None:
        """Have everyone who writes get this answer."""
        await self.settings("Auto-reply")
        await self.page.get_by_label("Answer", exact=True).fill(text)
        await self.page.get_by_role("button", name="Save answer").click()
        await self.turn_on("Answer automatically")

    async def open_script(self, direction: str, language: str, source: str) -> None:
        """Take a script from a file into the editor of the outgoing or the incoming one."""
        await self.settings(f"{direction.capitalize()} script")
        await self.page.get_by_label("Language").select_option(language)
        file = {"name": FILE_NAMES[language], "mimeType": "text/plain", "buffer": source.encode()}
        await self.page.get_by_label("Open a file").set_input_files(file)  # type: ignore[arg-type]
        await expect(self.page.get_by_role("textbox", name="Script")).to_contain_text(source.splitlines()[0])

    async def try_script(self, message: str) -> Locator:
        """Run the script in the editor on a made-up message; returns where the result will be."""
        await self.page.get_by_label("Sample message").fill(message)
        await self.page.get_by_role("button", name="Run test").click()
        return self.page.get_by_role("status", name="Test result")

    async def save_script(self) -> None:
        """Save the script in the editor, and have it run on all messages from now on."""
        await self.page.get_by_role("button", name="Save script").click()
        await expect(self.page.get_by_text(re.compile(r"^Saved .* bytes\.$"))).to_be_visible()
        await self.turn_on("Run this script")

    def _threw(self, error: Error) -> None:
        self.troubles.append(str(error))

    def _printed(self, message: ConsoleMessage) -> None:
        if message.type == "error" and POLICY in message.text:
            self.troubles.append(message.text)
