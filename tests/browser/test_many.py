"""Hundreds of instruments on the overview: rows out of sight are not in the document and cost nothing."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import NOW
from tests.browser.market import Market
from tests.browser.pages import OverviewPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
MANY = 500
MOST_ROWS = 60  # a window of 800 pixels holds 25, and eight stand ready above and below
SORT_S = 30  # the order is looked at every five seconds

# Counts what a burst of prices changes in the document, and in which rows.
WATCH = """() => {
  window.changed = new Set();
  const everything = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver((records) => {
    for (const { target } of records) {
      const row = (target.nodeType === 1 ? target : target.parentElement)?.closest("tr.instrument");
      if (row) window.changed.add(row.dataset.key);
    }
  }).observe(document.getElementById("watchlist"), everything);
}"""


@pytest.fixture
def overview(page: Page, stub: Stub, market: Market) -> OverviewPage:
    """The overview of the usual instruments and 500 more, not opened yet."""
    market.list_many(MANY)
    return OverviewPage(page, stub.url)


def burst(market: Market, *, step: float) -> list[dict[str, Any]]:
    return [
        {"exchange": "binance", "symbol": row["symbol"], "price": row["price"] + step, "time": NOW + int(step * 1000)}
        for row in market.listed
    ]


async def test_only_rows_in_sight_are_in_the_document(overview: OverviewPage) -> None:
    await overview.open()
    page = overview.page
    table = page.locator("#watchlist")
    assert 20 <= await page.locator("tr.instrument").count() <= MOST_ROWS
    assert await table.get_attribute("aria-rowcount") == str(1 + 3 + 17 + MANY)
    assert await overview.row("binance", "BTC/USDT").get_attribute("aria-rowindex") == "3"
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    await expect(overview.row("yahoo", "SISE.IS")).to_be_in_viewport()
    assert await overview.row("yahoo", "SISE.IS").get_attribute("aria-rowindex") == str(1 + 3 + 17 + MANY)
    await expect(page.locator("thead th").first).to_be_in_viewport()
    assert await page.locator("tr.instrument").count() <= MOST_ROWS
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    await expect(overview.row("binance", "C250/USDT")).to_be_attached()
    await expect(overview.row("binance", "BTC/USDT")).not_to_be_attached()


async def test_keys_walk_over_rows_that_were_not_there(overview: OverviewPage) -> None:
    await overview.open()
    page = overview.page
    focused = page.locator("tr.instrument a:focus")
    for _ in range(3):
        await page.keyboard.press("ArrowDown")
    await expect(focused).to_have_text("SOLUSDT")
    for _ in range(4):
        await page.keyboard.press("PageDown")
    await expect(focused).to_be_in_viewport(ratio=1)
    assert int(await page.evaluate("document.activeElement.closest('tr').getAttribute('aria-rowindex')")) > 60
    await page.keyboard.press("End")
    await expect(focused).to_have_text("SISE.ISTRY")
    await expect(focused).to_be_in_viewport(ratio=1)
    await page.keyboard.press("Home")
    await expect(focused).to_have_text("BTCUSDT")
    await expect(focused).to_be_in_viewport(ratio=1)
    await page.keyboard.press("ArrowDown")
    await page.mouse.wheel(0, 6000)  # away from the focused row, whose element goes
    await expect(overview.row("binance", "ETH/USDT")).not_to_be_attached()
    await page.keyboard.press("ArrowDown")
    await expect(focused).to_have_text("SOLUSDT")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/charts/binance/SOL-USDT*")


async def test_a_burst_of_prices_touches_only_rows_in_sight(overview: OverviewPage, market: Market) -> None:
    await overview.open()
    page = overview.page
    await overview.wait_for_connection("connected")
    await page.evaluate(WATCH)
    shown = set(await overview.symbols())
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")

    async def scripting_ms() -> float:
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "ScriptDuration")

    before = await scripting_ms()
    market.tell_prices(burst(market, step=1.0))
    await overview.wait_for_data("live-time", NOW + 1000)
    await expect(overview.row("binance", "C005/USDT").locator(".last")).to_have_text(re.compile(r"^16\.0+$"))
    spent = await scripting_ms() - before
    print(f"{MANY} prices at once: {spent:.1f} ms of scripting, {len(shown)} rows in the document")
    changed = set(await page.evaluate("[...window.changed]"))
    assert changed
    assert changed <= shown
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    await expect(overview.row("binance", "C250/USDT").locator(".last")).to_have_text(
        "261.00"
    )  # told while out of sight


@pytest.mark.alone
@pytest.mark.slow
async def test_rows_change_places_only_while_nobody_reads(overview: OverviewPage, market: Market) -> None:
    page = overview.page
    await overview.open(query="?sort=change&dir=desc&q=binance")
    await overview.wait_for_connection("connected")
    before = await overview.symbols()
    assert before[0] == "binance:C499/USDT"
    await overview.row("binance", "C499/USDT").hover()
    last = {**burst(market, step=0)[3], "price": 1000.0, "time": NOW + 5000}  # from the lowest change to the highest
    market.tell_prices([last])
    again = page.get_by_role("button", name="Sort again")
    await expect(again).to_be_visible(timeout=SORT_S * 1000)
    assert await overview.symbols() == before
    await again.click()
    await expect(page.locator("tr.instrument").first).to_have_attribute("data-key", "binance:C003/USDT")
    await expect(again).not_to_be_visible()
    await page.locator("h1").hover()
    await page.locator("h1").click()
    market.tell_prices([{**last, "price": 1.0, "time": NOW + 6000}])
    await expect(page.locator("tr.instrument").first).to_have_attribute(
        "data-key", "binance:C499/USDT", timeout=SORT_S * 1000
    )


async def test_no_tick_flashes_for_who_wants_less_motion(overview: OverviewPage, market: Market) -> None:
    page = overview.page
    await page.emulate_media(reduced_motion="reduce")
    await overview.open()
    await overview.wait_for_connection("connected")
    await page.evaluate(
        "() => { Element.prototype.animate = () => { document.title = 'moved'; return { cancel() {} }; }; }"
    )
    market.trade("ETH/USDT", 4_000.5)
    await expect(overview.row("binance", "ETH/USDT").locator(".last")).to_have_text("4,000.50")
    assert await page.title() != "moved"


async def test_a_flash_is_over_within_300_ms(overview: OverviewPage, market: Market) -> None:
    page = overview.page
    await overview.open()
    await overview.wait_for_connection("connected")
    await page.evaluate(
        """() => {
          const own = Element.prototype.animate;
          Element.prototype.animate = function (frames, how) {
            window.lasted = how.duration;
            return own.call(this, frames, how);
          };
        }"""
    )
    market.trade("ETH/USDT", 4_000.5)
    began = time.monotonic()
    while await page.evaluate("window.lasted ?? null") is None:
        assert time.monotonic() - began < 30
        await page.wait_for_timeout(50)
    assert 0 < await page.evaluate("window.lasted") < 300
