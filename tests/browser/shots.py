"""Screenshots of every page in every state, to be looked at: `python -m tests.browser.shots FOLDER [NAME PART]`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.browser.browser import ARGUMENTS, chromium
from tests.browser.generated import MINUTE, NOW
from tests.browser.market import Market
from tests.browser.states import ASLEEP, CONNECTED, NO_KEY, POLLED, REFUSED, XIST_CLOSED, XNYS_OPEN
from tests.browser.status_stub import hole
from tests.browser.stub import Stub

CHART = "/charts/binance/BTC-USDT"
SIX = ",".join(
    f"binance:{name}@{timeframe}"
    for name, timeframe in zip(
        ("BTC-USDT", "ETH-USDT", "SOL-USDT", "BNB-USDT", "ADA-USDT", "BTC-USDT"),
        ("1m", "5m", "15m", "1h", "4h", "1d"),
        strict=True,
    )
)
ALL = "?timeframe=5m&indicators=volume,rsi,macd,stoch,bb,sma_20,sma_50,vwap"


def _usual(market: Market) -> None:
    market.reset()


def _slow(market: Market) -> None:
    market.slow_s = 3


def _broken(market: Market) -> None:
    market.failing = 500


def _empty(market: Market) -> None:
    market.empty = True


def _many(market: Market) -> None:
    market.list_many(500)


def _down(market: Market) -> None:
    market.states.feeds["binance"] = {"feed": "down", "since": NOW - 700_000, "at": NOW}


def _three(market: Market) -> None:
    """All three markets at work: one around the clock, one open, one delayed."""
    market.states.feeds |= {"alpaca": CONNECTED, "yahoo": POLLED}
    market.states.hours["XNYS"] = XNYS_OPEN
    book = {"bid": 276.0, "bid_size": 1200, "ask": 276.25, "ask_size": 310, "time": NOW}
    market.quotes["THYAO.IS"] = {"book": book, "halt": None}


def _closed(market: Market) -> None:
    _three(market)
    market.states.feeds["yahoo"] = ASLEEP
    market.states.hours["XIST"] = XIST_CLOSED


def _halted(market: Market) -> None:
    _three(market)
    market.quotes["THYAO.IS"] = {"book": None, "halt": {"code": "T1", "reason": "News pending", "time": NOW}}


def _no_key(market: Market) -> None:
    market.states.feeds["alpaca"] = NO_KEY


def _refused(market: Market) -> None:
    market.states.feeds["alpaca"] = REFUSED


def _closed_reads(market: Market) -> None:
    market.token = "a token"


def _holes(market: Market) -> None:
    start, end = market.lose("BTC/USDT", 40, 14)
    gap = {"cause": "feed down", "reason": "the feed was down", "found": end}
    recent = {"start": NOW - NOW % MINUTE - 8 * MINUTE, "end": NOW - NOW % MINUTE - 6 * MINUTE, **gap}
    market.holes["BTC/USDT"] = [{"start": start, "end": end, **gap}, recent]


def _status(market: Market) -> None:
    """A platform at work on some backfills."""
    _three(market)
    platform = market.platform
    platform.notes = ["Alpaca is not collected: set ALPACA_API_KEY and ALPACA_SECRET_KEY"]
    platform.add("ADA/USDT", state="done", done=1.0, left_s=None, note="done")
    platform.add(
        "SOL/USDT", state="failed", done=0.4, note="Binance: Invalid symbol.", error="Binance: Invalid symbol."
    )
    platform.add("ETH/USDT", state="waiting", done=0.0, rate=None, left_s=None, note="waits for its turn")
    platform.add("BTC/USDT", done=0.63)


def _status_bad(market: Market) -> None:
    _status(market)
    platform = market.platform
    market.states.feeds["binance"] = {"feed": "down", "since": NOW - 700_000, "at": NOW}
    remedy = "logs/streamer-binance.log has the reason and the next attempt; its minutes are repaired afterwards"
    platform.troubles = [
        {"what": "Binance: the feed is down", "remedy": remedy},
        {"what": "2 holes have waited over 5 minutes for repair", "remedy": "each hole's last error says why"},
    ]
    platform.summary = {"level": "degraded", "words": "Binance: the feed is down, and 1 more", "remedy": remedy}
    platform.lanes[0] |= {"state": "broken", "words": "Binance is down", "count": 1, "lag_s": None}
    platform.lanes[2] |= {"state": "behind", "words": "trades are stored late, or there are none", "lag_s": 312.0}
    error = "binance rests for 12.0 s: the requests of this minute are used up"
    platform.holes = [hole(12, "BTC/USDT", minutes=9, error=error), hole(11, "ETH/USDT", minutes=14)]


def _status_away(market: Market) -> None:
    platform = market.platform
    platform.database = platform.redis = False
    words, remedy = "The database cannot be reached", "Nothing is stored until it is back. Is the server up?"
    platform.troubles = [{"what": words, "remedy": remedy}, {"what": "Redis cannot be reached", "remedy": "Is it up?"}]
    platform.summary = {"level": "down", "words": f"{words}, and 1 more", "remedy": remedy}
    for lane in platform.lanes:
        lane.update(state="unknown", words="not known", lag_s=None, count=None, of=None)


SHOTS: list[tuple[str, str, Callable[[Market], None]]] = [
    ("overview", "/", _usual),
    ("overview-loading", "/", _slow),
    ("overview-empty", "/", _empty),
    ("overview-broken", "/", _broken),
    ("chart", f"{CHART}?timeframe=1m", _usual),
    ("chart-full", CHART + ALL, _usual),
    ("chart-loading", CHART, _slow),
    ("chart-empty", "/charts/alpaca/AAPL", _usual),
    ("chart-broken", CHART, _broken),
    ("chart-down", f"{CHART}?timeframe=1h", _down),
    ("overview-three", "/", _three),
    ("overview-closed", "/", _closed),
    ("overview-halted", "/", _halted),
    ("overview-no-key", "/", _no_key),
    ("overview-refused", "/", _refused),
    ("chart-delayed", "/charts/yahoo/THYAO.IS?timeframe=1m", _three),
    ("chart-closed", "/charts/yahoo/THYAO.IS?timeframe=1m", _closed),
    ("chart-halted", "/charts/yahoo/THYAO.IS?timeframe=5m", _halted),
    ("chart-no-key", "/charts/alpaca/AAPL", _no_key),
    ("chart-refused", "/charts/alpaca/AAPL", _refused),
    ("chart-holes", f"{CHART}?timeframe=1m", _holes),
    ("multi", "/multi", _usual),
    ("multi-six", f"/multi?layout=6&cells={SIX}&indicators=volume,ema_12,bb,rsi", _holes),
    ("multi-two", "/multi?layout=2&cells=binance:BTC-USDT@1m,yahoo:THYAO.IS@15m", _three),
    ("multi-states", "/multi?layout=4&cells=binance:NOPE-USDT@1m,alpaca:AAPL@5m,yahoo:THYAO.IS@1h", _closed),
    ("multi-loading", "/multi", _slow),
    ("multi-broken", "/multi", _broken),
    ("overview-many", "/?sort=change&dir=desc", _many),
    ("screener", "/screener", _three),
    ("screener-own", "/screener?timeframe=5m&where=rsi_14<90,close>0.9*sma_50,volume>0.1*volume_sma", _three),
    ("screener-none", "/screener?where=rsi_14>99", _three),
    ("screener-bad", "/screener?where=rsi15>99", _three),
    ("screener-loading", "/screener", _slow),
    ("screener-broken", "/screener", _broken),
    ("status", "/status", _status),
    ("status-bad", "/status", _status_bad),
    ("status-away", "/status", _status_away),
    ("status-loading", "/status", _slow),
    ("status-broken", "/status", _broken),
    ("error", "/nowhere", _usual),
    ("api-docs", "/api/docs", _usual),
    ("api-docs-open", "/api/docs#/charts/charts", _usual),
    ("error-near", "/errors/404", _usual),
    ("error-busy", "/errors/429", _usual),
    ("error-broken", "/errors/500", _usual),
    ("error-away", "/errors/503", _usual),
    ("error-offline", "/offline", _slow),
    ("token", "/", _closed_reads),
]


async def shoot(browser: Browser, stub: Stub, folder: Path, only: str) -> None:
    """All pages, both themes; the wide and the narrow ones only where something is shown."""
    for theme in ("dark", "light"):
        for width, height in ((1280, 800), (390, 780), (2560, 1300)):
            context = await browser.new_context(
                viewport={"width": width, "height": height}, timezone_id="Europe/Istanbul"
            )
            await context.add_init_script(f"localStorage.setItem('market:theme', '\"{theme}\"')")
            for name, path, prepare in SHOTS:
                if only not in f"{name}-{theme}-{width}":
                    continue
                stub.market.reset()
                prepare(stub.market)
                page = await context.new_page()
                page.on(
                    "console", lambda message: print("  console:", message.text) if message.type == "error" else None
                )
                page.on("pageerror", lambda error: print("  error:", error))
                await page.goto(stub.url + path, wait_until="domcontentloaded")
                await page.wait_for_timeout(900 if "loading" in name else 2500)
                await page.screenshot(path=str(folder / f"{name}-{theme}-{width}.png"))
                await page.close()
            await context.close()


async def main(folder: Path, only: str) -> None:
    """Start the stub and a browser, shoot, stop."""
    folder.mkdir(parents=True, exist_ok=True)
    stub = Stub().start()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        await shoot(browser, stub, folder, only)
        await browser.close()
    stub.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
