"""Times and marks of the chart in Chromium, over the stub: local, UTC and exchange time agree; how sure a bar is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.generated import MINUTE, NOW
from tests.browser.market import Market
from tests.browser.pages import ChartPage, page_until
from tests.browser.states import POLLED, XIST_CLOSED
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC, THYAO = ("binance", "BTC/USDT"), ("yahoo", "THYAO.IS")

# What format.js makes of moments (ms) at an exchange: date and time, its zone, ISO 8601.
AT_EXCHANGE = """async ([zone, moments]) => {
  const format = await import("/static/js/format.js");
  format.setExchangeZone(zone);
  format.setZone("exchange");
  return moments.map((ms) => [`${format.date(ms)} ${format.clock(ms)}`, format.zoneName(ms), format.iso(ms)]);
}"""


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def choose_zone(chart: ChartPage, zone: str) -> None:
    """Choose in which zone times are shown."""
    await chart.page.get_by_label("Chart settings").first.click()
    await chart.page.locator("#zone").select_option(zone)
    await chart.page.keyboard.press("Escape")


async def table_of(chart: ChartPage) -> tuple[str, str]:
    """The heading of the times in the table of bars, and the newest one."""
    await chart.page.get_by_label("Chart settings").first.click()
    await chart.page.locator("#show-table").click()
    head = await chart.page.locator("#data-table thead th").first.text_content()
    newest = await chart.page.locator("#data-table tbody th").first.text_content()
    await chart.page.keyboard.press("Escape")
    return head or "", newest or ""


async def csv_of(chart: ChartPage, path: Path) -> list[str]:
    """The lines of the exported bars."""
    await chart.page.keyboard.press("e")
    async with chart.page.expect_download() as waiting:
        await chart.page.locator("[data-export=csv]").click()
    await (await waiting.value).save_as(path)
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("zone", "moments", "expected"),
    [
        # 8 March 2026, 07:00 UTC: New York goes from 02:00 to 03:00. 1 November, 06:00 UTC: from 02:00 back to 01:00.
        (
            "America/New_York",
            [1_772_953_199_000, 1_772_953_200_000, 1_793_512_799_000, 1_793_512_800_000],
            [
                ["08 Mar 2026 01:59:59", "UTC−5", "2026-03-08T01:59:59-05:00"],
                ["08 Mar 2026 03:00:00", "UTC−4", "2026-03-08T03:00:00-04:00"],
                ["01 Nov 2026 01:59:59", "UTC−4", "2026-11-01T01:59:59-04:00"],
                ["01 Nov 2026 01:00:00", "UTC−5", "2026-11-01T01:00:00-05:00"],
            ],
        ),
        ("Asia/Kolkata", [NOW], [["15 Jan 2026 19:40:17", "UTC+5:30", "2026-01-15T19:40:17+05:30"]]),
        ("UTC", [NOW], [["15 Jan 2026 14:10:17", "UTC", "2026-01-15T14:10:17Z"]]),
    ],
)
async def test_exchange_time_follows_the_exchanges_clock(
    chart: ChartPage, zone: str, moments: list[int], expected: list[list[str]]
) -> None:
    await chart.page.goto(chart.base_url)
    assert await chart.page.evaluate(AT_EXCHANGE, [zone, moments]) == expected


@pytest.mark.parametrize(
    ("chosen", "head", "newest", "iso"),
    [
        ("local", "Time, UTC−3", "15 Jan 2026 10:55", "2026-01-15T10:55:00-03:00"),
        ("utc", "Time, UTC", "15 Jan 2026 13:55", "2026-01-15T13:55:00Z"),
        ("exchange", "Time, UTC+3", "15 Jan 2026 16:55", "2026-01-15T16:55:00+03:00"),
    ],
)
async def test_table_crosshair_and_csv_speak_the_chosen_zone(
    stub: Stub, browser: Any, tmp_path: Path, chosen: str, head: str, newest: str, iso: str
) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, timezone_id="America/Sao_Paulo")
    chart = ChartPage(await context.new_page(), stub.url)
    await chart.open(*THYAO)
    await expect(chart.page.locator('#zone [value="exchange"]')).to_have_text("Exchange (Istanbul)")
    await choose_zone(chart, chosen)
    assert await table_of(chart) == (head, newest)
    assert (await csv_of(chart, tmp_path / "bars.csv"))[-1].split(",")[1] == iso
    await chart.page.evaluate("""() => {
      window.written = [];
      const usual = CanvasRenderingContext2D.prototype.fillText;
      CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        window.written.push(text);
        return usual.call(this, text, ...rest);
      };
    }""")
    await chart.page.mouse.move(1149, 300)  # the newest bar
    await page_until(chart.page, "label => window.written.includes(label)", f"{newest} {head.removeprefix('Time, ')}")
    await context.close()


async def test_a_day_is_named_by_its_date_in_every_zone(stub: Stub, browser: Any, tmp_path: Path) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, timezone_id="America/Sao_Paulo")
    chart = ChartPage(await context.new_page(), stub.url)
    await chart.open(*BTC, query="?timeframe=1d")
    for zone in ("local", "utc"):
        await choose_zone(chart, zone)
        assert await table_of(chart) == ("Time", "15 Jan 2026")
        assert (await csv_of(chart, tmp_path / "days.csv"))[-1].split(",")[1] == "2026-01-15"
    await context.close()


async def test_a_bar_is_hollow_until_it_is_verified(chart: ChartPage, market: Market) -> None:
    rows, _ = market._own("BTC/USDT", "1m")
    sure = list(rows)
    rows[:] = [{**row, "state": "closed"} if row["completed"] else row for row in rows]
    await chart.open(*BTC, query="?indicators=")
    await chart.wait_for_pixels("up", "down", more_than=20)  # borders and wicks
    hollow = await chart.pixels("up", "down")
    legend = chart.page.locator('.legend[data-pane="price"] .badge').first
    await chart.page.mouse.move(500, 300)
    await expect(legend).to_have_text("closed")
    rows[:] = sure
    await chart.page.reload()
    await chart.wait_until_drawn()
    await chart.wait_for_pixels("up", "down", more_than=20)
    full = await chart.pixels("up", "down")
    assert full["up"] > 1.3 * hollow["up"]
    assert full["down"] > 1.3 * hollow["down"]


async def test_a_live_bar_is_bright_then_hollow(chart: ChartPage, market: Market) -> None:
    await chart.open(*BTC, query="?indicators=")
    await chart.wait_for_connection("connected")
    last = market.minutes("BTC/USDT")[-1]["open"]
    market.trade("BTC/USDT", round(last * 1.004, 2))
    await chart.wait_for_pixels("up-live", more_than=20)
    market.complete("BTC/USDT")
    await chart.wait_for_data("live-time", NOW - NOW % MINUTE + MINUTE)
    looks = await chart.page.evaluate("""async () => {
      const { candle } = await import("/static/js/series.js");
      const bar = { time: 0, open: 1, high: 2, low: 1, close: 2 };
      const look = (more) => candle(0, { ...bar, ...more }, (token) => token).color ?? null;
      return [look({ state: "open", completed: false }), look({ state: "closed", completed: true }),
        look({ state: "verified", completed: true })];
    }""")
    assert looks == ["up-live", "up-soft", None]


async def test_a_delayed_market_is_marked_at_its_newest_bar_while_it_is_open(chart: ChartPage, market: Market) -> None:
    market.states.feeds["yahoo"] = POLLED
    await chart.open(*THYAO, query="?indicators=")
    await chart.wait_for_connection("connected")
    await chart.wait_for_pixels("warn", more_than=20)
    await expect(chart.page.locator("#market .delay")).to_have_text(re.compile("delayed 15 min"))
    market.tell_status("yahoo", POLLED, hours=XIST_CLOSED)
    await expect(chart.page.locator("#market .hours")).to_contain_text("closed")
    await chart.page.mouse.move(600, 300)
    await chart.page.wait_for_timeout(200)
    assert (await chart.pixels("warn"))["warn"] == 0
