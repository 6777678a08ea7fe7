"""What live updates cost the page: no layout shift, little work, and none of it while nobody looks."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Page

from tests.browser.market import Market
from tests.browser.pages import ChartPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BTC = ("binance", "BTC/USDT")
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
SHIFTS = """() => {
  window.shifts = [];
  const place = ({ node }) => (node?.parentElement ?? node)?.closest?.("[id]")?.id ?? "";
  const told = ({ value, sources }) => [value, sources.map(place)];
  new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map(told)))
    .observe({ type: "layout-shift", buffered: false });
}"""


async def opened(page: Page, stub: Stub) -> ChartPage:
    chart = await ChartPage(page, stub.url).open(*BTC, query="?timeframe=1m")
    await chart.wait_for_connection("connected")
    return chart


async def trade(page: Page, market: Market, count: int) -> float:
    """So many trades, twenty a second, up and down over several digits; returns the last price."""
    last = market.minutes("BTC/USDT")[-1]["close"]
    price = last
    for number in range(count):
        price = round(last * (1 + (number % 11 - 5) / 400), 2)
        market.trade("BTC/USDT", price)
        await page.wait_for_timeout(50)
    return float(price)


async def test_a_storm_of_updates_shifts_nothing_and_stays_cheap(page: Page, stub: Stub, market: Market) -> None:
    chart = await opened(page, stub)
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})  # not what others took
    await page.wait_for_timeout(300)
    await page.evaluate(SHIFTS)

    async def spent() -> dict[str, float]:
        found = await session.send("Performance.getMetrics")
        return {row["name"]: row["value"] for row in found["metrics"]}

    before, began = await spent(), time.monotonic()
    price = await trade(page, market, 50)
    await chart.wait_for_data("live-close", f"{price:g}" if price == int(price) else str(price))
    after, took_s = await spent(), time.monotonic() - began
    shifts = await page.evaluate("window.shifts")
    assert [places for _, places in shifts if "plot" in places] == []
    # Digits of a line of text may change their place beside each other; nothing that has a size of its own does.
    assert sum(value for value, _ in shifts) < 0.001, shifts
    share = (after["TaskDuration"] - before["TaskDuration"]) / took_s
    assert 0 < share < 0.5, "of one core's time"


async def test_a_hidden_tab_paints_nothing_until_it_is_looked_at(page: Page, stub: Stub, market: Market) -> None:
    chart = await opened(page, stub)
    before = await chart.data("live-close")
    await page.evaluate(HIDE, True)
    price = await trade(page, market, 25)
    assert await chart.data("live-close") == before
    await page.evaluate(HIDE, False)
    await chart.wait_for_data("live-close", f"{price:g}" if price == int(price) else str(price))
