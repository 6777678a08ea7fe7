"""The chart page's tools in Chromium, over the stub: keys, full screen, the way to other pages, exports."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import NOW
from tests.browser.market import Market
from tests.browser.pages import ChartPage, page_until
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def placed(chart: ChartPage) -> int | None:
    """The time in the address, up to which the chart shows; None while it shows the newest bar."""
    found = await chart.page.evaluate("new URLSearchParams(location.search).get('at')")
    return None if found is None else int(found)


async def wait_for_place(chart: ChartPage, condition: str) -> None:
    """Wait until the time in the address (`at`, null at the newest bar) is as the JavaScript `condition` says."""
    at = "(at => at === null ? null : Number(at))(new URLSearchParams(location.search).get('at'))"
    await page_until(chart.page, f"(at => {condition})({at})")


async def test_the_keys_are_shown_and_do_what_they_say(chart: ChartPage) -> None:
    await chart.open(*BTC)
    await chart.page.keyboard.press("?")
    shown = chart.page.locator("#help")
    await expect(shown).to_be_visible()
    for words in ("full screen", "a screenful", "oldest bar loaded", "timeframe, 1m to 1d", "not verified yet"):
        await expect(shown).to_contain_text(words)
    await chart.page.keyboard.press("3")
    assert await chart.data("timeframe") == "1m", "keys do nothing below an open dialog"
    await chart.page.keyboard.press("Escape")
    await expect(shown).to_be_hidden()
    for key, menu in (("/", "#switcher"), ("i", "#indicators-menu"), ("e", "#export-menu")):
        await chart.page.keyboard.press(key)
        await expect(chart.page.locator(menu)).to_be_visible()
        await chart.page.keyboard.press("Escape")
        await expect(chart.page.locator(menu)).to_be_hidden()


async def test_the_chart_is_walked_by_screens_and_to_its_ends(chart: ChartPage) -> None:
    await chart.open(*BTC)
    await chart.page.locator("#plot").focus()
    await chart.page.keyboard.press("Shift+ArrowLeft")
    await wait_for_place(chart, f"at !== null && at < {NOW} - 100 * 60000")
    page_back = await placed(chart)
    assert page_back is not None
    await chart.page.keyboard.press("Shift+ArrowRight")
    await wait_for_place(chart, f"at === null || at > {page_back} + 60 * 60000")
    await chart.page.keyboard.press("Home")
    await chart.wait_for_data("bars", 2000)
    await chart.page.keyboard.press("End")
    await expect(chart.page.locator("#go-to-now")).to_be_hidden()
    await wait_for_place(chart, "at === null")


async def test_full_screen_comes_and_goes_by_button_and_by_key(chart: ChartPage) -> None:
    await chart.open(*BTC)
    button = chart.page.locator("#full-screen")
    await button.click()
    await expect(button).to_have_attribute("aria-pressed", "true")
    await chart.page.keyboard.press("f")
    await expect(button).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("width", [390, 1280])
async def test_every_page_is_in_reach(chart: ChartPage, width: int) -> None:
    await chart.page.set_viewport_size({"width": width, "height": 780})
    await chart.open(*BTC)
    await chart.page.get_by_role("button", name="Pages").click()
    links = chart.page.locator("#pages-menu a")
    await expect(links).to_have_text(["Overview", "Charts", "Screener", "Status", "API"])
    await links.first.click()
    await chart.wait_for_data("overview-state", "ready")


async def test_csv_holds_the_series_and_the_shown_indicators(chart: ChartPage, market: Market, tmp_path: Path) -> None:
    await chart.open(*BTC, query="?timeframe=5m&indicators=rsi,sma_20")
    await chart.page.locator("[popovertarget=export-menu]").click()
    await expect(chart.page.locator("#export-menu .count")).to_have_text("1,000 bars")
    async with chart.page.expect_download() as waiting:
        await chart.page.locator("[data-export=csv]").click()
    download = await waiting.value
    assert download.suggested_filename == "binance-BTC-USDT-5m-2026-01-15T1410Z.csv"
    await download.save_as(tmp_path / "bars.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "bars.csv").read_text())))
    bars, values = market.series("BTC/USDT", "5m")
    assert len(rows) == 1000
    assert rows[-1]["time"] == "2026-01-15T17:10:00+03:00", "the page's zone, that of the browser"
    for row, bar in zip(rows, bars[-1000:], strict=True):
        assert int(row["time_ms"]) == bar["time"]
        for name in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count"):
            assert float(row[name]) == bar[name]
        assert (row["state"], row["origin"], row["delayed"]) == (bar["state"], bar["origin"], "false")
        value = values.get(bar["time"], {})
        for name in ("rsi_14", "sma_20"):
            assert (float(row[name]) if row[name] else None) == value.get(name)
    assert list(rows[0])[-2:] == ["rsi_14", "sma_20"]


async def test_the_picture_shows_all_panes_their_legends_and_what_it_is(chart: ChartPage, tmp_path: Path) -> None:
    await chart.open(*BTC)
    # What is written onto the picture, and whether it holds pixels of every pane.
    await chart.page.evaluate("""() => {
      window.written = [];
      const usual = CanvasRenderingContext2D.prototype.fillText;
      CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        if (!this.canvas.isConnected) window.written.push(text.trim());
        return usual.call(this, text, ...rest);
      };
    }""")
    await chart.page.keyboard.press("e")
    async with chart.page.expect_download() as waiting:
        await chart.page.locator("[data-export=png]").click()
    download = await waiting.value
    assert download.suggested_filename == "binance-BTC-USDT-1m-2026-01-15T1410Z.png"
    await download.save_as(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes()[1:4] == b"PNG"
    written = await chart.page.evaluate("window.written")
    assert {"BTC/USDT", "Binance  ·  1m  ·  15 Jan 2026 17:10 UTC+3", "RSI 14", "MACD 12 26 9", "live"} <= set(written)
    legend = await chart.page.locator('[data-study="rsi"] .values b').text_content()
    assert legend in written
    height = int.from_bytes((tmp_path / "chart.png").read_bytes()[20:24])
    stage = await chart.page.locator("#content").bounding_box()
    assert stage is not None
    assert height == stage["height"] + 40


async def test_nothing_is_exported_where_nothing_is(chart: ChartPage) -> None:
    await chart.open("alpaca", "AAPL", wait=False)
    await chart.wait_for_data("chart-state", "empty")
    await chart.page.keyboard.press("e")
    await chart.page.locator("[data-export=csv]").click()
    await expect(chart.page.locator("#toast")).to_have_text("There are no bars to export yet")
