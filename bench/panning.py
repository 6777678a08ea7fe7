"""Scripting a frame while the chart of 5,000 bars with six overlays is dragged; the goal is 8 ms, printed to look at.

python bench/panning.py [BARS] starts the pages over the stub of the browser tests, in headless Chromium.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.async_api import CDPSession, Page, async_playwright

from tests.browser.browser import ARGUMENTS, chromium
from tests.browser.generated import MINUTE, NOW
from tests.browser.pages import ChartPage
from tests.browser.stub import Stub

OVERLAYS = "bb,sma_20,sma_50,sma_200,ema_12,vwap"
FRAMES = 240

# Notes how long the callbacks of each frame took; those of one frame are called with the same time.
WATCH = """() => {
  const watched = window.framesTaken !== undefined;
  window.framesTaken = new Map();
  if (watched) return;
  const usual = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => usual((time) => {
    const began = performance.now();
    callback(time);
    window.framesTaken.set(time, (window.framesTaken.get(time) ?? 0) + performance.now() - began);
  });
}"""


async def main(bars: int) -> None:
    """Draw, drag, print."""
    stub = Stub(request_timeout_ms=60_000).start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            at = NOW - NOW % MINUTE - (bars - 1000) * MINUTE
            chart = ChartPage(page, stub.url)
            await chart.open("binance", "BTC/USDT", query=f"?timeframe=1m&indicators={OVERLAYS}&at={at}", wait=False)
            await chart.wait_until_drawn(within_s=60)
            print(f"{await chart.bars():,} bars, {len(OVERLAYS.split(','))} overlays, {FRAMES} frames")
            for spacing, presses in (("about 150 bars in sight", 0), ("about 900 bars in sight", 8)):
                for _ in range(presses):
                    await page.keyboard.press("-")
                await drag(page, await page.context.new_cdp_session(page), spacing)
            await browser.close()
    finally:
        stub.stop()


async def drag(page: Page, session: CDPSession, title: str) -> None:
    """Drag the chart to and fro, a step each frame."""
    await session.send("Performance.enable")
    await page.evaluate(WATCH)
    await page.mouse.move(600, 300)
    await page.mouse.down()
    before = await script_s(session)
    for step in range(FRAMES):
        await page.mouse.move(600 + (step * 7 % 400 if step // 57 % 2 else 400 - step * 7 % 400), 300)
    spent = await script_s(session) - before
    await page.mouse.up()
    frames = sorted(await page.evaluate("[...window.framesTaken.values()].filter((took) => took > 0.2)"))
    if not frames:
        print(f"  {title}: no frame was drawn")
        return
    print(
        f"  {title}: median {statistics.median(frames):.1f} ms, 95 % {frames[int(len(frames) * 0.95)]:.1f} ms, "
        f"worst {frames[-1]:.1f} ms of scripting in {len(frames)} drawn frames; "
        f"{spent * 1000 / len(frames):.1f} ms a frame with all that is not drawing"
    )


async def script_s(session: CDPSession) -> float:
    """Seconds of JavaScript so far, by Chromium's own count."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(row["value"] for row in metrics if row["name"] == "ScriptDuration"))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000))
