"""The pages as a user sees them: what tests say to a page, whichever back end serves it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import ConsoleMessage, Locator, Page

SECOND = 1000.0

# How many pixels of the chart's canvases have a token's colour, and how many have any colour at all.
COUNT_PIXELS = """(tokens) => {
  const style = getComputedStyle(document.documentElement);
  const wanted = tokens.map((token) => style.getPropertyValue(`--${token}`).trim()).map((hex) =>
    [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const found = tokens.map(() => 0);
  for (const canvas of document.querySelectorAll("#plot canvas")) {
    if (canvas.width === 0 || canvas.height === 0) continue;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4) {
      wanted.forEach(([r, g, b], index) => {
        if (data[at] === r && data[at + 1] === g && data[at + 2] === b) found[index] += 1;
      });
    }
  }
  return Object.fromEntries(tokens.map((token, index) => [token, found[index]]));
}"""


@dataclass
class Errors:
    """Console errors and uncaught exceptions of a page, but for those forgiven."""

    seen: list[str] = field(default_factory=list)
    _forgiven: tuple[str, ...] = (
        "willReadFrequently",  # Chromium's advice to our own reading of pixels
        "closed before the connection is established",  # a page that is left while its socket is under way
    )

    def forgive(self, *parts: str) -> None:
        """Do not count messages that contain one of these."""
        self._forgiven += parts
        self.seen = [text for text in self.seen if not self._is_forgiven(text)]

    def watch(self, page: Page) -> None:
        """Listen to a page."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._add(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._add(message.text)

    def _add(self, text: str) -> None:
        if not self._is_forgiven(text):
            self.seen.append(text)

    def _is_forgiven(self, text: str) -> bool:
        return any(part in text for part in self._forgiven)


async def page_until(page: Page, expression: str, arg: Any = None, *, within_s: float = 45) -> Any:
    """What a JavaScript expression or function of `arg` gives once it is true; fails after `within_s`.

    Playwright's own wait_for_function evaluates text inside the page, which the policy of the pages forbids.
    """
    deadline = time.monotonic() + within_s
    while not (found := await page.evaluate(expression, arg)):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {expression}")
        await asyncio.sleep(0.05)
    return found


class AnyPage:
    """What every page has: an address, data on its root element, and a connection dot."""

    def __init__(self, page: Page, base_url: str) -> None:
        self.page, self.base_url = page, base_url

    async def data(self, name: str) -> str | None:
        """The value of data-<name> of the root element."""
        return await self.page.locator("html").get_attribute(f"data-{name}")

    async def wait_for_data(self, name: str, value: str | int | float, *, within_s: float = 30) -> None:
        """Wait until data-<name> is `value`."""
        await self.page.locator(f'html[data-{name}="{value}"]').wait_for(state="attached", timeout=within_s * SECOND)

    async def wait_for_text(self, selector: str, text: str, *, within_s: float = 30) -> None:
        """Wait until an element contains `text`."""
        found = self.page.locator(selector).filter(has_text=text)
        await found.first.wait_for(state="attached", timeout=within_s * SECOND)

    async def wait_for_connection(self, state: str, *, within_s: float = 30) -> str:
        """Wait for a state of the dot; returns its words."""
        dot = self.page.locator(f'#connection[data-state="{state}"]')
        await dot.wait_for(state="attached", timeout=within_s * SECOND)
        return (await dot.text_content() or "").strip()


class ChartPage(AnyPage):
    """The chart of one instrument."""

    async def open(self, exchange: str, symbol: str, *, query: str = "", wait: bool = True) -> ChartPage:
        """Go there, and wait until the chart is drawn."""
        await self.page.goto(f"{self.base_url}/charts/{exchange}/{symbol.replace('/', '-')}{query}")
        if wait:
            await self.wait_until_drawn()
        return self

    async def wait_until_drawn(self, *, within_s: float = 45) -> None:
        """Wait for bars on the canvas."""
        await self.wait_for_data("chart-state", "ready", within_s=within_s)

    async def bars(self) -> int:
        """How many bars the chart holds."""
        return int(await self.data("bars") or 0)

    async def price(self) -> str:
        """The header's price as written."""
        return (await self.page.locator("#price").text_content() or "").strip()

    async def pixels(self, *tokens: str) -> dict[str, int]:
        """How many pixels of the chart have the colour of each token."""
        found: dict[str, int] = await self.page.evaluate(COUNT_PIXELS, list(tokens))
        return found

    async def wait_for_pixels(self, *tokens: str, more_than: int, within_s: float = 20) -> None:
        """Wait until each token's colour has more than so many pixels; thin slanted lines have few of the pure one."""
        for _ in range(int(within_s * 10)):
            found = await self.pixels(*tokens)
            if min(found.values()) > more_than:
                return
            await self.page.wait_for_timeout(100)
        raise AssertionError(f"not drawn: {found}")

    async def switch_timeframe(self, timeframe: str) -> None:
        """Click a timeframe and wait for its bars."""
        await self.page.get_by_role("button", name=timeframe, exact=True).click()
        await self.wait_for_data("timeframe", timeframe)
        await self.wait_until_drawn()

    async def toggle(self, label: str) -> None:
        """Tick or untick an indicator in its menu, and close the menu."""
        await self.page.locator("#indicators-button").click()
        await self.page.locator("#indicators-menu").get_by_label(label, exact=True).click()
        await self.page.keyboard.press("Escape")

    async def scroll_back(self, bars: int) -> None:
        """Scroll left by keyboard, ten bars a press."""
        await self.page.locator("#plot").focus()
        for _ in range(bars // 10):
            await self.page.keyboard.press("ArrowLeft")

    async def live(self) -> tuple[int, float]:
        """Time (ms) and close of the newest bar on the chart."""
        return int(await self.data("live-time") or 0), float(await self.data("live-close") or "nan")


class OverviewPage(AnyPage):
    """The watchlist."""

    async def open(self, *, query: str = "", wait: bool = True) -> OverviewPage:
        """Go there, and wait until the rows stand."""
        await self.page.goto(f"{self.base_url}/{query}")
        if wait:
            await self.wait_for_data("overview-state", "ready")
        return self

    def row(self, exchange: str, symbol: str) -> Any:
        """The locator of an instrument's row."""
        return self.page.locator(f'tr[data-key="{exchange}:{symbol}"]')

    async def symbols(self) -> list[str]:
        """The symbols from top to bottom, as keys."""
        rows = await self.page.locator("tr.instrument").all()
        return [await row.get_attribute("data-key") or "" for row in rows]


class MultiPage(AnyPage):
    """Several charts side by side."""

    async def open(self, *, query: str = "", drawn: int | None = None) -> MultiPage:
        """Go there, and wait until so many cells are drawn."""
        await self.page.goto(f"{self.base_url}/multi{query}")
        if drawn is not None:
            await self.wait_until_drawn(drawn)
        return self

    async def wait_until_drawn(self, count: int, *, within_s: float = 90) -> None:
        """Wait until so many cells show bars and hear of new ones."""
        drawn = "document.querySelectorAll('.cell[data-state=ready]:has(.state[data-state=connected])').length"
        await page_until(self.page, f"{drawn} === {count}", within_s=within_s)

    def cell(self, index: int) -> Locator:
        """The cell at a place, from 0."""
        return self.page.locator(".cell").nth(index)

    async def shown(self) -> list[str]:
        """Symbol and timeframe of each cell."""
        shown: list[str] = await self.page.evaluate(
            "[...document.querySelectorAll('.cell')]"
            ".map((cell) => `${cell.querySelector('.symbol').textContent}@${cell.dataset.timeframe}`)"
        )
        return shown

    async def choose(self, text: str) -> None:
        """Type into the open switcher, wait for the one instrument that fits, and take it."""
        await self.page.keyboard.type(text)
        await self.page.locator("#switcher [role=option]").nth(1).wait_for(state="detached")
        await self.page.locator("#switcher [role=option]").wait_for()
        await self.page.keyboard.press("Enter")

    async def point(self, index: int, *, from_right: float = 0.35) -> int:
        """Move the pointer over a cell's candles; returns the time (ms) of the bar under it."""
        box = await self.cell(index).locator(".plot").bounding_box()
        assert box is not None
        await self.page.mouse.move(box["x"] + box["width"] * (1 - from_right), box["y"] + box["height"] * 0.4)
        marked = self.page.locator(f'.cell:nth-child({index + 1})[data-marked]:not([data-marked=""])')
        await marked.wait_for(timeout=20 * SECOND)
        return int(await marked.get_attribute("data-marked") or 0)


class ScreenerPage(AnyPage):
    """The screener."""

    async def open(self, query: str = "", *, state: str = "ready") -> ScreenerPage:
        """Go there, and wait for this state."""
        await self.page.goto(f"{self.base_url}/screener{query}")
        await self.wait_for_data("screen-state", state)
        return self

    async def symbols(self) -> list[str]:
        """The symbols from top to bottom."""
        keys: list[str] = await self.page.eval_on_selector_all(
            "#screen tr.instrument", "rows => rows.map(row => row.dataset.key)"
        )
        return [key.split(":", 1)[1] for key in keys]
