"""The page of several charts in Chromium, over the stub: address, links, focus, states, live updates."""

from __future__ import annotations

import itertools
import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import MINUTE, STEPS
from tests.browser.market import CRYPTO, Market, pristine
from tests.browser.pages import Errors, MultiPage
from tests.browser.states import ASLEEP, XIST_CLOSED
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
TWO = "?layout=2&cells=binance:BTC-USDT@1m,binance:ETH-USDT@15m"
SIX = "?layout=6&cells=" + ",".join(
    f"binance:{name}-USDT@{timeframe}"
    for name, timeframe in zip(
        ("BTC", "ETH", "SOL", "BNB", "ADA", "BTC"), ("1m", "1m", "5m", "5m", "1m", "1m"), strict=True
    )
)
SHIFTS = """() => {
  window.shifted = 0;
  new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.shifted += entry.value; })
    .observe({ type: "layout-shift", buffered: false });
}"""

WATCHERS = """
window.watchers = 0;
for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
  const own = document[name].bind(document);
  document[name] = (type, ...rest) => {
    window.watchers += type === "visibilitychange" ? step : 0;
    own(type, ...rest);
  };
}
"""


@pytest.fixture
def multi(page: Page, stub: Stub) -> MultiPage:
    """The page, not opened yet; what is made up once is made up now, not while its requests' clocks run."""
    for symbol, timeframe in itertools.product(CRYPTO, ("1m", "5m", "15m", "1h")):
        pristine(symbol, timeframe)
    return MultiPage(page, stub.url)


async def test_a_first_visit_shows_the_first_instruments_and_their_address(multi: MultiPage) -> None:
    await multi.open(drawn=4)
    assert await multi.shown() == ["BTC/USDT@1m", "ETH/USDT@5m", "SOL/USDT@15m", "BNB/USDT@1h"]
    cells = "cells=binance:BTC-USDT@1m,binance:ETH-USDT@5m,binance:SOL-USDT@15m,binance:BNB-USDT@1h"
    assert f"/multi?layout=4&{cells}&link=crosshair&" in multi.page.url
    await expect(multi.cell(0).locator(".price")).to_have_text("65,045.75")
    await expect(multi.cell(0).locator(".quote .span")).to_have_text("24 h")


async def test_a_copied_address_shows_the_same_elsewhere(multi: MultiPage, market: Market) -> None:
    await multi.open(query=f"{TWO}&link=symbol&indicators=volume,sma_20", drawn=2)
    address = multi.page.url
    assert not any("ema_12" in asked for asked in market.asked)
    await multi.page.evaluate("localStorage.clear()")
    await multi.page.goto(address)
    await multi.wait_until_drawn(2)
    assert await multi.shown() == ["BTC/USDT@1m", "ETH/USDT@15m"]
    assert multi.page.url == address
    await expect(multi.page.get_by_label("Link the symbols")).to_have_attribute("aria-pressed", "true")
    await expect(multi.page.get_by_label("Link the crosshairs")).to_have_attribute("aria-pressed", "false")


@pytest.mark.slow
async def test_the_last_layout_is_remembered_without_an_address(multi: MultiPage) -> None:
    await multi.open(query=TWO, drawn=2)
    await multi.page.get_by_label("6 charts").click()
    await multi.wait_until_drawn(5)
    await expect(multi.cell(5)).to_have_attribute("data-state", "empty")  # the sixth has no bars yet
    await multi.page.get_by_label("1 chart", exact=True).click()
    await multi.wait_until_drawn(1)
    await multi.open(drawn=1)
    assert await multi.shown() == ["BTC/USDT@1m"]
    await multi.page.get_by_label("2 charts").click()
    await multi.wait_until_drawn(2)
    assert await multi.shown() == ["BTC/USDT@1m", "ETH/USDT@15m"], "a hidden cell comes back as it was"


async def test_the_crosshair_marks_the_bar_that_contains_the_time(multi: MultiPage) -> None:
    cells = "?layout=4&cells=binance:BTC-USDT@5m,binance:ETH-USDT@1m,binance:SOL-USDT@15m,binance:BTC-USDT@1d"
    await multi.open(query=cells, drawn=4)
    time = await multi.point(0)
    assert time % (5 * MINUTE) == 0
    for index, timeframe in ((1, "1m"), (2, "15m"), (3, "1d")):
        step = STEPS[timeframe] * MINUTE
        await expect(multi.cell(index)).to_have_attribute("data-marked", str(time - time % step))
    await expect(multi.cell(2).locator(".legend .bar-line")).to_contain_text("verified")
    await multi.page.mouse.move(600, 20)
    await expect(multi.cell(2)).to_have_attribute("data-marked", "")
    await multi.page.get_by_label("Link the crosshairs").click()
    await multi.point(0)
    await expect(multi.cell(2)).to_have_attribute("data-marked", "")


