"""The status page in Chromium, over the stub."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.market import Market
from tests.browser.pages import AnyPage, Errors
from tests.browser.status_stub import FLOWER, TOKEN, Platform, hole
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
SHIFTS = """() => { window.shifts = []; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push(entry.value);
}).observe({ type: "layout-shift" }); }"""


class StatusPage(AnyPage):
    """How the platform is."""

    async def open(self, *, wait: bool = True) -> StatusPage:
        """Go there, and wait until the first answer is drawn."""
        await self.page.goto(f"{self.base_url}/status")
        if wait:
            await self.wait_for_data("status-state", "ready")
        return self

    def row(self, table: str, key: Any) -> Any:
        """The locator of a row by its key."""
        return self.page.locator(f'#{table} tr[data-key="{key}"]')

    def lane(self, stage: str) -> Any:
        """The locator of a stage's lane."""
        return self.page.locator(f'.lane[data-stage="{stage}"]')


@pytest.fixture
def status(page: Page, stub: Stub) -> StatusPage:
    """The page, not opened yet."""
    return StatusPage(page, stub.url)


@pytest.fixture
def platform(market: Market) -> Platform:
    """The stub's platform, to move it and to break it."""
    return market.platform


async def test_all_is_well_at_a_glance(status: StatusPage, platform: Platform) -> None:
    await status.open()
    await expect(status.page.locator("#summary")).to_contain_text("All is well")
    await expect(status.page.locator("#freshness")).to_have_text("live")
    for stage, lag, count in (
        ("feeds", "0.2 s", "2 of 3"),
        ("queue", "0.4 s", "3"),
        ("verified", "71 s", "16,182 of 16,214"),
    ):
        await expect(status.lane(stage).locator(".lag")).to_have_text(lag)
        await expect(status.lane(stage).locator(".count")).to_have_text(count)
        await expect(status.lane(stage)).to_have_attribute("data-state", "ok")
    await expect(status.row("processes", "streamer-binance")).to_contain_text("0.7 s ago")
    await expect(status.row("feeds", "binance")).to_contain_text("Open around the clock")
    await expect(status.row("queues", "trades.0")).to_contain_text("2")
    await expect(status.row("verification", "binance")).to_contain_text("99.8%")
    await expect(status.row("counters", "repaired_bars")).to_contain_text("bars that repair changed or verified")
    await expect(status.row("stores", "PostgreSQL")).to_contain_text("392.0 MB")
    await expect(status.page.locator("#holes")).to_contain_text("Nothing is missing.")
    await expect(status.page.get_by_role("link", name="Flower")).to_have_attribute("href", FLOWER)


async def test_trouble_is_said_with_what_to_do(status: StatusPage, platform: Platform) -> None:
    platform.summary = {"level": "degraded", "words": "Binance: the feed is down, and 1 more", "remedy": "read its log"}
    platform.troubles = [
        {"what": "Binance: the feed is down", "remedy": "read its log"},
        {"what": "queue bars holds 2,000 messages", "remedy": "its workers are behind or gone"},
    ]
    platform.lanes[0] |= {"state": "broken", "words": "Binance is down", "lag_s": None}
    platform.holes = [hole(4, "BTC/USDT", minutes=9, error="429 Too Many Requests")]
    await status.open()
    await expect(status.page.locator("#summary")).to_have_attribute("data-level", "degraded")
    await expect(status.page.locator("#summary .remedy")).to_have_text("read its log")
    await expect(status.page.locator("#troubles li")).to_have_text(
        ["queue bars holds 2,000 messages its workers are behind or gone"]
    )
    await expect(status.lane("feeds").locator(".state")).to_have_attribute("data-state", "down")
    for words in ("the feed was down", "9 min", "in 42 s", "429 Too Many Requests"):
        await expect(status.row("holes", 4)).to_contain_text(words)


async def test_progress_moves_in_place_and_nothing_jumps(status: StatusPage, platform: Platform) -> None:
    row = platform.add("BTC/USDT", done=0.25)
    await status.open()
    shown = status.row("backfills", row["id"])
    bar = shown.get_by_role("progressbar")
    await expect(bar).to_have_attribute("aria-valuenow", "25")
    await expect(shown).to_contain_text("2:05")
    button = shown.get_by_role("button", name="Cancel backfill 1 of BTC/USDT")
    await button.focus()
    await status.page.evaluate(SHIFTS)
    row.update(done=0.75, bars=123_456, left_s=3661.0)
    platform.lanes[2]["count"] = 1_016_214
    await expect(bar).to_have_attribute("aria-valuenow", "75")
    await expect(shown).to_contain_text("123,456")
    await expect(shown).to_contain_text("1:01:01")
    await expect(button).to_be_focused()
    assert await status.page.evaluate("window.shifts.reduce((a, b) => a + b, 0)") < 0.01
    row.update(state="waiting", done=0.99, left_s=0.3, note="waits for its turn")
    await expect(shown.get_by_text("waits", exact=True)).to_be_visible()
    await expect(shown).not_to_contain_text("0:00")
    row.update(state="done", done=1.0, left_s=None, note="done")
    await expect(shown).to_contain_text("done")
    await expect(button).to_be_hidden()


