"""The chart page in Chromium, over the stub: drawing, live updates, history, faults."""

from __future__ import annotations

import re
import time

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import MINUTE, NOW
from tests.browser.market import Market
from tests.browser.pages import ChartPage, Errors
from tests.browser.states import CONNECTED
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")
EVERYTHING = "volume,rsi,macd,stoch,bb,sma_20,sma_50,sma_100,sma_200,ema_12,ema_26,ema_50,vwap"


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def test_candles_volume_and_panes_are_drawn(chart: ChartPage) -> None:
    await chart.open(*BTC)
    assert await chart.bars() == 1000
    assert await chart.data("panes") == "3"
    await chart.wait_for_pixels(
        "up", "down", "line-rsi", "line-macd", "line-signal", "up-pale", "down-pale", more_than=20
    )


async def test_every_indicator_is_drawn_and_has_a_legend(chart: ChartPage) -> None:
    await chart.open(*BTC, query=f"?indicators={EVERYTHING}")
    assert await chart.data("panes") == "4"
    tokens = [
        "line-stoch-k",
        "line-bollinger",
        "line-vwap",
        *(f"line-sma-{n}" for n in (20, 50)),
        *(f"line-ema-{n}" for n in (12, 26, 50)),
    ]
    await chart.wait_for_pixels(*tokens, more_than=5)
    assert await chart.page.locator(".legend .study").count() == len(EVERYTHING.split(","))