async def test_an_hour_marks_its_first_minute(multi: MultiPage, market: Market) -> None:
    await multi.open(query="?layout=2&cells=binance:BTC-USDT@1h,binance:BTC-USDT@1m", drawn=2)
    loaded = [row["time"] for row in market.minutes("BTC/USDT")[-1000:]]
    for from_right in (0.26, 0.32, 0.7):
        hour = await multi.point(0, from_right=from_right)
        inside = [time for time in loaded if hour <= time < hour + 60 * MINUTE]
        await expect(multi.cell(1)).to_have_attribute("data-marked", str(inside[0]) if inside else "")


async def test_a_linked_symbol_goes_to_all_cells_each_with_its_timeframe(multi: MultiPage) -> None:
    await multi.open(query=TWO, drawn=2)
    await multi.page.set_viewport_size({"width": 600, "height": 620})  # the second cell's button is low on the page
    await multi.cell(1).locator(".symbol-button").click()
    box = await multi.page.locator("#switcher").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 620, "the whole list is in sight"
    await multi.choose("sol")
    await multi.wait_until_drawn(2)
    assert await multi.shown() == ["BTC/USDT@1m", "SOL/USDT@15m"]
    await multi.page.get_by_label("Link the symbols").click()
    await multi.wait_until_drawn(2)
    assert await multi.shown() == ["SOL/USDT@1m", "SOL/USDT@15m"]
    await multi.page.keyboard.press("/")
    await multi.choose("ada")
    await multi.wait_until_drawn(2)
    assert await multi.shown() == ["ADA/USDT@1m", "ADA/USDT@15m"]
    assert "cells=binance:ADA-USDT@1m,binance:ADA-USDT@15m&link=crosshair,symbol" in multi.page.url


async def test_the_keyboard_acts_on_the_focused_cell(multi: MultiPage) -> None:
    await multi.open(query="?layout=4&cells=binance:BTC-USDT@1m,binance:ETH-USDT@1m", drawn=4)
    await expect(multi.cell(0)).to_have_attribute("data-focused", "true")
    await multi.page.keyboard.press("Shift+ArrowRight")
    await multi.page.keyboard.press("Shift+ArrowDown")
    await expect(multi.cell(3)).to_have_attribute("data-focused", "true")
    await expect(multi.page.locator('.cell[data-focused="true"]')).to_have_count(1)
    await multi.page.keyboard.press("2")
    await expect(multi.cell(3)).to_have_attribute("data-timeframe", "5m")
    await expect(multi.cell(0)).to_have_attribute("data-timeframe", "1m")
    for _ in range(5):
        await multi.page.keyboard.press("ArrowLeft")
    await expect(multi.cell(3).locator(".go-to-now")).to_be_visible()
    await expect(multi.cell(2).locator(".go-to-now")).to_be_hidden()
    await multi.page.keyboard.press("End")
    await expect(multi.cell(3).locator(".go-to-now")).to_be_hidden()
    await multi.page.keyboard.press("i")
    await expect(multi.page.locator("#indicators-menu")).to_be_visible()
    await multi.page.keyboard.press("Escape")
    await multi.page.keyboard.press("f")
    await multi.page.wait_for_url("**/charts/binance/BNB-USDT?timeframe=5m*")


@pytest.mark.slow
async def test_a_double_click_opens_the_chart_page(multi: MultiPage) -> None:
    await multi.open(query=TWO, drawn=2)
    await multi.cell(1).locator(".plot").dblclick(position={"x": 200, "y": 200})
    await multi.page.wait_for_url("**/charts/binance/ETH-USDT?timeframe=15m*")


async def test_indicators_are_chosen_for_all_cells_as_many_as_have_room(multi: MultiPage) -> None:
    await multi.open(query=TWO, drawn=2)
    await multi.page.get_by_label("Indicators", exact=True).first.click()
    for label in ("SMA 20", "RSI 14", "MACD 12 26 9"):
        await multi.page.locator("#indicators-menu").get_by_label(label, exact=True).click()
    await multi.page.keyboard.press("Escape")
    for index in (0, 1):
        await expect(multi.cell(index).locator('[data-study="sma_20"] .values')).not_to_have_text("–")
        await expect(multi.cell(index).locator('[data-study="macd"] .values b').first).not_to_have_text("–")
    assert "indicators=volume,rsi,macd,sma_20,ema_12,ema_26" in multi.page.url
    await multi.page.get_by_label("4 charts").click()
    await expect(multi.cell(0).locator('[data-study="macd"]')).to_have_count(0)
    await expect(multi.cell(0).locator('[data-study="rsi"]')).to_have_count(1)


