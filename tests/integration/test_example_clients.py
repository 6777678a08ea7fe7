"""The example clients of docs/api.md, as they stand there, right through a disconnect."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

from app.config import ROOT
from app.domain.timeframes import MINUTE_MS
from tests.browser.browser import ARGUMENTS, chromium
from tests.browser.pages import page_until
from tests.browser.wire import Wire
from tests.integration.web_data import START_MS
from tests.processes import until
from tests.wired import Collector

CHANNEL = "binance:BTC/USDT@1m"
KEEP = "__import__('pathlib').Path('{}').write_text(__import__('json').dumps(list(bars.values())))"


def example(language: str, containing: str) -> str:
    """The code block of that language which has these words."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    found = [block for block in re.findall(rf"```{language}\n(.*?)```", text, re.S) if containing in block]
    assert len(found) == 1
    return str(found[0])


def stored(address: str) -> list[Any]:
    """The series as the database has it."""
    with urllib.request.urlopen(
        f"http://{address}/api/charts/BTC-USDT?limit=900&indicators=none", timeout=60
    ) as answer:
        bars: list[Any] = json.load(answer)["bars"]
    return bars


def whole(path: Path) -> Any:
    """The bars the client wrote down, oldest first; None while it writes."""
    try:
        return sorted(json.loads(path.read_text()), key=lambda row: row["time"])
    except json.JSONDecodeError:
        return None


def line(count: int, close: float) -> str:
    return f"{count} {START_MS + (count - 1) * MINUTE_MS} {close:g}"


def wait_for(path: Path, text: str, *, timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while text not in [row.removesuffix(".0") for row in path.read_text().splitlines()]:
        assert time.monotonic() < end, f"no {text!r} in\n{path.read_text()[-800:]}"
        time.sleep(0.1)


@contextmanager
def python_client(wire: Wire, folder: Path) -> Iterator[tuple[Path, Path]]:
    """The example at work: the files with what it says, and with the bars it holds."""
    script, said, held = folder / "live.py", folder / "said.txt", folder / "held.json"
    code = example("python", "aiohttp")
    script.write_text(code.replace("flush=True)", f"flush=True)\n                        {KEEP.format(held)}"))
    url = wire.url.replace("http", "ws") + "/ws"
    with said.open("wb") as out:
        process = subprocess.Popen([sys.executable, str(script), url, CHANNEL], stdout=out, stderr=subprocess.STDOUT)
        try:
            yield said, held
        finally:
            process.terminate()
            process.wait(60)


def test_the_python_client_holds_the_series_through_a_disconnect(
    address: str, wire: Wire, collector: Collector, tmp_path: Path
) -> None:
    count, close = collector.add(20)
    with python_client(wire, tmp_path) as (said, held):
        wait_for(said, line(count, close))
        collector.revise(3)
        wire.drop()
        wait_for(said, line(*collector.add(7)))
        wait_for(said, line(*collector.add(1)))
        until(lambda: whole(held) == stored(address), what="the client's series is the database's")


def test_the_python_client_waits_with_a_chart_that_has_no_bars_yet(
    address: str, wire: Wire, collector: Collector, tmp_path: Path
) -> None:
    with python_client(wire, tmp_path) as (said, held):
        until(lambda: held.exists() and whole(held) == [], what="the client was sent an empty chart")
        wait_for(said, line(*collector.add(1)))
        until(lambda: whole(held) == stored(address), what="the client has the first bar")


@pytest.mark.browser
def test_the_javascript_client_holds_the_series_through_a_disconnect(
    address: str, wire: Wire, collector: Collector
) -> None:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium at /usr/bin/chromium or on PATH")
    code = example("javascript", "new WebSocket").replace(
        "ws://127.0.0.1:8000/ws", wire.url.replace("http", "ws") + "/ws"
    )
    code = code.replace("\nkeep(", "\nwindow.bars = keep(")
    found = asyncio.run(_in_the_browser(f"{wire.url}/favicon.ico", code, wire=wire, collector=collector, path=path))
    assert found == stored(address)


async def _in_the_browser(page_url: str, code: str, *, wire: Wire, collector: Collector, path: str) -> list[Any]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            page = await browser.new_page()
            await page.goto(page_url)
            for minutes in (20, 7, 1):
                count, close = await asyncio.to_thread(collector.add, minutes)
                if minutes == 20:
                    await page.evaluate(f"() => {{{code}}}")
                last = "[window.bars.size, window.bars.get(Math.max(...window.bars.keys()))?.close]"
                await page_until(page, f"{last}.join() === '{count},{close:g}'", within_s=90)
                if minutes == 20:
                    await asyncio.to_thread(collector.revise, 3)
                    await asyncio.to_thread(wire.drop)
            found: list[Any] = await page.evaluate("[...window.bars.values()].sort((a, b) => a.time - b.time)")
            return found
        finally:
            await browser.close()
