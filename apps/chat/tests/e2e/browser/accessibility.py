"""axe-core, run in the page as it stands: the test tool comes with the page's development packages."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import BrowserContext, Page

AXE = Path(__file__).parents[3] / "page/node_modules/axe-core/axe.min.js"
GRAVE = ("serious", "critical")


async def prepare(context: BrowserContext) -> None:
    """Have axe-core in all pages that are opened from now on."""
    await context.add_init_script(path=AXE)


async def grave_findings(page: Page) -> list[str]:
    """Return what axe calls serious or critical, a line for each element."""
    found = await page.evaluate("axe.run()")
    return [
        f"{violation['id']} ({violation['impact']}): {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]
