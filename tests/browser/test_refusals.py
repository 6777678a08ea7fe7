"""The chart where the server is up and gives nothing: it waits longer each time, and is whole again by itself."""

from __future__ import annotations

import asyncio
import time

import pytest
from playwright.async_api import Page

from tests.browser.market import Market
from tests.browser.pages import ChartPage
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BTC = ("binance", "BTC/USDT")
NO_DATABASE = {"code": "unavailable", "message": "the database cannot be reached; try again in a moment"}
WATCH_THE_DOT = """
  window.dots = [];
  const dot = document.getElementById("connection");
  new MutationObserver(() => dots.push(dot.dataset.state)).observe(dot, { attributeFilter: ["data-state"] });
"""


@pytest.fixture
def chart(page: Page, stub: Stub) -> ChartPage:
    """The chart page, not opened yet."""
    return ChartPage(page, stub.url)


async def sockets(market: Market, count: int, *, within_s: float = 20) -> list[float]:
    """When the sockets came, once there are so many."""
    deadline = time.monotonic() + within_s
    while len(market.came) < count:
        assert time.monotonic() < deadline, f"{len(market.came)} sockets came"
        await asyncio.sleep(0.02)
    return market.came


async def test_a_socket_refused_with_an_error_is_asked_for_less_and_less_often(
    chart: ChartPage, market: Market
) -> None:
    await chart.open(*BTC)
    await chart.wait_for_connection("connected")
    await chart.page.evaluate(WATCH_THE_DOT)
    market.refusal = NO_DATABASE
    market.came.clear()
    market.drop()
    first, second, third = (await sockets(market, 3))[:3]
    assert second - first >= 0.6
    assert third - second >= 1.2
    assert "connected" not in await chart.page.evaluate("dots")
    market.refusal = None
    await chart.page.evaluate("dispatchEvent(new Event('online'))")  # not to wait for the fourth
    await chart.wait_for_connection("connected")
