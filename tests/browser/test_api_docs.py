"""The explorer of the API: the real document under the real policy."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import Errors, page_until
from tests.browser.stub import Stub

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SLOW_MS = 20_000  # Swagger UI is 1.7 MB of script


async def opened(page: Page, stub: Stub, *, theme: str, path: str = "/api/docs") -> None:
    await page.add_init_script(f"localStorage.setItem('market:theme', '\"{theme}\"')")
    await page.goto(stub.url + path)
    await expect(page.locator(".opblock").first).to_be_visible(timeout=SLOW_MS)


async def test_every_operation_is_listed_and_one_can_be_tried(page: Page, stub: Stub) -> None:
    await opened(page, stub, theme="dark")
    document = await page.evaluate("fetch('/api/openapi.json').then((answer) => answer.json())")
    operations = sum(len(path) for path in document["paths"].values())
    await expect(page.locator(".opblock")).to_have_count(operations)
    await expect(page.locator('.sections [aria-current="page"]')).to_have_text("API")
    symbols = page.locator("#operations-instruments-symbols")
    await symbols.locator(".opblock-summary-control").click()
    await symbols.locator(".execute").click()
    await expect(symbols.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    await expect(symbols.locator(".live-responses-table")).to_contain_text("BTC/USDT")


async def test_a_token_given_on_another_page_is_used(page: Page, stub: Stub, errors: Errors) -> None:
    errors.forgive("404")  # the stub has no such route; what is sent counts
    await page.add_init_script("sessionStorage.setItem('api-token', 'secret-of-mine')")
    await opened(page, stub, theme="dark")
    await expect(page.locator(".authorize.locked")).to_be_visible()
    remove = page.locator("#operations-instruments-remove")
    await remove.locator(".opblock-summary-control").click()
    async with page.expect_request(re.compile("/api/instruments/")) as asked:
        await remove.locator(".execute").click()
    request = await asked.value
    assert request.method == "DELETE"
    assert (await request.all_headers())["authorization"] == "Bearer secret-of-mine"


async def test_the_operation_of_the_address_stands_below_the_bar(page: Page, stub: Stub) -> None:
    await page.set_viewport_size({"width": 390, "height": 780})
    await opened(page, stub, theme="dark", path="/api/docs#/charts/charts")
    await expect(page.locator("#operations-charts-charts .parameters").first).to_be_visible(timeout=SLOW_MS)
    await page_until(page, "scrollY > 0")
    edges = "[document.querySelector('.topbar'), document.querySelector('#operations-charts-charts')]"
    bar, operation = await page.evaluate(f"{edges}.map((one) => one.getBoundingClientRect())")
    assert bar["bottom"] <= operation["top"] < 200
    ground = "(one) => getComputedStyle(one).backgroundColor"
    grounds = [await page.locator(one).first.evaluate(ground) for one in (".opblock", ".opblock input")]
    assert grounds == ["rgb(16, 20, 28)", "rgb(11, 14, 20)"], "the tokens, not Swagger UI's own"
