"""Charts where the server is up and gives nothing: they wait longer each time, and are whole again by themselves."""

from __future__ import annotations

import asyncio
import time

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import MINUTE, NOW, bar
from tests.browser.market import Market
from tests.browser.pages import ChartPage, Errors, MultiPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")
NO_DATABASE = {"code": "unavailable", "message": "the database cannot be reached; try again in a moment"}
WATCH_THE_DOT = """
  window.dots = [];
  const dot = document.getElementById("connection");
  new MutationObserver(() => dots.push(dot.dataset.state)).observe(dot, { attributeFilter: ["data-state"] });
"""

ONLINE = "dispatchEvent(new Event('online')); document.getElementById('connection')?.dataset.state"
SEEN = """(seen) => {
  Object.defineProperty(document, "hidden", { get: () => !seen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def sockets(market: Market, count: int, *, within_s: float = 20) -> list[float]:
    """When the sockets came, once there are so many."""
    deadline = time.monotonic() + within_s
    while len(market.came) < count:
        assert time.monotonic() < deadline, f"{len(market.came)} sockets came"
        await asyncio.sleep(0.02)
    return market.came


@pytest.mark.slow
async def test_a_socket_refused_with_an_error_is_asked_for_less_and_less_often(
    chart: ChartPage, market: Market
) -> None:
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    await chart.page.evaluate(WATCH_THE_DOT)
    market.refusal = NO_DATABASE
    market.came.clear()
    market.drop()
    first, second, third = (await sockets(market, 3))[:3]
    assert second - first >= 0.6
    assert third - second >= 1.2
    assert "connected" not in await chart.page.evaluate("dots")
    market.refusal = None
    await chart.page.evaluate("dispatchEvent(new Event('online'))")  # not to wait for the fourth
    await chart.wait_for_connection("connected")


@pytest.mark.slow
async def test_a_chart_that_failed_is_there_as_soon_as_it_can_and_is_seen(
    chart: ChartPage, market: Market, errors: Errors
) -> None:
    errors.forgive("Failed to load resource")
    await chart.page.clock.install()
    await chart.open(*BTC)
    market.failing = 503
    await chart.page.keyboard.press("2")
    await chart.wait_for_data("chart-state", "error")
    assert "reconnecting" in await chart.wait_for_connection("reconnecting")
    market.failing = None
    await chart.page.evaluate(SEEN, False)
    await chart.page.clock.fast_forward(60_000)
    assert await chart.data("chart-state") == "error"
    assert await chart.wait_for_connection("reconnecting") == "reconnecting", "its time has come, but nobody looks"
    await expect(chart.page.get_by_role("button", name="Try again")).to_be_visible()
    await chart.page.evaluate(SEEN, True)
    await chart.wait_until_drawn()
    await chart.wait_for_connection("connected")
    assert await chart.data("timeframe") == "5m"
    await expect(chart.page.locator("#notice")).to_be_hidden()


async def test_a_chart_comes_no_earlier_than_the_server_said(chart: ChartPage, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    await chart.page.clock.install()
    market.failing, market.retry_after = 429, "600"
    await chart.open(*BTC, wait=False)
    await chart.wait_for_data("chart-state", "error")
    words = await chart.wait_for_connection("reconnecting")
    assert int(words.split()[2]) > 500
    market.failing = None
    assert await chart.page.evaluate(ONLINE) == "reconnecting"
    await chart.page.clock.fast_forward(601_000)
    await chart.wait_until_drawn()


async def test_an_instrument_without_bars_stays_calm_and_shows_its_first(chart: ChartPage, market: Market) -> None:
    await chart.open("alpaca", "AAPL", wait=False)
    await chart.wait_for_data("chart-state", "empty")
    market.refusal = NO_DATABASE
    market.came.clear()
    market.drop()
    await sockets(market, 2)
    assert await chart.data("chart-state") == "empty"
    market.changed["AAPL", "1m"] = ([bar(NOW - NOW % MINUTE, [231.5], volume=3)], {})
    market.refusal = None
    await chart.page.evaluate(ONLINE)
    await chart.wait_until_drawn()
    await chart.wait_for_data("live-close", 231.5)
    await expect(chart.page.locator("#notice")).to_be_hidden()


@pytest.mark.slow
async def test_the_page_of_several_charts_mends_itself(page: Page, stub: Stub, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    multi = MultiPage(page, stub.url)
    market.failing = 503
    await multi.open(query="?layout=2&cells=binance:BTC-USDT@1m,binance:ETH-USDT@1m")
    await expect(page.locator("#notice")).to_contain_text("cannot be reached. This page asks again by itself.")
    market.failing = None
    await page.evaluate(ONLINE)
    await multi.wait_until_drawn(2)
    await expect(page.locator("#notice")).to_be_hidden()
    market.failing = 503
    cell = multi.cell(1)
    await cell.get_by_role("button", name="5m", exact=True).click()
    await expect(cell).to_have_attribute("data-state", "error")
    await expect(cell.locator(".state")).to_contain_text("reconnecting")
    market.failing = None
    await page.evaluate(ONLINE)
    await multi.wait_until_drawn(2)
    await expect(cell.locator(".cell-stage > .notice")).to_be_hidden()


async def test_a_token_that_is_over_is_asked_for_anew(chart: ChartPage, market: Market, errors: Errors) -> None:
    errors.forgive("401", "WebSocket connection")
    market.token = "the token of this test"
    await chart.page.add_init_script(f"sessionStorage.setItem('api-token', '{market.token}')")
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    market.token = "the next token of this test"
    market.drop()
    dialog = chart.page.get_by_role("dialog", name="A token is needed")
    await expect(dialog).to_contain_text("the token is not right")
    await dialog.get_by_label("Token").fill(market.token)
    await chart.page.keyboard.press("Enter")
    await chart.wait_for_connection("connected")
    market.token = "a third one"
    market.drop()
    await expect(dialog).to_be_visible()
    await chart.page.keyboard.press("Escape")
    assert await chart.wait_for_connection("none") == "not connected"
    assert await chart.data("chart-state") == "ready", "what was shown stays"
