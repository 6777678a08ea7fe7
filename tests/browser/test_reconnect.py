"""The chart after its network, its server or its machine was away: complete again, by itself.

The real web process over a real database and Redis; the bars of the outage are stored and announced as a worker would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page

from app.config import Settings
from tests.browser.pages import ChartPage, Errors
from tests.browser.wire import Wire
from tests.integration.web_server import web_server
from tests.wired import Collector

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

BEFORE = 30  # minutes on the chart before the outage


@pytest_asyncio.fixture(loop_scope="session")
async def chart(page: Page, wire: Wire, collector: Collector, errors: Errors) -> AsyncIterator[ChartPage]:
    """The chart, connected and showing the live bar."""
    collector.add(BEFORE)
    errors.forgive("net::ERR_", "WebSocket connection to")  # the browser's own words for each attempt
    chart = ChartPage(page, wire.url)
    await chart.open("binance", "BTC/USDT", query="?timeframe=1m")
    await page.locator('#connection:not([data-state="connecting"])').wait_for(state="attached", timeout=60_000)
    await complete(chart, collector, within_s=60)
    yield chart


async def complete(chart: ChartPage, collector: Collector, *, within_s: float) -> None:
    """Every minute is on the chart, the newest among them, and no hole is shown."""
    await chart.wait_for_data("live-time", collector.last_ms, within_s=within_s)
    await chart.wait_for_data("bars", collector.count, within_s=within_s)
    await chart.wait_for_data("gaps", 0, within_s=within_s)


async def still_live(chart: ChartPage, collector: Collector) -> None:
    """What comes next is shown too."""
    await asyncio.to_thread(collector.add, 1)
    await complete(chart, collector, within_s=60)


@pytest.mark.slow
async def test_a_network_that_was_away_for_30_s(chart: ChartPage, collector: Collector, wire: Wire) -> None:
    wire.cut()
    await chart.page.context.set_offline(True)
    for _ in range(6):
        await asyncio.to_thread(collector.add, 2)
        await asyncio.sleep(5)
    assert await chart.bars() == BEFORE
    wire.mend()
    await chart.page.context.set_offline(False)
    await complete(chart, collector, within_s=90)
    await still_live(chart, collector)


@pytest.mark.slow
async def test_a_web_process_that_was_restarted(
    chart: ChartPage, collector: Collector, wire: Wire, settings: Settings
) -> None:
    with web_server(settings) as first:
        wire.target = first
        await chart.page.reload()
        await complete(chart, collector, within_s=90)
    await chart.wait_for_connection("reconnecting", within_s=60)
    await asyncio.to_thread(collector.add, 4)
    with web_server(settings) as second:
        wire.target = second
        await complete(chart, collector, within_s=90)
        await still_live(chart, collector)


@pytest.mark.slow
async def test_a_laptop_that_slept(chart: ChartPage, collector: Collector, wire: Wire) -> None:
    """Its timers stand still, and its connection dies without a word while it sleeps."""
    await chart.page.evaluate("addEventListener('resume', () => { window.woke = true; })")
    session = await chart.page.context.new_cdp_session(chart.page)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    wire.cut()
    await asyncio.to_thread(collector.add, 5)
    await asyncio.sleep(9)
    wire.mend()
    assert await chart.bars() == BEFORE
    await session.send("Page.setWebLifecycleState", {"state": "active"})
    began = asyncio.get_running_loop().time()
    await complete(chart, collector, within_s=50)  # seconds, not the minutes a dead connection takes to be noticed
    print(f"\ncomplete {asyncio.get_running_loop().time() - began:.1f} s after waking")
    await still_live(chart, collector)
