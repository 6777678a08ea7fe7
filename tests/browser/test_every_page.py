"""Every page in both themes, on a phone and on a desk: readable, not wider than its window, and without complaints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, Route

from app.config import ROOT
from tests.browser.axe import assert_accessible
from tests.browser.generated import NOW
from tests.browser.market import DELAYED, Market
from tests.browser.pages import Errors, page_until
from tests.browser.states import CONNECTED, POLLED, XNYS_OPEN
from tests.browser.status_stub import hole
from tests.browser.stub import Stub

pytestmark = pytest.mark.browser

GROUNDS = {"dark": "rgb(11, 14, 20)", "light": "rgb(255, 255, 255)"}
WIDTHS = {1280: 800, 390: 780}
CELLS = "binance:BTC-USDT@1m,yahoo:THYAO.IS@15m,binance:NOPE@1m,alpaca:AAPL@1h"
SEEN = "document.querySelectorAll(`{}`).length >= {}"
# The boxes that would scroll the page sideways, and what of the head line lies beyond an edge that does not scroll.
WIDE = """() => [document.documentElement, document.body, document.querySelector("main")]
  .filter((one) => one.scrollWidth > Math.min(one.clientWidth, innerWidth)).map((one) => one.localName)"""
BEYOND = """() => [...document.querySelectorAll(".topbar :is(a, button)")].filter((one) => {
  const { left, right, width } = one.getBoundingClientRect();
  return width > 0 && (left < 0 || right > innerWidth + 0.5);
}).map((one) => one.outerHTML.slice(0, 120))"""
# Charts take their new size in one frame and draw in the next.
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
GROUND = """() => [...new Set([document.body, ...document.querySelectorAll(".swagger-ui")].map((one) =>
  getComputedStyle(one).backgroundColor))].join(" ")"""


def _usual(market: Market) -> None:
    """All three markets at work."""
    market.states.feeds |= {"alpaca": CONNECTED, "yahoo": POLLED}
    market.states.hours["XNYS"] = XNYS_OPEN
    market.quotes["THYAO.IS"] = {"book": {"bid": 276.0, "bid_size": 1200, "ask": 276.25, "ask_size": 310, "time": NOW}}
    market.quotes["THYAO.IS"] |= {"halt": None}


def _screen(market: Market) -> None:
    _usual(market)
    known = {"rsi_14": 21.5, "change_24h": 4.0, "close": 101.0, "sma_200": 100.0}
    market.figures = dict.fromkeys(("BTC/USDT", "ETH/USDT", *DELAYED), known)


def _troubled(market: Market) -> None:
    """One of everything that the status page has a colour for."""
    _usual(market)
    platform = market.platform
    platform.add("ADA/USDT", state="done", done=1.0, left_s=None, note="done")
    platform.add("SOL/USDT", state="failed", done=0.4, note="Binance: Invalid symbol.", error="Invalid symbol.")
    platform.add("BTC/USDT", done=0.63)
    platform.holes = [hole(4, "BTC/USDT", minutes=9, error="429 Too Many Requests"), hole(3, "ETH/USDT", minutes=14)]
    platform.notes = ["Alpaca is not collected: set ALPACA_API_KEY and ALPACA_SECRET_KEY"]
    platform.lanes[1]["state"], platform.lanes[2]["state"] = "behind", "broken"
    platform.summary = {"level": "degraded", "words": "Binance: the feed is down, and 1 more", "remedy": "read its log"}
    platform.troubles = [{"what": f"trouble {n} of the platform", "remedy": "its log says why"} for n in (1, 2)]


@dataclass(frozen=True)
class Place:
    """A page of the product: where it is, and when it stands there whole."""

    name: str
    template: str
    address: str
    whole: str
    prepare: Callable[[Market], None] = _usual
    forgiven: tuple[str, ...] = ()


def _error(code: int, whole: str) -> Place:
    return Place(f"error-{code}", "error.html", f"/errors/{code}", whole, forgiven=(f"{code} (",))


PLACES = (
    Place("overview", "overview.html", "/", SEEN.format("tr.instrument polyline", 7)),
    Place(
        "chart",
        "chart.html",
        "/charts/binance/BTC-USDT?timeframe=5m&indicators=volume,rsi,macd,bb,sma_20",
        SEEN.format("[data-chart-state=ready] #connection[data-state=connected]", 1),
    ),
    Place(
        "multi",
        "multi.html",
        f"/multi?layout=4&cells={CELLS}",
        f"{SEEN.format('.cell[data-state=ready]:has(.state[data-state=connected])', 2)} && "
        + SEEN.format(".cell .notice:not([hidden])", 2),
    ),
    Place(
        "screener",
        "screener.html",
        "/screener?where=rsi_14<30,close>0.5*sma_200",
        SEEN.format("[data-screen-state=ready] tr.instrument", 3),
        _screen,
    ),
    Place(
        "status",
        "status.html",
        "/status",
        SEEN.format("[data-status-state=ready] #backfills tr[data-key]", 3),
        _troubled,
    ),
    Place(
        "api",
        "api-docs.html",
        "/api/docs#/charts/charts",
        SEEN.format("#operations-charts-charts .parameters", 1),
    ),
    _error(404, SEEN.format(".near li", 3)),
    _error(500, SEEN.format("[data-error-code]", 1)),
    _error(503, SEEN.format("#parts:not([hidden]) [data-state]", 3)),
    Place("offline", "offline.html", "/offline", SEEN.format("[data-page=offline] #waiting", 1), forgiven=("502 (",)),
)


def test_no_page_is_left_out() -> None:
    templates = {path.name for path in (ROOT / "templates").glob("*.html")}
    assert {place.template for place in PLACES} == templates - {"base.html"}


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_a_page_is_good_in_both_themes_and_widths(
    page: Page, stub: Stub, market: Market, errors: Errors, place: Place
) -> None:
    errors.forgive(*place.forgiven)
    place.prepare(market)
    await page.route("**/api/health/live", _nobody)  # what the page without a server asks: it stays while looked at
    await page.goto(stub.url + place.address)
    await page_until(page, place.whole, within_s=30)
    for theme, ground in GROUNDS.items():
        for width, height in WIDTHS.items():
            await page.set_viewport_size({"width": width, "height": height})
            await _show(page, theme, ground)
            try:
                await _judge(page)
            except AssertionError as error:
                error.add_note(f"in the {theme} theme, {width} pixels wide")
                raise


async def _show(page: Page, theme: str, ground: str) -> None:
    """Switch to the theme as users do; a page without the switch follows what was remembered elsewhere."""
    if await page.locator("html").get_attribute("data-theme") != theme:
        switch = page.locator('[data-action="theme"]')
        if await switch.count():
            await switch.click()
        else:
            await page.evaluate("(theme) => localStorage.setItem('market:theme', JSON.stringify(theme))", theme)
            await page.reload()
    await page_until(page, f"({GROUND})() === '{ground}'")


async def _judge(page: Page) -> None:
    await page.evaluate(SETTLED)
    assert await page.evaluate(WIDE) == [], "it scrolls sideways"
    assert await page.evaluate(BEYOND) == [], "out of reach"
    await assert_accessible(page)


async def _nobody(route: Route) -> None:
    await route.fulfill(status=502, body="nobody")
