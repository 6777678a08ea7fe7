"""The overview in Chromium, over the stub."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.market import BIST, CRYPTO, US, Market
from tests.browser.pages import Errors, OverviewPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture
def overview(page: Page, stub: Stub) -> OverviewPage:
    """The overview, not opened yet."""
    return OverviewPage(page, stub.url)


async def test_the_watchlist_stands_by_exchange(overview: OverviewPage) -> None:
    await overview.open()
    keys = await overview.symbols()
    assert len(keys) == len(CRYPTO) + len(US) + len(BIST)
    assert await overview.page.locator("tbody[data-exchange]").count() == 3
    row = overview.row("binance", "BTC/USDT")
    assert await row.locator("polyline").get_attribute("points")
    assert (await row.bounding_box())["height"] == 32
    await expect(overview.row("alpaca", "AAPL")).to_contain_text("no data yet")


async def test_a_trade_moves_price_change_and_time(overview: OverviewPage, market: Market) -> None:
    await overview.open()
    await overview.wait_for_connection("connected")
    row = overview.row("binance", "ETH/USDT")
    before = await row.locator(".change").text_content()
    market.trade("ETH/USDT", 4_000.5)
    await expect(row.locator(".last")).to_have_text("4,000.50")
    assert await row.locator(".change").text_content() != before


async def test_an_answer_that_is_older_than_a_tick_does_not_take_it_back(overview: OverviewPage) -> None:
    await overview.open()
    shown = await overview.page.evaluate("""async () => {
        const { OverviewRow } = await import("/static/js/overview-row.js");
        const row = new OverviewRow({ price: 100, time: 1000, change_24h: 25, sparkline: [90, 100] });
        row.tick({ price: 120, time: 3000 });
        row.set({ price: 100, time: 2000, change_24h: 25, sparkline: [90, 100] });
        const kept = { ...row.data };
        row.set({ price: 90, time: 4000, change_24h: 12.5, sparkline: [90, 90] });
        return [kept, row.data];
    }""")
    kept, newer = [(one["price"], one["time"], one["change_24h"], one["sparkline"]) for one in shown]
    assert kept == (120, 3000, 50, [90, 120])
    assert newer == (90, 4000, 12.5, [90, 90])


async def test_a_page_that_the_browser_brings_back_is_live_again(overview: OverviewPage, market: Market) -> None:
    await overview.open()
    await overview.wait_for_connection("connected")
    # as a browser does that keeps the page while one is on another
    event = "(name) => dispatchEvent(new PageTransitionEvent(name, { persisted: true }))"
    await overview.page.evaluate(event, "pagehide")
    market.trade("ETH/USDT", 4_000.5)
    async with overview.page.expect_websocket():
        await overview.page.evaluate(event, "pageshow")
    await expect(overview.row("binance", "ETH/USDT").locator(".last")).to_have_text("4,000.50")


async def test_sort_and_filter_are_in_the_address(overview: OverviewPage) -> None:
    await overview.open()
    await overview.page.get_by_role("button", name="Last", exact=True).click()
    crypto = [key for key in await overview.symbols() if key.startswith("binance")]
    assert crypto == [f"binance:{name}" for name in ("BTC/USDT", "ETH/USDT", "BNB/USDT", "SOL/USDT", "ADA/USDT")]
    await overview.page.keyboard.press("/")
    await overview.page.keyboard.type("usdt b")
    assert await overview.symbols() == ["binance:BTC/USDT", "binance:BNB/USDT"] or len(await overview.symbols()) == 5
    await overview.page.locator("#filter").fill("btc")
    assert await overview.symbols() == ["binance:BTC/USDT"]
    assert "sort=price" in overview.page.url
    assert "q=btc" in overview.page.url
    await overview.page.reload()
    await overview.wait_for_data("overview-state", "ready")
    assert await overview.symbols() == ["binance:BTC/USDT"]
    await overview.page.locator("#filter").fill("nothing at all")
    await expect(overview.page.locator("#notice")).to_contain_text("No instrument matches")


async def test_ticks_do_not_move_the_rows(overview: OverviewPage, market: Market) -> None:
    await overview.open(query="?sort=price&dir=desc")
    await overview.wait_for_connection("connected")
    before = await overview.symbols()
    market.trade("ADA/USDT", 90_000.0)
    await expect(overview.row("binance", "ADA/USDT").locator(".last")).to_have_text("90,000.0000")
    assert await overview.symbols() == before


async def test_arrow_keys_walk_and_enter_opens(overview: OverviewPage) -> None:
    await overview.open()
    for _ in range(2):
        await overview.page.keyboard.press("ArrowDown")
    await overview.page.keyboard.press("ArrowUp")
    await overview.page.keyboard.press("ArrowDown")
    await overview.page.keyboard.press("Enter")
    await overview.page.wait_for_url("**/charts/binance/ETH-USDT*")


async def test_loading_is_a_skeleton_and_a_time_out_offers_a_retry(
    overview: OverviewPage, market: Market, errors: Errors
) -> None:
    errors.forgive("WebSocket connection")
    market.slow_s, market.refusing = 6, True
    await overview.open(wait=False)
    await expect(overview.page.locator("[data-skeleton]")).to_be_visible()
    await overview.wait_for_data("overview-state", "error")
    await expect(overview.page.locator("#notice")).to_contain_text("No answer within")
    market.slow_s, market.refusing = 0, False
    await overview.page.get_by_role("button", name="Try again").click()
    await overview.wait_for_data("overview-state", "ready")
    await expect(overview.row("binance", "BTC/USDT")).to_be_visible()


async def test_an_empty_watchlist_says_what_to_do(overview: OverviewPage, market: Market) -> None:
    market.empty = True
    await overview.open(wait=False)
    await overview.wait_for_data("overview-state", "empty")
    await expect(overview.page.locator("#notice")).to_contain_text("instruments add")


async def test_a_missing_page_is_a_page(overview: OverviewPage, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    await overview.page.goto(f"{overview.base_url}/nowhere")
    await expect(overview.page.get_by_role("heading")).to_have_text("Nothing here")
    await overview.page.get_by_role("link", name="To the overview").click()
    await overview.wait_for_data("overview-state", "ready")
