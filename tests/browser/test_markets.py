"""Three markets in Chromium, over the stub: hours, delays, bid and ask, halts, refusals, missing keys, gaps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import MINUTE, NOW
from tests.browser.market import Market
from tests.browser.pages import ChartPage, OverviewPage
from tests.browser.states import ASLEEP, CONNECTED, NO_KEY, POLLED, REFUSED, XIST_CLOSED, XIST_OPEN, XNYS_OPEN
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC, THYAO, AAPL = ("binance", "BTC/USDT"), ("yahoo", "THYAO.IS"), ("alpaca", "AAPL")
BOOK = {"bid": 264.0, "bid_size": 1200, "ask": 264.25, "ask_size": 310, "time": NOW}

# Where everything stands that is not to move when words change.
PLACES = """() => {
  const fixed = document.querySelectorAll("#plot, .timeframes, .topbar button, #quote, #market, .topbar");
  return [...fixed].map((element) => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return element.id === "quote" ? [x, y, height] : [x, y, width, height];
  });
}"""


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


@pytest.fixture
def overview(page: Page, stub: Stub) -> OverviewPage:
    """The overview, not opened yet."""
    return OverviewPage(page, stub.url)


def gap(start: int, end: int) -> dict[str, Any]:
    return {"start": start, "end": end, "cause": "feed down", "reason": "the feed was down", "found": end}


async def test_a_delayed_market_says_until_when_and_how_late(chart: ChartPage, market: Market) -> None:
    market.states.feeds["yahoo"] = POLLED
    await chart.open(*THYAO)
    assert await chart.wait_for_connection("connected") == "connected"
    line = chart.page.locator("#market")
    await expect(line).to_have_text("Market open until 18:10 UTC+3delayed 15 min")
    await expect(chart.page.locator(".legend .badge").first).to_contain_text("delayed")
    await expect(chart.page.locator("#quote .unit")).to_have_text("TRY")

    market.tell_status("yahoo", ASLEEP, hours=XIST_CLOSED)
    await expect(line).to_contain_text("Market closed, opens Fri 16 Jan 09:40 UTC+3")
    assert await chart.wait_for_connection("closed") == "waiting for the market"
    market.tell_status("yahoo", POLLED, hours=XIST_OPEN)
    await expect(line).to_contain_text("Market open until 18:10")


@pytest.mark.parametrize("width", [390, 1000, 1280])
async def test_nothing_moves_when_feed_and_market_change(chart: ChartPage, market: Market, width: int) -> None:
    await chart.page.set_viewport_size({"width": width, "height": 800})
    market.states.feeds["yahoo"] = POLLED
    await chart.open(*THYAO)
    await chart.wait_for_connection("connected")
    before = await chart.page.evaluate(PLACES)
    down = {"feed": "down", "since": NOW - 600_000, "at": NOW, "error": "429 Too Many Requests, try again later"}
    for feed, hours, dot in (
        (ASLEEP, XIST_CLOSED, "closed"),
        (down, XIST_CLOSED, "down"),
        (REFUSED, XIST_OPEN, "refused"),
    ):
        market.tell_status("yahoo", feed, hours=hours)
        await chart.wait_for_connection(dot)
        assert await chart.page.evaluate(PLACES) == before, dot
    market.tell_quote("THYAO.IS", book=BOOK)
    market.tell_status("yahoo", POLLED, hours=XIST_OPEN)
    await expect(chart.page.locator("#market .more")).to_contain_text("Ask 264.25")
    assert await chart.page.evaluate(PLACES) == before


async def test_a_feed_that_breaks_while_the_market_is_closed_is_told_beside_it(
    chart: ChartPage, market: Market
) -> None:
    market.states.hours["XIST"] = XIST_CLOSED
    market.states.feeds["yahoo"] = {"feed": "down", "since": NOW - 600_000, "at": NOW, "error": "429 Too Many Requests"}
    await chart.open(*THYAO)
    assert await chart.wait_for_connection("down") == "feed down since 17:00 UTC+3: 429 Too Many Requests"
    await expect(chart.page.locator("#market")).to_contain_text("Market closed, opens Fri 16 Jan")


async def test_bid_ask_and_a_halt_come_and_go(chart: ChartPage, market: Market) -> None:
    market.states.feeds["yahoo"] = POLLED
    await chart.open(*THYAO)
    await chart.wait_for_connection("connected")
    more = chart.page.locator("#market .more")
    market.tell_quote("THYAO.IS", book=BOOK)
    await expect(more).to_have_text("Bid 264.00 × 1,200   Ask 264.25 × 310")
    market.tell_quote("THYAO.IS", book=BOOK, halt={"code": "T1", "reason": "News pending", "time": NOW})
    await expect(more).to_have_text("Halted: News pending (T1)")
    market.tell_quote("THYAO.IS")
    await expect(more).to_have_text("")


async def test_a_refused_feed_says_why_and_a_missing_key_what_to_set(chart: ChartPage, market: Market) -> None:
    market.states.feeds["alpaca"] = REFUSED
    await chart.open(*AAPL, wait=False)
    await chart.wait_for_data("chart-state", "empty")
    assert await chart.wait_for_connection("refused") == "feed refused"
    await expect(chart.page.locator("#market")).to_have_text("Feed refused: connection limit exceeded (406)")
    await expect(chart.page.locator("#notice")).to_contain_text("refuses us: connection limit exceeded (406)")
    market.tell_status("alpaca", NO_KEY)
    assert await chart.wait_for_connection("none") == "no key"
    await expect(chart.page.locator("#market")).to_have_text("No key: set ALPACA_API_KEY and ALPACA_SECRET_KEY")
    await expect(chart.page.locator("#notice")).to_contain_text("set ALPACA_API_KEY and ALPACA_SECRET_KEY")


async def test_a_gap_is_left_open_shaded_and_closes_by_itself(chart: ChartPage, market: Market) -> None:
    start, end = market.lose("BTC/USDT", 40, 14)
    market.holes["BTC/USDT"] = [gap(start, end)]
    await chart.open(*BTC, query="?timeframe=1m")
    await chart.wait_for_connection("connected")
    await chart.wait_for_data("gaps", 1)
    bars = await chart.bars()
    legend = chart.page.locator('.legend[data-pane="price"] .bar-line')
    await expect(legend.locator(".gap")).to_have_text("1 gap")
    words = "16:30 to 16:44 UTC+3: the feed was down, waiting for repair"
    for x in range(700, 950, 8):
        await chart.page.mouse.move(x, 300)
        if words in (await legend.text_content() or ""):
            break
    await expect(legend).to_have_text(f"no bar here{words}")

    market.restore("BTC/USDT")
    market.tell_holes("BTC/USDT", [])
    await chart.wait_for_data("gaps", 0)
    await chart.wait_for_data("bars", bars + 14)
    await expect(legend.locator(".gap")).to_have_count(0)


async def test_a_gap_that_opens_at_the_newest_bar_is_shown(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC, query="?timeframe=5m")
    await chart.wait_for_connection("connected")
    newest = NOW - NOW % MINUTE
    market.tell_holes("BTC/USDT", [gap(newest + MINUTE, newest + 31 * MINUTE)])
    await chart.wait_for_data("gaps", 1)
    market.trade("BTC/USDT", 66_000.25)
    await chart.wait_for_data("live-close", 66_000.25)


async def test_quiet_minutes_of_a_stock_and_its_night_are_no_gap(chart: ChartPage, market: Market) -> None:
    await chart.open(*THYAO, query="?timeframe=1m")
    assert await chart.data("gaps") == "0"
    rows = market.minutes("THYAO.IS")
    missing = [row["time"] + MINUTE for row, later in pairwise(rows) if later["time"] - row["time"] > MINUTE]
    assert missing, "the market has quiet minutes"
    start, end = market.lose("THYAO.IS", 30, 10)
    market.tell_holes("THYAO.IS", [gap(start, end)])
    await chart.wait_for_data("gaps", 1)


async def test_each_exchange_tells_its_hours_and_its_feed(overview: OverviewPage, market: Market) -> None:
    market.states.feeds |= {"alpaca": CONNECTED, "yahoo": ASLEEP}
    market.states.hours |= {"XNYS": XNYS_OPEN, "XIST": XIST_CLOSED}
    await overview.open()

    def head(exchange: str) -> Any:
        return overview.page.locator(f'tbody[data-exchange="{exchange}"] .group-line')

    await expect(head("binance")).to_have_text("BinanceOpen around the clockconnected")
    await expect(head("alpaca")).to_have_text("AlpacaMarket open until 00:00 UTC+3connected")
    await expect(head("yahoo")).to_contain_text("Market closed, opens Fri 16 Jan 09:40 UTC+3 · delayed 15 min")
    await expect(overview.row(*THYAO).locator(".state")).to_have_text("market closed")

    market.tell_status("yahoo", POLLED, hours=XIST_OPEN)
    await expect(head("yahoo")).to_have_text("Borsa IstanbulMarket open until 18:10 UTC+3delayed 15 min")
    await expect(overview.row(*THYAO).locator(".state")).to_have_text("delayed 15 min")
    market.tell_quote("THYAO.IS", book=BOOK)
    await expect(overview.row(*THYAO).locator(".last")).to_have_attribute(
        "title", "Bid 264.00 × 1,200   Ask 264.25 × 310"
    )
    market.tell_quote("THYAO.IS", halt={"code": "T1", "reason": "News pending", "time": NOW})
    await expect(overview.row(*THYAO).locator(".state")).to_have_text("halted")

    market.tell_status("alpaca", NO_KEY)
    await expect(head("alpaca")).to_contain_text("no key: set ALPACA_API_KEY and ALPACA_SECRET_KEY")
    await expect(overview.row(*AAPL).locator(".state")).to_have_text("no key")
    market.tell_status("alpaca", REFUSED)
    await expect(head("alpaca")).to_contain_text("feed refused: connection limit exceeded (406)")
    await expect(overview.row(*AAPL).locator(".state")).to_have_text("feed refused")


@pytest.mark.parametrize(("width", "height"), [(390, 780), (1280, 800)])
async def test_nothing_sticks_out(overview: OverviewPage, market: Market, width: int, height: int) -> None:
    market.states.feeds |= {"alpaca": NO_KEY, "yahoo": POLLED}
    market.quotes["THYAO.IS"] = {"book": BOOK, "halt": None}
    await overview.page.set_viewport_size({"width": width, "height": height})
    await overview.open()
    assert await overview.page.evaluate("document.documentElement.scrollWidth") <= width
    chart = ChartPage(overview.page, overview.base_url)
    await chart.open(*THYAO)
    await expect(chart.page.locator("#market .more")).not_to_be_empty()
    assert await chart.page.evaluate("document.documentElement.scrollWidth") <= width
    assert await chart.page.evaluate("document.documentElement.scrollHeight") <= height
    boxes = [await chart.page.locator(selector).bounding_box() for selector in ("#quote", ".timeframes", "#market")]
    quote, timeframes, line = [box for box in boxes if box is not None]
    beside = quote["x"] + quote["width"] <= timeframes["x"]
    assert beside or quote["y"] + quote["height"] <= timeframes["y"]
    assert line["y"] >= quote["y"] + quote["height"]
    cut = "(() => { const one = document.querySelector('#market'); return one.scrollWidth - one.clientWidth; })()"
    market.tell_status("yahoo", ASLEEP, hours=XIST_CLOSED)
    await expect(chart.page.locator("#market .hours")).to_contain_text("closed")
    assert await chart.page.evaluate(cut) <= 0, "the hours and the delay are to be read in full"
