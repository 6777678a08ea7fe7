"""The symbol search in Chromium, over the stub: what it finds, in which order, by keyboard, with many symbols."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.market import Market, instrument
from tests.browser.pages import ChartPage, Errors
from tests.browser.states import CONNECTED, XNYS_OPEN
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")
NAMES = "#switcher [role=option] .name"
MARKED = '#switcher [role=option][aria-selected="true"]'


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def search(chart: ChartPage, text: str) -> None:
    """Open the search, wait for its rows, and type."""
    await chart.page.keyboard.press("/")
    await expect(chart.page.locator(MARKED)).to_be_visible()
    await chart.page.locator("#switcher input").fill(text)


async def test_it_finds_by_symbol_and_by_exchange(chart: ChartPage) -> None:
    await chart.open(*BTC)
    await search(chart, "btcusdt")
    await expect(chart.page.locator(NAMES)).to_have_text(["BTC/USDT"])
    for typed, found in (("istanbul thy", ["THYAO.IS"]), ("binance s", ["SOL/USDT"]), ("eth/", ["ETH/USDT"])):
        await chart.page.locator("#switcher input").fill(typed)
        await expect(chart.page.locator(NAMES).first).to_have_text(found[0])
    await chart.page.locator("#switcher input").fill("nowhere")
    await expect(chart.page.locator("#switcher .none")).to_have_text("No such instrument.")
    await chart.page.keyboard.press("Enter")
    assert "BTC-USDT" in chart.page.url


async def test_rows_tell_the_price_the_hours_and_the_delay(chart: ChartPage, market: Market) -> None:
    market.states.feeds["alpaca"] = CONNECTED
    market.states.hours["XNYS"] = XNYS_OPEN
    await chart.open(*BTC)
    for typed, price, state in (
        ("sol", f"{market.minutes('SOL/USDT')[-1]['close']:,.2f}", "open"),
        ("thyao", f"{market.minutes('THYAO.IS')[-1]['close']:,.2f}", "delayed 15 min"),
        ("aapl", "–", "open"),
    ):
        await search(chart, typed)
        row = chart.page.locator(MARKED)
        await expect(row.locator(".price")).to_have_text(price)
        await expect(row.locator(".state")).to_have_text(state)
        await chart.page.keyboard.press("Escape")
        await expect(chart.page.locator("#switcher")).to_be_hidden()


async def test_the_recent_ones_come_first_and_enter_goes_back(chart: ChartPage) -> None:
    await chart.open("binance", "ETH/USDT")
    await chart.open(*BTC, query="?timeframe=5m&indicators=rsi")
    await chart.page.keyboard.press("/")
    await expect(chart.page.locator("#switcher .menu-title").first).to_have_text("Recent")
    await expect(chart.page.locator(f"{MARKED} .name")).to_have_text("ETH/USDT")
    await chart.page.keyboard.press("ArrowDown")
    await expect(chart.page.locator(f"{MARKED} .name")).to_have_text("BTC/USDT")
    await chart.page.keyboard.press("ArrowUp")
    await chart.page.keyboard.press("Enter")
    await chart.page.wait_for_url("**/charts/binance/ETH-USDT?timeframe=5m&indicators=rsi*")


async def test_five_hundred_symbols_are_walked_without_a_stutter(chart: ChartPage, market: Market) -> None:
    usual = list(market.instruments)
    market.instruments += [instrument("alpaca", f"S{number:03d}") for number in range(500)]
    try:
        await chart.open(*BTC)
        await search(chart, "")
        assert await chart.page.locator("#switcher [role=option]").count() < 40, "only the rows in sight are made"
        most, median = await chart.page.evaluate("""async () => {
          const input = document.querySelector("#switcher input");
          const took = [];
          let most = 0;
          const run = async (change) => {
            const began = performance.now();
            change();
            took.push(performance.now() - began);
            most = Math.max(most, document.querySelectorAll("#switcher [role=option]").length);
            await new Promise(requestAnimationFrame);
          };
          for (const text of ["s", "s4", "s49", "s499", ""]) {
            await run(() => { input.value = text; input.dispatchEvent(new Event("input")); });
          }
          const down = () => input.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }));
          for (let n = 0; n < 60; n += 1) await run(down);
          return [most, took.sort((a, b) => a - b)[took.length >> 1]];
        }""")
        print(f"\na step among 517 symbols: {median:.1f} ms, with at most {most} rows made")
        assert most < 40, "only the rows in sight are made"
        await expect(chart.page.locator(MARKED)).to_be_in_viewport()
        await chart.page.locator("#switcher input").fill("s499")
        await expect(chart.page.locator(NAMES)).to_have_text(["S499"])
    finally:
        market.instruments[:] = usual


async def test_a_list_that_cannot_be_had_says_so(chart: ChartPage, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    market.failing = 500
    await chart.page.keyboard.press("/")
    await expect(chart.page.locator("#switcher .none")).to_contain_text("The database cannot be reached.")
    market.failing = None
    await chart.page.keyboard.press("Escape")
    await search(chart, "sol")
    await expect(chart.page.locator(NAMES)).to_have_text(["SOL/USDT"])