async def test_what_an_address_gets_wrong_is_said_in_its_cell(multi: MultiPage) -> None:
    await multi.open(query="?layout=3&cells=binance:NOPE-USDT@1m,binance:ETH-USDT@7m,BINANCE:sol-usdt&link=nonsense")
    await multi.wait_until_drawn(3)
    await expect(multi.cell(0)).to_have_attribute("data-state", "unknown")
    await expect(multi.cell(0).locator(".notice")).to_contain_text("“binance:NOPE-USDT” is not on the watchlist")
    await expect(multi.cell(1).locator(".older")).to_have_text("There is no timeframe “7m”: this is 1mTry again")
    assert (await multi.shown())[1:3] == ["ETH/USDT@1m", "SOL/USDT@1m"]
    for key in ("3", "ArrowLeft", "End", "f"):
        await multi.page.keyboard.press(key)
    await multi.page.get_by_role("button", name="Search an instrument").click()
    await multi.choose("btc")
    await multi.wait_until_drawn(4)
    assert (await multi.shown())[0] == "BTC/USDT@15m"


async def test_every_cell_tells_its_own_state(multi: MultiPage, market: Market) -> None:
    market.states.feeds["yahoo"] = ASLEEP
    market.states.hours["XIST"] = XIST_CLOSED
    start, end = market.lose("BTC/USDT", 40, 14)
    market.holes["BTC/USDT"] = [{"start": start, "end": end, "cause": "feed down", "reason": "the feed was down"}]
    await multi.open(query="?layout=4&cells=binance:BTC-USDT@1m,alpaca:AAPL@5m,yahoo:THYAO.IS@1h,binance:ADA-USDT@1m")
    await multi.wait_until_drawn(2)
    await expect(multi.cell(0)).to_have_attribute("data-gaps", "1")
    await expect(multi.cell(1)).to_have_attribute("data-state", "empty")
    await expect(multi.cell(1).locator(".notice")).to_contain_text("Market closed, opens Thu 15 Jan 17:30 UTC+3")
    await expect(multi.cell(2).locator(".market .hours")).to_have_text("Market closed, opens Fri 16 Jan 09:40 UTC+3")
    await expect(multi.cell(2).locator(".state")).to_have_text("waiting for the market")
    await expect(multi.cell(3).locator(".market .hours")).to_be_hidden()


async def test_a_trade_shows_in_every_cell_of_its_symbol_and_moves_nothing(multi: MultiPage, market: Market) -> None:
    cells = "?layout=4&cells=binance:BTC-USDT@1m,binance:ETH-USDT@1m,binance:SOL-USDT@5m,binance:BTC-USDT@1m"
    await multi.open(query=cells, drawn=4)
    await multi.page.evaluate(SHIFTS)
    for price in (66_000.25, 66_100.5):
        market.trade("BTC/USDT", price)
        for index in (0, 3):
            await expect(multi.cell(index).locator(".price")).to_have_text(f"{price:,.2f}")
            await expect(multi.cell(index)).to_have_attribute("data-live-close", re.compile(rf"{price:g}"))
    market.complete("BTC/USDT")
    for index in (0, 3):
        await expect(multi.cell(index)).to_have_attribute("data-bars", "1001")
    assert await multi.page.evaluate("window.shifted") == 0