async def test_a_backfill_is_cancelled_with_a_token_asked_for_once(
    status: StatusPage, platform: Platform, errors: Errors
) -> None:
    errors.forgive("Failed to load resource")
    platform.needs_token = True
    first, second = platform.add("BTC/USDT"), platform.add("ETH/USDT")
    await status.open()
    await status.row("backfills", first["id"]).get_by_role("button").click()
    dialog = status.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("This needs the API token")
    await dialog.locator("input").fill("wrong")
    await dialog.locator("input").press("Enter")
    await expect(dialog).to_contain_text("This token is not known here.")
    await dialog.locator("input").fill(TOKEN)
    await dialog.locator("input").press("Enter")
    await expect(dialog).to_have_count(0)
    await expect(status.page.locator("#ask-said")).to_have_text("Backfill 1 is cancelled; its 2,520 bars stay.")
    await expect(status.row("backfills", first["id"])).to_contain_text("cancelled")
    await status.row("backfills", second["id"]).get_by_role("button").click()
    await expect(status.row("backfills", second["id"])).to_contain_text("cancelled")
    assert await status.page.evaluate("sessionStorage.getItem('api-token')") == TOKEN
    await expect(dialog).to_have_count(0)


async def test_a_dialog_left_by_escape_changes_nothing(status: StatusPage, platform: Platform, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    platform.needs_token = True
    row = platform.add("BTC/USDT")
    await status.open()
    button = status.row("backfills", row["id"]).get_by_role("button")
    await button.click()
    await expect(status.page.get_by_role("dialog")).to_be_visible()
    await status.page.keyboard.press("Escape")
    await expect(status.page.locator("#ask-said")).to_contain_text("This needs the API token")
    await expect(button).to_be_enabled()
    assert row["state"] == "running"


async def test_history_is_asked_for_by_keyboard(status: StatusPage, platform: Platform) -> None:
    await status.open()
    await status.page.locator("#ask-symbols").fill("BTC/USDT, alpaca:AAPL")
    await status.page.locator("#ask-timeframe").select_option("1h")
    await status.page.locator("#ask-start").fill("2026-01-02")
    await status.page.locator("#ask-symbols").press("Enter")
    await expect(status.page.locator("#ask-said")).to_have_text("2 backfills are queued.")
    symbols = [{"symbol": "BTC/USDT"}, {"exchange": "alpaca", "symbol": "AAPL"}]
    assert platform.wrote == [{"symbols": symbols, "timeframe": "1h", "start": "2026-01-02"}]
    await expect(status.row("backfills", 1)).to_contain_text("waits for its turn")
    await status.page.locator("#ask-symbols").fill("all")
    await status.page.get_by_role("button", name="Fetch history").click()
    await expect(status.row("backfills", 4)).to_be_visible()
    assert platform.wrote[1]["all"] is True


async def test_what_is_not_kept_is_kept_on_request(status: StatusPage, platform: Platform, errors: Errors) -> None:
    errors.forgive("Failed to load resource")
    platform.refusing = (400, "not_kept", "the backfill of BTC/USDT begins before what is kept")
    await status.open()
    await status.page.locator("#ask-symbols").fill("BTC/USDT")
    await status.page.locator("#ask-symbols").press("Enter")
    await expect(status.page.locator("#ask-said")).to_have_text(platform.refusing[2])
    await status.page.get_by_role("button", name="Fetch and keep them").click()
    await expect(status.page.locator("#ask-said")).to_have_text("Backfill 1 is queued.")
    assert platform.wrote[-1]["keep"] is True


@pytest.mark.slow
async def test_old_news_is_marked_with_its_age_and_comes_back(
    status: StatusPage, market: Market, errors: Errors
) -> None:
    errors.forgive("Failed to load resource")
    await status.open()
    market.failing = 503
    await status.wait_for_data("status-state", "stale", within_s=60)
    await expect(status.page.locator("#summary")).to_contain_text("The database cannot be reached.")
    await expect(status.page.locator("#freshness")).to_contain_text("s old")
    await expect(status.row("processes", "web")).to_be_visible()
    market.failing = None
    await status.wait_for_data("status-state", "ready", within_s=60)
    await expect(status.page.locator("#summary")).to_contain_text("All is well")


async def test_a_first_answer_that_fails_takes_the_place_of_the_page(
    status: StatusPage, market: Market, errors: Errors
) -> None:
    errors.forgive("Failed to load resource")
    market.failing = 500
    await status.open(wait=False)
    await status.wait_for_data("status-state", "error", within_s=60)
    await expect(status.page.locator("#notice")).to_contain_text("The status could not be loaded")
    await expect(status.page.locator("#lanes")).to_be_hidden()
    market.failing = None
    await status.page.get_by_role("button", name="Try again").click()
    await status.wait_for_data("status-state", "ready", within_s=60)
    await expect(status.page.locator("#lanes")).to_be_visible()


async def test_stores_that_are_away_are_told_apart(status: StatusPage, platform: Platform) -> None:
    platform.database = False
    await status.open()
    await expect(status.page.locator("#holes")).to_contain_text("The database cannot be read.")
    await expect(status.row("stores", "PostgreSQL")).to_contain_text("away")
    await expect(status.row("processes", "web")).to_contain_text("ready")
    platform.database, platform.redis = True, False
    await expect(status.row("stores", "Redis")).to_contain_text("away", timeout=45_000)
    await expect(status.page.locator("#processes")).to_contain_text("Redis cannot be read.")
    await expect(status.page.locator("#holes")).to_contain_text("Nothing is missing.")


async def test_a_hidden_tab_asks_nothing(status: StatusPage, platform: Platform) -> None:
    await status.open()
    hide = """(hidden) => { Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange")); }"""
    await status.page.evaluate(hide, True)
    await status.page.wait_for_load_state("networkidle")
    asked = platform.asked
    await status.page.wait_for_timeout(3500)  # more than one turn of the clock
    assert platform.asked <= asked + 1, "at most what was on its way"
    await status.page.evaluate(hide, False)
    async with status.page.expect_response("**/api/status"):
        pass
