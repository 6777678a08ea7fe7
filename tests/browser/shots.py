"""Screenshots of every page in every state, to be looked at: `python -m tests.browser.shots FOLDER [NAME PART]`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.browser.browser import ARGUMENTS, chromium
from tests.browser.market import CONNECTED, Market
from tests.browser.stub import Stub

CHART = "/charts/binance/BTC-USDT"
ALL = "?timeframe=5m&indicators=volume,rsi,macd,stoch,bb,sma_20,sma_50,vwap"


def _usual(market: Market) -> None:
    market.reset()


def _slow(market: Market) -> None:
    market.slow_s = 3


def _broken(market: Market) -> None:
    market.failing = 500


def _empty(market: Market) -> None:
    market.empty = True


def _down(market: Market) -> None:
    market.status = {"feed": "down", "since": CONNECTED["at"] - 700_000, "at": CONNECTED["at"]}


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
    ("error", "/nowhere", _usual),
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