@pytest.mark.slow
async def test_a_hidden_page_paints_nothing_and_catches_up(multi: MultiPage, market: Market) -> None:
    await multi.open(query=TWO, drawn=2)
    before = await multi.cell(0).get_attribute("data-live-close")
    show = """(hidden) => {
      Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await multi.page.evaluate(show, True)
    market.trade("BTC/USDT", 67_000.5)
    market.trade("ETH/USDT", 3_500.5)
    await multi.page.wait_for_timeout(1500)  # longer than the second in which a page in sight repaints
    assert await multi.cell(0).get_attribute("data-live-close") == before
    await multi.page.evaluate(show, False)
    await expect(multi.cell(0)).to_have_attribute("data-live-close", "67000.5")
    await expect(multi.cell(0).locator(".price")).to_have_text("67,000.50")


@pytest.mark.slow
async def test_lost_connections_come_back_complete(multi: MultiPage, market: Market, errors: Errors) -> None:
    errors.forgive("WebSocket connection")
    await multi.open(query="?layout=2&cells=binance:BTC-USDT@1m,binance:BTC-USDT@1m", drawn=2)
    market.refusing = True
    market.drop()
    for index in (0, 1):
        await expect(multi.cell(index).locator(".state")).to_contain_text("reconnecting")
    for _ in range(3):
        market.complete("BTC/USDT")
    market.refusing = False
    await multi.wait_until_drawn(2)
    for index in (0, 1):
        await expect(multi.cell(index)).to_have_attribute("data-bars", "1003")


async def test_a_cell_that_fails_says_so_and_is_tried_again(multi: MultiPage, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    await multi.open(query=TWO, drawn=2)
    market.failing = 500
    await multi.cell(1).get_by_role("button", name="5m", exact=True).click()
    await expect(multi.cell(1)).to_have_attribute("data-state", "error")
    await expect(multi.cell(1).locator(".notice")).to_contain_text("The database cannot be reached.")
    await expect(multi.cell(0)).to_have_attribute("data-state", "ready")
    market.failing = None
    await multi.cell(1).get_by_role("button", name="Try again").last.click()
    await multi.wait_until_drawn(2)


async def test_without_the_list_of_instruments_the_page_says_so(
    multi: MultiPage, market: Market, errors: Errors
) -> None:
    errors.forgive("Failed to load resource")
    market.failing = 500
    await multi.open()
    await expect(multi.page.locator("#notice")).to_contain_text("The database cannot be reached.")
    market.failing = None
    await multi.page.locator("#notice").get_by_role("button", name="Try again").click()
    await multi.wait_until_drawn(4)


async def test_a_phone_stacks_the_cells_and_scrolls(multi: MultiPage) -> None:
    await multi.page.set_viewport_size({"width": 390, "height": 780})
    await multi.open(drawn=4)
    boxes = [await multi.cell(index).bounding_box() for index in range(4)]
    assert all(box is not None and box["width"] == 390 and box["height"] > 300 for box in boxes)
    page = await multi.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert page[0] <= 390
    assert page[1] > 1300
    for index in range(4):
        heads = await multi.cell(index).evaluate(
            "(cell) => [...cell.querySelectorAll('.cell-head > *')].every((one) => "
            "one.getBoundingClientRect().right <= 390)"
        )
        assert heads
    links = multi.page.locator(".sections")
    assert await links.evaluate("(strip) => strip.scrollWidth <= strip.clientWidth")  # none hides behind an edge


async def test_cells_that_are_gone_leave_nothing_behind(multi: MultiPage) -> None:
    await multi.page.add_init_script(WATCHERS)
    await multi.open(query=TWO, drawn=2)
    before = await multi.page.evaluate("window.watchers")
    for name, drawn in (("4 charts", 4), ("2 charts", 2)):
        await multi.page.get_by_label(name).click()
        await multi.wait_until_drawn(drawn)
    assert await multi.page.evaluate("window.watchers") == before > 0


@pytest.mark.alone
@pytest.mark.slow
async def test_six_charts_of_a_thousand_bars_stay_fluent(multi: MultiPage, market: Market) -> None:
    """The scripting time of a live update that reaches all six charts, by Chromium's own count."""
    await multi.open(query=SIX.replace("@5m", "@1m"), drawn=6)
    await multi.page.get_by_role("button", name="Settings").click()
    await multi.page.locator("#repaints").select_option("10")
    await multi.page.keyboard.press("Escape")
    session = await multi.page.context.new_cdp_session(multi.page)
    await session.send("Performance.enable")

    async def spent() -> dict[str, float]:
        found = (await session.send("Performance.getMetrics"))["metrics"]
        return {one["name"]: one["value"] * 1000 for one in found if one["name"].endswith("Duration")}

    rounds = 30
    before = await spent()
    for n in range(rounds):
        for index, symbol in enumerate(("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "ADA/USDT")):
            market.trade(
                symbol, round(market.minutes(symbol)[-1]["close"] * (1.0001 if (n + index) % 2 else 0.9999), 4)
            )
        await multi.page.wait_for_timeout(150)
    after = await spent()
    told = {
        name: (after[name] - before[name]) / rounds
        for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration")
    }
    print("\nms for a live update of six charts:", {name: round(value, 2) for name, value in told.items()})
    assert told["ScriptDuration"] < 300  # about 30 where nothing else runs; it counts the time others have the cores