async def test_a_trade_shows_at_once_in_the_header_and_soon_in_the_live_bar(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    times = []
    for price, text in ((66_000.25, "66,000.25"), (66_100.5, "66,100.50"), (65_900.75, "65,900.75")):
        began = time.monotonic()
        market.trade("BTC/USDT", price)
        await chart.wait_for_text("#price", text)
        times.append(time.monotonic() - began)
    assert min(times) < 1  # the machine is shared: the best of three counts
    await chart.wait_for_data("live-close", 65_900.75)
    assert (await chart.live())[0] == NOW - NOW % MINUTE
    await expect(chart.page).to_have_title(re.compile(r"65,900\.75 BTC/USDT"))


async def test_repaints_are_at_most_one_a_second_unless_set_to_ten(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    await chart.page.evaluate("""() => {
      window.paints = 0;
      new MutationObserver(() => { window.paints += 1; })
        .observe(document.documentElement, { attributes: true, attributeFilter: ["data-live-close"] });
    }""")

    async def paints_a_second() -> float:
        """By the page's own clock: a busy machine stretches the waits."""
        before, since = await chart.page.evaluate("[window.paints, performance.now()]")
        for n in range(50):
            market.trade("BTC/USDT", 66_000 + n)
            await chart.page.wait_for_timeout(50)
        after, now = await chart.page.evaluate("[window.paints, performance.now()]")
        return float(after - before) * 1000 / float(now - since)

    assert 0.4 <= await paints_a_second() <= 1.6
    await chart.page.get_by_label("Chart settings").first.click()
    await chart.page.locator("#repaints").select_option("10")
    assert 3 <= await paints_a_second() <= 11


async def test_a_completed_bar_brings_its_values_and_the_next_bar(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    market.complete("BTC/USDT")
    await chart.wait_for_data("live-time", NOW - NOW % MINUTE + MINUTE)
    assert await chart.bars() == 1001
    expected = market.series("BTC/USDT", "1m")[1][NOW - NOW % MINUTE]["rsi_14"]
    await chart.wait_for_text('[data-study="rsi"] .values', f"{expected:.1f}")


async def test_timeframes_switch_by_click_and_by_key_and_stay_in_the_address(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    for timeframe in ("5m", "1h"):
        await chart.switch_timeframe(timeframe)
        assert await chart.bars() == min(1000, len(market.series("BTC/USDT", timeframe)[0]))
        assert f"timeframe={timeframe}" in chart.page.url
    await chart.page.keyboard.press("2")
    await chart.wait_for_data("timeframe", "5m")
    await chart.wait_until_drawn()
    await chart.page.reload()
    await chart.wait_for_data("timeframe", "5m")


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
async def test_the_change_is_over_a_day_whatever_the_timeframe(
    chart: ChartPage, market: Market, timeframe: str
) -> None:
    await chart.open(*BTC, query=f"?timeframe={timeframe}")
    start = NOW - NOW % (15 * MINUTE) - 1440 * MINUTE
    before = [row for row in market.minutes("BTC/USDT") if row["time"] < start][-1]["close"]
    change = (market.minutes("BTC/USDT")[-1]["close"] / before - 1) * 100
    await chart.wait_for_text("#change-span", "24 h")
    await chart.wait_for_text("#change .share", f"{change:+.2f}%".replace("-", "−"))


async def test_every_timeframe_has_a_live_bar(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC, query="?timeframe=4h")
    await chart.wait_for_connection("connected")
    market.trade("BTC/USDT", 71_234.5)
    await chart.wait_for_data("live-close", 71_234.5)


async def test_scrolling_left_loads_older_bars_and_their_indicators(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    await chart.scroll_back(900)
    await chart.wait_for_data("bars", 2000)
    oldest = market.series("BTC/USDT", "1m")[0][-1000]["time"]
    older = [address for address in market.asked if f"end={oldest}" in address]
    assert len(older) == 1, "one page is asked for once"
    assert "rsi_14" in older[0]
    button = chart.page.locator("#go-to-now")
    await expect(button).to_be_visible()
    await button.click()
    await expect(button).to_be_hidden()


async def test_an_indicator_is_loaded_when_asked_for(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    assert not any("bb_upper" in address for address in market.asked)
    await chart.toggle("Bollinger 20 2")
    value = chart.page.locator('[data-study="bb"] .values b').first
    await expect(value).not_to_have_text("–")
    await chart.wait_for_pixels("line-bollinger", more_than=5)
    await chart.toggle("Stochastic 14 3 3")
    await chart.wait_for_data("panes", 4)
    await chart.toggle("RSI 14")
    await chart.wait_for_data("panes", 3)
    assert "indicators=volume,macd,stoch,bb" in chart.page.url


async def test_the_legend_follows_the_crosshair(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    legend = chart.page.locator('.legend[data-pane="price"] .bar-line')
    await expect(legend).to_contain_text("live")
    await chart.page.mouse.move(500, 300)
    await expect(legend).to_contain_text("verified")
    await chart.page.mouse.move(500, 20)
    await expect(legend).to_contain_text("live")


async def test_a_lost_connection_says_so_comes_back_and_refills(
    chart: ChartPage, market: Market, errors: Errors
) -> None:
    errors.forgive("WebSocket connection")
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    market.refusing = True
    market.drop()
    assert "reconnecting" in await chart.wait_for_connection("reconnecting")
    for _ in range(3):
        market.complete("BTC/USDT")
    market.trade("BTC/USDT", 68_000.0)
    market.refusing = False
    await chart.wait_for_connection("connected")
    await chart.wait_for_data("bars", 1003)
    await chart.wait_for_data("live-close", 68_000)


async def test_a_feed_that_is_down_says_since_when(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    market.tell_status("binance", {"feed": "down", "since": NOW - 600_000, "at": NOW})
    assert "feed down since 17:00 UTC+3" in await chart.wait_for_connection("down")
    market.tell_status("binance", CONNECTED)
    await chart.wait_for_connection("connected")


async def test_a_request_that_times_out_says_so_and_can_be_tried_again(chart: ChartPage, market: Market) -> None:
    market.slow_s = 6
    await chart.open(*BTC, wait=False)
    await chart.wait_for_data("chart-state", "loading")
    await expect(chart.page.locator(".skeleton")).to_be_visible()
    await chart.wait_for_data("chart-state", "error")
    await expect(chart.page.locator("#notice")).to_contain_text("No answer within")
    market.slow_s = 0
    await chart.page.get_by_role("button", name="Try again").click()
    await chart.wait_until_drawn()
    await expect(chart.page.locator("#notice")).to_be_hidden()


async def test_a_refused_request_shows_the_servers_words(chart: ChartPage, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    market.failing = 500
    await chart.open(*BTC, wait=False)
    await chart.wait_for_data("chart-state", "error")
    await expect(chart.page.locator("#notice")).to_contain_text("The database cannot be reached.")
    assert await chart.wait_for_connection("none") == "not connected", "asking again mends nothing"
    market.failing = None
    await chart.page.get_by_role("button", name="Try again").click()
    await chart.wait_until_drawn()


async def test_a_short_outage_is_bridged(chart: ChartPage, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    market.failing = 503
    await chart.open(*BTC, wait=False)
    market.failing = None
    await chart.wait_until_drawn()


async def test_older_bars_that_fail_offer_a_retry(chart: ChartPage, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    market.failing = 500
    await chart.scroll_back(900)
    await expect(chart.page.locator("#older")).to_contain_text("could not be loaded")
    market.failing = None
    await chart.page.locator("#older button").click()
    await chart.wait_for_data("bars", 2000)


@pytest.mark.parametrize("query", ["", f"?timeframe=1m&at={NOW - 86_400_000}"])
async def test_an_instrument_without_bars_is_calm(chart: ChartPage, query: str) -> None:
    """Also at an address that names a place in the past, as one from elsewhere may."""
    await chart.open("alpaca", "AAPL", query=query, wait=False)
    await chart.wait_for_data("chart-state", "empty")
    await expect(chart.page.locator("#notice")).to_contain_text("No data yet")
    assert await chart.wait_for_connection("none") == "no feed yet"


async def test_theme_zone_and_repaints_are_remembered(chart: ChartPage) -> None:
    await chart.open(*BTC)
    await chart.page.get_by_label("Switch between dark and light theme").click()
    await chart.page.get_by_label("Chart settings").first.click()
    await chart.page.locator("#settings-menu #zone").select_option("utc")
    await chart.page.locator("#repaints").select_option("5")
    await chart.page.reload()
    await chart.wait_until_drawn()
    assert await chart.data("theme") == "light"
    assert await chart.page.locator("#zone").input_value() == "utc"
    assert await chart.page.locator("#repaints").input_value() == "5"
    await chart.wait_for_pixels("up", "down", more_than=20)


async def test_the_switcher_finds_an_instrument_by_keyboard(chart: ChartPage) -> None:
    await chart.open(*BTC, query="?timeframe=5m")
    await chart.page.keyboard.press("/")
    await chart.page.keyboard.type("sol")
    await expect(chart.page.locator("#switcher [role=option]")).to_have_count(1)
    await chart.page.keyboard.press("Enter")
    await chart.page.wait_for_url("**/charts/binance/SOL-USDT?timeframe=5m*")
    await chart.wait_until_drawn()


async def test_the_bars_can_be_read_as_a_table(chart: ChartPage) -> None:
    await chart.open(*BTC)
    await chart.page.get_by_label("Chart settings").first.click()
    await chart.page.locator("#show-table").click()
    await expect(chart.page.locator("#data-table tbody tr")).to_have_count(200)
    await chart.page.keyboard.press("Escape")
    await expect(chart.page.locator("#data-table")).to_be_hidden()


async def test_a_phone_has_no_sideways_scroll(chart: ChartPage) -> None:
    await chart.page.set_viewport_size({"width": 390, "height": 780})
    await chart.open(*BTC)
    assert await chart.page.evaluate("document.documentElement.scrollWidth") <= 390
