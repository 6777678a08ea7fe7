"""The layout of a chart in Chromium, over the stub: in the address, in the browser's memory, shown elsewhere."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.generated import MINUTE, NOW
from tests.browser.pages import ChartPage, page_until
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")

# Tops and heights of the panes, to the pixel.
PANES = """() => [...document.querySelectorAll(".legend")].map((one) => one.style.top).sort()"""
SIGHT = "() => document.querySelector('.legend[data-pane=price] .bar-line').textContent"
# Where the price scale begins: its width depends on what it showed before, and bars are laid out from there.
RIGHT = "() => document.querySelector('#plot td:last-child').getBoundingClientRect().left"


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def sight(page: Page, left_of_scale: int) -> str:
    """What the legend says of the bar so many pixels left of the price scale, once the chart has drawn it."""
    x = await page.evaluate(RIGHT) - left_of_scale
    for y in (300, 301):
        await page.mouse.move(x, y)
        await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return str(await page.evaluate(SIGHT))


async def sights(page: Page, left_of_scale: int) -> set[str]:
    """What the legend says from two pixels left of a place to two right of it."""
    return {await sight(page, left_of_scale + by) for by in (-2, 0, 2)}


async def middle_of_a_bar(page: Page) -> int:
    """Pixels from the price scale to the middle of a bar that is little wider than four pixels."""
    for left in range(480, 500):
        if len(await sights(page, left)) == 1:
            return left
    raise AssertionError("no bar is wider than four pixels")


async def rested(page: Page) -> str:
    """The address once it stays: it follows the chart after a moment, by the page's own clock."""
    address = ""
    while address != page.url:
        address = page.url
        await page.evaluate("() => new Promise((done) => setTimeout(done, 400))")
    return address


async def wait_for_address(chart: ChartPage, *parts: str) -> None:
    """Wait until the address holds all of these."""
    for part in parts:
        await page_until(chart.page, "part => location.search.includes(part)", part)


async def test_a_copied_address_shows_the_same_chart_elsewhere(chart: ChartPage, browser: Browser) -> None:
    query = "?timeframe=5m&indicators=volume,rsi,bb&panes=rsi:0.6&zoom=4"
    await chart.open(*BTC, query=query)
    await wait_for_address(chart, "timeframe=5m", "indicators=volume,rsi,bb", "panes=rsi:0.6", "zoom=4")
    box = await chart.page.locator("#plot").bounding_box()
    assert box is not None
    await chart.page.mouse.move(500, 300)
    for _ in range(3):
        await chart.page.mouse.wheel(0, -240)
    await page_until(chart.page, "!location.search.includes('zoom=4')")
    await chart.page.locator("#plot").focus()
    await chart.page.keyboard.press("Shift+ArrowLeft")
    await wait_for_address(chart, "at=")
    address, panes = await rested(chart.page), await chart.page.evaluate(PANES)
    left = await middle_of_a_bar(chart.page)
    seen = await sights(chart.page, left)

    context = await browser.new_context(viewport={"width": 1280, "height": 800}, timezone_id="Europe/Istanbul")
    other = ChartPage(await context.new_page(), chart.base_url)
    await other.page.goto(address)
    await other.wait_until_drawn()
    assert await other.data("timeframe") == "5m"
    assert await other.data("panes") == "2"
    await page_until(other.page, f"tops => JSON.stringify(({PANES})()) === JSON.stringify(tops)", panes)
    deadline = time.monotonic() + 45
    while (shown := await sights(other.page, left)) != seen:
        assert time.monotonic() < deadline, f"{shown!r} is shown, not {seen!r}"
    await context.close()


async def test_a_place_far_back_is_loaded_and_shown(chart: ChartPage) -> None:
    at = NOW - NOW % MINUTE - 4000 * MINUTE
    await chart.open(*BTC, query=f"?timeframe=1m&at={at}")
    assert await chart.bars() >= 4500
    await expect(chart.page.locator("#go-to-now")).to_be_visible()
    await wait_for_address(chart, f"at={at}")


async def test_the_layout_is_remembered_for_the_next_chart(chart: ChartPage) -> None:
    await chart.open(*BTC, query="?timeframe=15m&indicators=rsi,stoch&panes=rsi:0.5,stoch:0.4&zoom=12")
    await wait_for_address(chart, "zoom=12")
    await chart.page.goto(f"{chart.base_url}/charts/binance/ETH-USDT")
    await chart.wait_until_drawn()
    await wait_for_address(chart, "timeframe=15m", "indicators=rsi,stoch", "panes=rsi:0.5,stoch:0.4", "zoom=12")


async def test_a_pane_drawn_taller_stays_so(chart: ChartPage) -> None:
    await chart.open(*BTC, query="?indicators=rsi")
    await wait_for_address(chart, "panes=rsi:0.26")
    tall = await chart.page.locator('.legend[data-pane="rsi"]').bounding_box()
    assert tall is not None
    edge = tall["y"] - 1
    await chart.page.mouse.move(500, edge)
    await chart.page.mouse.down()
    await chart.page.mouse.move(500, edge - 120, steps=4)
    await chart.page.mouse.up()
    await page_until(chart.page, "!location.search.includes('rsi:0.26')")
    address = await rested(chart.page)
    await chart.page.reload()
    await chart.wait_until_drawn()
    await rested(chart.page)
    assert chart.page.url == address


async def test_nonsense_in_the_address_is_passed_over(chart: ChartPage) -> None:
    await chart.open(*BTC, query="?timeframe=constructor&indicators=rsi,moon&panes=rsi:-1,moon:3&zoom=soon&at=never")
    await wait_for_address(chart, "timeframe=1m&indicators=rsi&panes=rsi:0.26&zoom=8")
    assert "at=" not in chart.page.url
