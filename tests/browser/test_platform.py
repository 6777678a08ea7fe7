"""The platform itself in Chromium: simulated market, streamer, workers, beat, PostgreSQL, Redis and gunicorn.

The module's processes start once; a trade that the test has happen in the market is followed into the page.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.async_api import Page, expect

from app.config import Settings
from app.local.redis import RedisServer
from app.local.servers import free_port
from tests.browser.pages import ChartPage, Errors, OverviewPage, page_until
from tests.processes import Processes, processes, until
from tests.sandbox import RunningSandbox, start_sandbox

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.alone,
    pytest.mark.slow,
]

BTC = ("binance", "BTC/USDT")
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
MINUTE_MS = 60_000
STEPS_MS = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "1h": 60 * MINUTE_MS, "1d": 1440 * MINUTE_MS}
HEADER_S, LIVE_BAR_S = 1.0, 2.0

# Notes when a text first stood in the header (or as a price of the overview), and in the legend of the live bar, which
# is written with each of its repaints. A price is soon followed by the next one: looking now and then would miss it.
WATCH = """() => {
  window.firstSeen = { header: {}, bar: {} };
  const note = (place, texts) => texts.forEach((text) => { window.firstSeen[place][text] ??= Date.now(); });
  const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
  const read = () => {
    note("header", texts("#price, td.last"));
    note("bar", texts('.legend[data-pane="price"] .bar-line b'));
  };
  new MutationObserver(read).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


@dataclass(frozen=True, slots=True)
class Running:
    """The platform and its market."""

    run: Processes
    market: RunningSandbox
    url: str
    pictures: Path

    def start_web(self) -> None:
        """The web process, as `up` starts it; returns once it answers."""
        self.run.start("web", "-m", "gunicorn", "-c", "webapp/gunicorn_conf.py", "webapp:create_app()")
        until(lambda: self.chart("1m", limit=1) is not None, seconds=90, what="the web process answers")

    def chart(self, timeframe: str, *, limit: int = 5000) -> Any:
        """What REST says of BTC/USDT; None while nobody answers."""
        query = urllib.parse.urlencode({"exchange": "binance", "timeframe": timeframe, "limit": limit})
        try:
            with urllib.request.urlopen(f"{self.url}/api/charts/BTC-USDT?{query}", timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            return None
        except OSError:
            return None

    def now_ms(self) -> int:
        """The market's time."""
        return int(self.market.get("/sandbox/clock")["exchange_us"]) // 1000

    def dear(self) -> float:
        """A price above all that there were, so that it stays the highest of its bar whatever comes after it."""
        return float(max(bar["high"] for bar in self.chart("1d", limit=2)["bars"])) + 3

    async def shoot(self, page: Page, name: str) -> None:
        """A screenshot, to be looked at."""
        await page.screenshot(path=str(self.pictures / f"{name}.png"))


@pytest.fixture(scope="module")
def platform(settings: Settings, engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All processes, the history of three days fetched and its indicators derived."""
    with engine.begin() as connection:
        chosen = sa.text("UPDATE instruments SET active = (exchange = 'binance' AND symbol = ANY(:symbols))")
        connection.execute(chosen, {"symbols": list(SYMBOLS)})
    folder = tmp_path_factory.mktemp("platform")
    with RedisServer(folder) as server:
        with start_sandbox(symbols=",".join(SYMBOLS), rate=1, history_hours=48) as market:
            urls = {"binance_api_url": market.url, "binance_stream_url": market.stream_url, "redis_url": server.url}
            port = free_port()
            with processes(settings.model_copy(update=urls), WEB_PORT=port, START_BACKFILL_HOURS=48) as run:
                running = Running(run, market, f"http://127.0.0.1:{port}", folder)
                run.worker("trades")
                run.worker("bars", concurrency=2)
                run.worker("history")
                run.beat()
                run.start("streamer", "-m", "streamers", "binance")
                running.start_web()
                try:
                    began = time.monotonic()
                    until(lambda: _complete(running), seconds=200, every=1, what="history, indicators and a live bar")
                    print(f"\nwhole after {time.monotonic() - began:.0f} s, pictures in {folder}")
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{run.said()}") from None
                yield running


def _complete(running: Running) -> bool:
    """Whether two days of minutes stand, with indicators to the end, and live trades come in."""
    found = running.chart("1m", limit=2600)
    if not found or len(found["bars"]) < 2600:
        return False
    steps = {bar["time"] for bar in found["bars"]}
    values = [row["rsi_14"] for row in found["indicators"] if row["time"] > max(steps) - 1000 * MINUTE_MS]
    whole = max(steps) - min(steps) == MINUTE_MS * (len(steps) - 1)
    live = found["bars"][-1]
    return whole and len(values) > 990 and all(values) and live["state"] == "open" and live["trade_count"] > 0


@pytest.fixture
def chart(page: Page, platform: Running) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, platform.url)


async def seen(page: Page, place: str, text: str, *, since_ms: float, within_s: float) -> float:
    """Seconds from `since_ms` until the text first stood there; infinite when it did not come."""
    try:
        first = "([place, text]) => window.firstSeen[place][text]"
        at_ms: float = await page_until(page, first, [place, text], within_s=within_s)
    except AssertionError:
        return float("inf")
    return (at_ms - since_ms) / 1000


async def inject(
    platform: Running, page: Page, *places: str, symbol: str = BTC[1], price: float | None = None
) -> tuple[float, ...]:
    """Seconds until a trade at a price not seen before stood in each of the places: header and live bar."""
    price = price or platform.dear()
    text = f"{price:,.2f}"
    began = await page.evaluate("Date.now()")
    await asyncio.to_thread(platform.market.trade, symbol, f"{price:.2f}", "0.5")
    return tuple([await seen(page, place, text, since_ms=began, within_s=3) for place in places or ("header", "bar")])


async def watched_chart(chart: ChartPage, query: str = "?timeframe=1m") -> Page:
    """The chart, connected, its first sights noted."""
    await chart.open(*BTC, query=query)
    await chart.wait_for_connection("connected")
    await chart.page.evaluate(WATCH)
    return chart.page


async def test_candles_and_panes_are_drawn(chart: ChartPage, platform: Running) -> None:
    await chart.open(*BTC, query="?timeframe=1m")
    await chart.wait_for_connection("connected")
    assert await chart.data("panes") == "3"
    assert 1000 <= await chart.bars() <= 1003
    await chart.wait_for_pixels("up", "down", "line-rsi", "line-macd", "line-signal", more_than=20)
    await expect(chart.page.locator("#change-span")).to_have_text("24 h")
    assert abs((await chart.live())[0] - platform.now_ms()) < 2 * MINUTE_MS
    await platform.shoot(chart.page, "chart-1m")


async def test_a_trade_shows_in_the_header_within_1_s_and_in_the_live_bar_within_2(
    chart: ChartPage, platform: Running
) -> None:
    page = await watched_chart(chart)
    times = []
    for _ in range(3):  # the machine is shared: the best of three counts
        times.append(await inject(platform, page))
        await page.wait_for_timeout(400)
    print("\nheader, live bar:", ", ".join(f"{header:.2f} s {bar:.2f} s" for header, bar in times))
    assert min(header for header, _ in times) < HEADER_S, times
    assert min(bar for _, bar in times) < LIVE_BAR_S, times
    await platform.shoot(page, "chart-traded")


async def test_every_timeframe_shows_its_live_bar(chart: ChartPage, platform: Running) -> None:
    page = await watched_chart(chart)
    for timeframe, step in STEPS_MS.items():
        await chart.switch_timeframe(timeframe)
        await chart.wait_for_connection("connected")
        times = [await inject(platform, page) for _ in range(2)]
        print(f"\n{timeframe}: header, live bar:", ", ".join(f"{header:.2f} s {bar:.2f} s" for header, bar in times))
        assert min(bar for _, bar in times) < LIVE_BAR_S, timeframe
        now_ms = platform.now_ms()
        assert (await chart.live())[0] in {now_ms - now_ms % step, now_ms - now_ms % step - step}
        known = platform.chart(timeframe, limit=1000)["bars"]
        assert abs(await chart.bars() - len(known)) <= 1
        await platform.shoot(page, f"timeframe-{timeframe}")


async def test_scrolling_left_loads_older_bars(chart: ChartPage, platform: Running) -> None:
    await chart.open(*BTC, query="?timeframe=1m")
    before = await chart.bars()
    await chart.scroll_back(900)
    loaded = "Number(document.documentElement.dataset.bars) >= 2000"
    await page_until(chart.page, loaded)
    after = await chart.bars()
    print(f"\n{before} bars, {after} after scrolling left")
    await chart.wait_for_pixels("up", "down", "line-rsi", more_than=20)
    await platform.shoot(chart.page, "scrolled-left")


async def test_the_overview_ticks(page: Page, platform: Running) -> None:
    overview = OverviewPage(page, platform.url)
    await overview.open()
    await overview.wait_for_connection("connected")
    assert set(await overview.symbols()) >= {f"binance:{symbol}" for symbol in SYMBOLS}
    await page.evaluate(WATCH)
    for symbol in SYMBOLS:
        row = overview.row("binance", symbol)
        assert await row.locator("polyline").get_attribute("points")
        last = float((await row.locator(".last").inner_text()).replace(",", ""))
        times: list[float] = []
        for factor in (1.01, 1.02, 1.03):
            times += await inject(platform, page, "header", symbol=symbol, price=round(last * factor, 2))
        print(f"\noverview, {symbol}:", ", ".join(f"{seconds:.2f} s" for seconds in times))
        assert min(times) < HEADER_S, times
    await platform.shoot(page, "overview")


async def test_a_gap_is_shown_and_closes_once_it_is_repaired(
    chart: ChartPage, platform: Running, engine: sa.Engine
) -> None:
    """The hole is not over yet, so repair leaves it alone; then it is, and nobody lends a hand."""
    page = await watched_chart(chart)
    await chart.wait_for_data("gaps", 0, within_s=200)  # the minute in which the feed connected
    now_ms = platform.now_ms()
    minute = now_ms - now_ms % MINUTE_MS
    with engine.begin() as connection:
        made = sa.text(
            "INSERT INTO holes (instrument_id, lo, hi, cause)"
            " SELECT id, to_timestamp(:lo), to_timestamp(:hi), 'feed down'"
            " FROM instruments WHERE symbol = 'BTC/USDT' RETURNING id"
        )
        values = {"lo": minute / 1000 - 1800, "hi": minute / 1000 + 3600}
        hole = connection.execute(made, values).scalar_one()
    await chart.wait_for_data("gaps", 1)
    await expect(page.locator(".legend .gap")).to_have_text("1 gap")
    await platform.shoot(page, "gap")
    with engine.begin() as connection:
        over = sa.text("UPDATE holes SET hi = to_timestamp(:hi) WHERE id = :id")
        connection.execute(over, {"hi": minute / 1000 - 1200, "id": hole})
    await chart.wait_for_data("gaps", 0, within_s=120)
    await expect(page.locator(".legend .gap")).to_have_count(0)


async def test_a_closed_market_says_when_it_opens(page: Page, platform: Running, engine: sa.Engine) -> None:
    """Its calendar is one that nobody else knows: a worker fills in the true days of any other."""
    opens_ms = platform.now_ms() // 86_400_000 * 86_400_000 + 2 * 86_400_000 + 14 * 3_600_000 + 30 * MINUTE_MS
    day = sa.text(
        "INSERT INTO sessions (calendar, date, open, close)"
        " VALUES ('XTEST', CAST(to_timestamp(:open) AS date), to_timestamp(:open), to_timestamp(:open + 23400))"
    )
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE instruments SET active = true, calendar = 'XTEST' WHERE symbol = 'AAPL'"))
        connection.execute(day, {"open": opens_ms / 1000})
    try:
        overview = OverviewPage(page, platform.url)
        await overview.open()
        words = time.strftime("Market closed, opens %a %d %b 17:30 UTC+3", time.gmtime(opens_ms / 1000)).replace(
            " 0", " "
        )
        await expect(page.locator('tbody[data-exchange="alpaca"] .group-hours')).to_have_text(words, timeout=180_000)
        head = page.locator('tbody[data-exchange="binance"] .group-line')
        await expect(head).to_have_text("BinanceOpen around the clockconnected")
        await overview.page.goto(f"{platform.url}/charts/alpaca/AAPL")
        await expect(page.locator("#market")).to_have_text(words)
        await expect(page.locator("#notice")).to_contain_text(words)
    finally:
        with engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE instruments SET active = false, calendar = 'XNYS' WHERE symbol = 'AAPL'")
            )


async def test_a_killed_web_process_comes_back_without_a_hole(
    chart: ChartPage, platform: Running, errors: Errors
) -> None:
    """It is away over the end of a minute, so the page misses bars and has to ask for them."""
    errors.forgive("net::ERR_CONNECTION_REFUSED")  # the browser's own words for each attempt while nobody listens
    page = await watched_chart(chart)
    before = await chart.bars()
    platform.run.kill("web")
    assert "reconnecting" in await chart.wait_for_connection("reconnecting")
    await platform.shoot(page, "reconnecting")
    missed = platform.now_ms() // MINUTE_MS
    while platform.now_ms() // MINUTE_MS == missed:
        await page.wait_for_timeout(500)
    await asyncio.to_thread(platform.start_web)
    await chart.wait_for_connection("connected", within_s=60)
    times = [await inject(platform, page) for _ in range(2)]
    assert min(bar for _, bar in times) < LIVE_BAR_S, times
    assert await chart.bars() > before
    await chart.page.get_by_label("Chart settings").first.click()
    await page.locator("#zone").select_option("utc")
    await page.locator("#show-table").click()
    shown = await page.locator("#data-table tbody tr").all_inner_texts()
    known = [_as_shown(bar) for bar in reversed(platform.chart("1m", limit=203)["bars"])]
    table = [tuple(text.split("\t")[index] for index in (0, 1, 2, 3, 4)) for text in shown]
    start = next(at for at, row in enumerate(known) if row[0][-5:] == table[0][0][-5:])
    assert table[1:] == known[start + 1 : start + 200], "the page's bars are those of the database, none missing"
    await platform.shoot(page, "after-reconnect")


def _as_shown(bar: dict[str, Any]) -> tuple[str, ...]:
    when = time.gmtime(bar["time"] / 1000)
    prices = [f"{bar[name]:,.2f}" for name in ("open", "high", "low", "close")]
    return (time.strftime("%d %b %Y %H:%M", when).lstrip("0"), *prices)
