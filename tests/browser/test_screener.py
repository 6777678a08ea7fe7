"""The screener in Chromium, over the stub, which judges by the platform's own language of screens."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.market import DELAYED, Market
from tests.browser.pages import Errors, ScreenerPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
CUT = """() => [...document.querySelectorAll(".condition select")].filter((select) => {
  const brush = document.createElement("canvas").getContext("2d");
  brush.font = getComputedStyle(select).font;
  const arrow = 20;
  const padding = 2 * parseFloat(getComputedStyle(select).paddingLeft);
  return brush.measureText(select.selectedOptions[0].text).width + padding + arrow > select.clientWidth;
}).map((select) => select.selectedOptions[0].text)"""  # what a select has no room to show
SOON = 30_000  # ms: a look each two seconds, on a busy machine


@pytest.fixture
def screener(page: Page, stub: Stub, market: Market) -> ScreenerPage:
    """The screener, not opened yet; Bitcoin's and Ether's numbers are known."""
    market.figures = {
        "BTC/USDT": {"rsi_14": 21.5, "change_24h": 4.0, "close": 101.0, "sma_200": 100.0},
        "ETH/USDT": {"rsi_14": 25.0, "change_24h": -2.0, "close": 99.0, "sma_200": 100.0},
        **{
            name: {"rsi_14": 50.0, "change_24h": 1.0, "close": 1.0, "sma_200": 2.0}
            for name in ("SOL/USDT", "BNB/USDT", "ADA/USDT", *DELAYED)
        },
    }
    return ScreenerPage(page, stub.url)


async def test_all_instruments_stand_there_until_something_is_asked(screener: ScreenerPage, market: Market) -> None:
    await screener.open()
    assert len(await screener.symbols()) == len(market.instruments)
    assert (await screener.symbols())[0] == "BTC/USDT"
    await expect(screener.page.locator("#count")).to_have_text("17 of 17 fit")
    await screener.wait_for_connection("connected")


async def test_a_preset_asks_and_a_second_press_takes_it_back(screener: ScreenerPage) -> None:
    await screener.open()
    page = screener.page
    chip = page.get_by_role("button", name="RSI below 30")
    await chip.click()
    await expect(page.locator("#count")).to_have_text("2 of 17 fit")
    assert await screener.symbols() == ["BTC/USDT", "ETH/USDT"]
    assert await chip.get_attribute("aria-pressed") == "true"
    assert "where=rsi_14<30" in page.url.replace("%3C", "<")
    await expect(page.get_by_role("columnheader", name="RSI 14")).to_be_visible()
    await page.get_by_role("button", name="Close above SMA 200", exact=True).click()  # both must hold
    await expect(page.locator("#count")).to_have_text("1 of 17 fit")
    await chip.click()
    await expect(page.locator(".condition")).to_have_count(1)
    await expect(page.get_by_role("columnheader", name="RSI 14")).not_to_be_attached()
    assert await chip.get_attribute("aria-pressed") == "false"


async def test_conditions_are_built_changed_and_removed(screener: ScreenerPage, market: Market) -> None:
    await screener.open("?timeframe=5m")
    page = screener.page
    await page.get_by_role("button", name="Add a condition").click()
    line = page.locator(".condition")
    await expect(line).to_have_count(1)
    await line.get_by_label("Field", exact=True).select_option("close")
    await line.get_by_label("Operator").select_option(">")
    await line.get_by_label("Times field").select_option("sma_200")
    await line.get_by_label("Number").fill("1.005")
    await expect(page.locator("#count")).to_have_text("1 of 17 fit")
    assert await screener.symbols() == ["BTC/USDT"]
    assert "where=close>1.005*sma_200" in page.url.replace("%3E", ">")
    await line.get_by_label("Number").fill("1.0x")
    await expect(line.get_by_label("Number")).to_have_attribute("aria-invalid", "true")
    await page.reload()  # what was last valid stands in the address
    await screener.wait_for_data("screen-state", "ready")
    await expect(line.get_by_label("Number")).to_have_value("1.005")
    await expect(line.get_by_label("Times field")).to_have_value("sma_200")
    assert await screener.symbols() == ["BTC/USDT"]
    assert await page.locator('[data-timeframe="5m"]').get_attribute("aria-pressed") == "true"
    await line.get_by_role("button", name="Remove").click()
    await expect(page.locator("#count")).to_have_text("17 of 17 fit")
    assert "timeframe=5m" in market.asked[-1]


@pytest.mark.slow
async def test_who_comes_and_who_goes_is_marked_and_nothing_jumps(screener: ScreenerPage, market: Market) -> None:
    await screener.open("?where=rsi_14<30&sort=rsi_14")
    page = screener.page
    row = page.locator('tr[data-key="binance:BTC/USDT"]')
    market.figures["BTC/USDT"]["rsi_14"] = 60.0
    market.figures["SOL/USDT"]["rsi_14"] = 1.0
    await expect(row).to_have_attribute("data-mark", "gone", timeout=SOON)
    await expect(row).to_contain_text("no longer fits")
    added = page.locator('tr[data-key="binance:SOL/USDT"]')
    await expect(added).to_have_attribute("data-mark", "new", timeout=SOON)
    await expect(row).not_to_be_attached(timeout=SOON)
    await expect(added).to_have_attribute("data-mark", "", timeout=SOON)
    assert set(await screener.symbols()) == {"ETH/USDT", "SOL/USDT"}


async def test_values_follow_and_a_sort_is_in_the_address(screener: ScreenerPage, market: Market) -> None:
    await screener.open("?where=rsi_14<30")
    page = screener.page
    market.figures["ETH/USDT"]["rsi_14"] = 12.34
    await expect(page.locator('tr[data-key="binance:ETH/USDT"]')).to_contain_text("12.34", timeout=SOON)
    assert await screener.symbols() == ["BTC/USDT", "ETH/USDT"]
    await page.locator('[data-sort="rsi_14"] button').click()
    head = page.locator('[data-sort="rsi_14"]')
    await expect(head).to_have_attribute("aria-sort", "descending")
    await page.locator('[data-sort="rsi_14"] button').click()
    await expect(head).to_have_attribute("aria-sort", "ascending")
    await expect(page.locator("#screen tr.instrument").first).to_have_attribute("data-key", "binance:ETH/USDT")
    assert "sort=rsi_14" in page.url


async def test_no_fit_says_what_to_do_and_a_broken_screen_what_is_wrong(
    screener: ScreenerPage, market: Market, errors: Errors
) -> None:
    errors.forgive("400 (BAD REQUEST)")
    await screener.open("?where=rsi_14<1", state="empty")
    page = screener.page
    await expect(page.locator("#notice")).to_contain_text("No instrument fits")
    await expect(page.locator("#notice")).to_contain_text("Loosen a number")
    await screener.open("?where=rsi15<30", state="error")
    await expect(page.locator("#notice")).to_contain_text("there is no field 'rsi15'; 'rsi_14' is near it")
    await page.get_by_role("button", name="Clear the screen").click()
    await screener.wait_for_data("screen-state", "ready")
    assert len(await screener.symbols()) == len(market.instruments)


@pytest.mark.slow
async def test_an_outage_leaves_the_rows_and_ends_by_itself(
    screener: ScreenerPage, market: Market, errors: Errors
) -> None:
    errors.forgive("Failed to load resource")
    await screener.open("?where=rsi_14<30")
    market.failing = 503
    await screener.wait_for_connection("reconnecting", within_s=60)
    assert await screener.symbols() == ["BTC/USDT", "ETH/USDT"]
    market.failing = None
    await screener.wait_for_connection("connected", within_s=60)
    market.failing = 500
    await screener.page.reload()
    await screener.wait_for_data("screen-state", "error")
    await expect(screener.page.locator("#notice")).to_contain_text("could not be loaded")
    market.failing = None
    await screener.page.get_by_role("button", name="Try again").click()
    await screener.wait_for_data("screen-state", "ready")


async def test_a_row_opens_its_chart_in_the_timeframe_of_the_screen(screener: ScreenerPage) -> None:
    await screener.open("?timeframe=4h&where=rsi_14<30&sort=rsi_14")
    await screener.page.keyboard.press("ArrowDown")
    await screener.page.keyboard.press("ArrowDown")
    await screener.page.keyboard.press("Enter")
    await screener.page.wait_for_url("**/charts/binance/ETH-USDT?timeframe=4h*")


async def test_the_result_is_saved_as_csv(screener: ScreenerPage) -> None:
    await screener.open("?where=rsi_14<30&sort=rsi_14")
    async with screener.page.expect_download() as started:
        await screener.page.get_by_role("button", name="CSV").click()
    download = await started.value
    assert download.suggested_filename == "screen-1h.csv"
    rows = list(csv.DictReader(io.StringIO(Path(await download.path()).read_text(encoding="utf-8"))))
    assert [(row["symbol"], row["rsi_14"]) for row in rows] == [("BTC/USDT", "21.5"), ("ETH/USDT", "25")]
    assert rows[0]["bar"].startswith("2026-01-15T1")


async def test_hundreds_fit_and_only_those_in_sight_are_drawn(screener: ScreenerPage, market: Market) -> None:
    market.list_many(500)
    await screener.open()
    assert len(await screener.symbols()) <= 60
    assert await screener.page.locator("#screen").get_attribute("aria-rowcount") == str(1 + 500 + 17)
    await screener.page.keyboard.press("ArrowDown")
    await screener.page.keyboard.press("End")
    last = screener.page.locator("#screen tr.instrument a:focus")
    await expect(last).to_be_in_viewport(ratio=1)
    assert await screener.page.evaluate("document.activeElement.closest('tr').getAttribute('aria-rowindex')") == "518"


async def test_a_phone_shows_what_matters(screener: ScreenerPage) -> None:
    page = screener.page
    await page.set_viewport_size({"width": 390, "height": 780})
    await screener.open("?where=rsi_14<30,volume<2*volume_sma")
    for selector in ("#presets button", "#timeframes button", "[data-sort='rsi_14']"):
        await expect(page.locator(selector).first).to_be_visible()
    price = page.locator("#screen td.last").first
    assert await price.evaluate("cell => cell.scrollWidth <= cell.clientWidth"), await price.text_content()
    assert await page.evaluate(CUT) == []
