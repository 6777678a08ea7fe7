"""What the chart page costs and whom it serves: JavaScript in bytes, layout shift, accessibility, first colours."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from app.config import ROOT
from tests.browser.axe import assert_accessible
from tests.browser.market import Market
from tests.browser.pages import ChartPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")
SCRIPTS = ROOT / "static" / "js"
MOST_BYTES = 200 * 1024


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


def modules(entry: Path) -> set[Path]:
    """A module and all it imports."""
    found, waiting = set(), [entry]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            imports = re.findall(r'^(?:import|\}) .*?"(\.[^"]+)";$', module.read_text(), re.MULTILINE)
            waiting += [(module.parent / name).resolve() for name in imports]
    return {module.resolve() for module in found}


async def test_the_scripts_of_the_page_weigh_less_than_200_kb(chart: ChartPage) -> None:
    everywhere = {(SCRIPTS / name).resolve() for name in ("theme-init.js", "worker.js")}
    loaded = everywhere | modules(SCRIPTS / "chart-page.js")
    compressed = {module.name: len(gzip.compress(module.read_bytes(), 6)) for module in loaded}
    own = sum(size for name, size in compressed.items() if name != "lightweight-charts.js")
    total = sum(compressed.values())
    print(f"\n{total / 1024:.0f} KB compressed, {own / 1024:.0f} KB of them our own in {len(loaded) - 1} modules")
    assert total < MOST_BYTES

    await chart.open(*BTC)
    asked = await chart.page.evaluate(
        "performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname.split('/').at(-1))"
    )
    assert {name for name in asked if name.endswith(".js")} == set(compressed), "what is counted is what is loaded"


async def test_each_module_is_preloaded(chart: ChartPage) -> None:
    await chart.open(*BTC)
    preloaded = await chart.page.evaluate(
        "[...document.querySelectorAll('link[rel=modulepreload]')].map(({ href }) => href.split('/').at(-1))"
    )
    wanted = {module.name for module in modules(SCRIPTS / "chart-page.js")} - {"chart-page.js"}
    assert set(preloaded) == wanted


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_shifts_while_the_chart_loads_and_lives(chart: ChartPage, market: Market, width: int) -> None:
    await chart.page.set_viewport_size({"width": width, "height": 780})
    await chart.page.add_init_script("""
      window.shifts = [];
      new PerformanceObserver((list) => {
        for (const { value, sources } of list.getEntries()) {
          window.shifts.push([value, sources.map(({ node }) => node?.className ?? "")]);
        }
      }).observe({ type: "layout-shift", buffered: true });
    """)
    market.slow_s = 0.5
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    for price in (66_000.25, 99_999.5, 8.75):
        market.trade("BTC/USDT", price)
        await chart.wait_for_data("live-close", price)
    market.complete("BTC/USDT")
    await chart.wait_for_data("bars", 1001)
    shifts = await chart.page.evaluate("window.shifts")
    assert sum(value for value, _ in shifts) < 0.01, shifts


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_the_first_paint_has_the_right_theme(chart: ChartPage, market: Market, theme: str) -> None:
    await chart.page.add_init_script(f"localStorage.setItem('market:theme', '\"{theme}\"')")
    await chart.page.add_init_script("""
      window.grounds = new Set();
      const look = () => {
        if (document.body) window.grounds.add(getComputedStyle(document.body).backgroundColor);
        window.skeleton ||= document.querySelector(".skeleton")?.checkVisibility() ?? false;
        requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    """)
    market.slow_s = 0.5
    await chart.open(*BTC)
    assert await chart.page.evaluate("window.skeleton"), "something stands there while the bars are on their way"
    grounds = await chart.page.evaluate("[...window.grounds]")
    assert grounds == ["rgb(11, 14, 20)" if theme == "dark" else "rgb(255, 255, 255)"]


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_axe_finds_nothing_in_what_opens(chart: ChartPage, market: Market, theme: str, width: int) -> None:
    await chart.page.set_viewport_size({"width": width, "height": 780})
    await chart.page.add_init_script(f"localStorage.setItem('market:theme', '\"{theme}\"')")
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    for key, opened in (("/", "#switcher [role=option]"), ("?", "#help dl"), ("e", "#export-menu .menu-row")):
        await chart.page.keyboard.press(key)
        await expect(chart.page.locator(opened).first).to_be_visible()
        await assert_accessible(chart.page)
        await chart.page.keyboard.press("Escape")
        await expect(chart.page.locator(opened).first).to_be_hidden()
