"""What browsers hold our pages to: the content-security policy, the page without a server, the token's dialog."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.axe import assert_accessible
from tests.browser.market import Market
from tests.browser.pages import ChartPage, Errors, OverviewPage, page_until
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PAGES = (
    "/",
    "/charts/binance/BTC-USDT",
    "/nowhere",
    "/errors/404",
    "/errors/500",
    "/errors/503",
    "/errors/429",
    "/offline",
)
VIOLATIONS = """
  window.violations = [];
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sample }) =>
    window.violations.push([violatedDirective, blockedURI, sample].join(" ")));
"""
KEPT = """
  caches.open("offline").then((cache) => cache.keys()).then((all) => all.map(({ url }) => new URL(url).pathname))
"""
SLOW_MS = 20_000.0


async def test_no_page_breaks_its_policy(page: Page, stub: Stub, market: Market, errors: Errors) -> None:
    errors.forgive("Failed to load resource", "offline")  # the error pages' own status
    await page.add_init_script(VIOLATIONS)
    for path in PAGES:
        market.slow_s = 3 if path == "/offline" else 0  # it stays while it is looked at
        answer = await page.goto(stub.url + path)
        assert answer is not None
        assert "unsafe" not in answer.headers["content-security-policy"]
        if path.startswith("/charts"):
            await ChartPage(page, stub.url).wait_until_drawn()
            logo = page.locator("#tv-attr-logo")
            assert await logo.evaluate("(one) => getComputedStyle(one).position") == "absolute", "its style is let in"
        assert await page.evaluate("violations") == [], path
    assert "Content Security Policy" not in "".join(errors.seen)


async def test_the_policy_covers_our_own_sockets_only(page: Page, stub: Stub, errors: Errors) -> None:
    overview = OverviewPage(page, stub.url)
    await overview.open()
    await overview.wait_for_connection("connected")
    errors.forgive("Content Security Policy", "ws://127.0.0.1:9")
    await page.evaluate(VIOLATIONS)
    await page.evaluate("try { new WebSocket('ws://127.0.0.1:9/') } catch {}")
    await page_until(page, "violations.some((text) => text.startsWith('connect-src'))")


async def test_a_page_of_ours_stands_where_nobody_answers(browser: Browser, errors: Errors) -> None:
    stub = Stub().start()
    port = int(stub.url.rpartition(":")[2])
    context = await browser.new_context()
    page = await context.new_page()
    try:
        await page.goto(stub.url)
        await page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        kept = await page.evaluate(KEPT)
        assert "/offline" in kept
        assert all(path == "/offline" or path.startswith("/static/") for path in kept), "no page, no answer of the API"
        stub.stop()
        await page.goto(f"{stub.url}/charts/binance/BTC-USDT?timeframe=5m")
        await expect(page.get_by_role("heading", name="The server does not answer")).to_be_visible(timeout=SLOW_MS)
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgba(0, 0, 0, 0)", (
            "with its style"
        )
        await expect(page.locator("#waiting")).to_contain_text("Asking again in", timeout=SLOW_MS)
        stub = Stub(port=port).start()
        chart = ChartPage(page, stub.url)
        await chart.wait_until_drawn(within_s=30)
        assert await chart.data("timeframe") == "5m", "the page that was wanted"
    finally:
        stub.stop()
        await context.close()


async def test_a_passing_trouble_mends_itself(page: Page, stub: Stub, market: Market, errors: Errors) -> None:
    errors.forgive("503")
    await page.goto(f"{stub.url}/errors/503")
    await expect(page.locator("#parts")).to_contain_text("Charts and lists wait for it.", timeout=SLOW_MS)
    await expect(page.locator("#waiting")).to_contain_text("Trying again")
    market.mended.add(503)
    async with page.expect_navigation(timeout=SLOW_MS):
        await page.get_by_role("button", name="Try now").click()


async def test_an_unknown_address_leads_on(page: Page, stub: Stub, errors: Errors) -> None:
    errors.forgive("404")
    await page.goto(f"{stub.url}/errors/404")
    near = page.get_by_role("navigation", name="Did you mean")
    assert await near.get_by_role("link").count() == 3
    await page.get_by_role("searchbox", name="Find a symbol").fill("eth")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/?q=eth")
    assert await OverviewPage(page, stub.url).data("overview-state") is not None


async def test_the_token_is_asked_for_once(page: Page, stub: Stub, market: Market, errors: Errors) -> None:
    errors.forgive("401", "WebSocket")
    market.token = "a token/+ of this test"
    overview = OverviewPage(page, stub.url)
    await overview.open(wait=False)
    dialog = page.get_by_role("dialog", name="A token is needed")
    await expect(dialog).to_be_visible(timeout=SLOW_MS)
    await dialog.get_by_label("Token").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("the token is not right", timeout=SLOW_MS)
    assert market.refused[-1] == "Bearer wrong"
    await dialog.get_by_label("Token").fill(market.token)
    await dialog.get_by_role("button", name="Continue").click()
    await overview.wait_for_data("overview-state", "ready", within_s=20)
    await overview.wait_for_connection("connected", within_s=20)
    await page.reload()
    await overview.wait_for_connection("connected", within_s=20)
    assert await dialog.count() == 0, "kept in this tab"
    assert await page.evaluate("JSON.stringify(localStorage)") == "{}"


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_the_dialog_is_accessible(page: Page, stub: Stub, market: Market, errors: Errors, theme: str) -> None:
    errors.forgive("401")
    await page.add_init_script(f"localStorage.setItem('market:theme', '\"{theme}\"')")
    market.token = "a token of this test"
    await OverviewPage(page, stub.url).open(wait=False)
    await expect(page.get_by_role("dialog", name="A token is needed")).to_be_visible(timeout=SLOW_MS)
    await assert_accessible(page)


async def test_who_declines_is_left_alone(page: Page, stub: Stub, market: Market, errors: Errors) -> None:
    errors.forgive("401")
    market.token = "a token of this test"
    overview = OverviewPage(page, stub.url)
    await overview.open(wait=False)
    dialog = page.get_by_role("dialog", name="A token is needed")
    await expect(dialog).to_be_visible(timeout=SLOW_MS)
    await page.keyboard.press("Escape")
    await overview.wait_for_connection("none", within_s=20)
    await overview.wait_for_data("overview-state", "error", within_s=20)
    assert await dialog.count() == 0


async def test_a_chart_page_learns_of_its_instrument_with_the_token(
    page: Page, stub: Stub, market: Market, errors: Errors
) -> None:
    errors.forgive("401")
    market.token = "a token of this test"
    market.instruments[0]["price_decimals"] = 3
    await page.goto(f"{stub.url}/charts/binance/BTC-USDT")
    dialog = page.get_by_role("dialog", name="A token is needed")
    await dialog.get_by_label("Token").fill(market.token)
    await page.keyboard.press("Enter")
    await expect(page.locator("html")).to_have_attribute("data-chart-state", "ready", timeout=SLOW_MS)
    await expect(page.locator("#price")).to_have_text(re.compile(r"\.\d{3}$"), timeout=SLOW_MS)
