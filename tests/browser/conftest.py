"""One Chromium for the session, a stub and a fresh page for each test; a page may leave no error in its console.

The tests are coroutines on one event loop of the session: Playwright's synchronous API would leave a running loop
behind in the main thread and break every other asynchronous test.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.browser import ARGUMENTS, chromium
from tests.browser.generated import STEPS
from tests.browser.market import Market, pristine
from tests.browser.pages import Errors
from tests.browser.stub import Stub

TIMEOUT_MS = 4000  # of the pages' requests: long enough for a busy machine, short enough to be waited for


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, started once; the test is skipped where there is none, and fails with REQUIRE_BROWSER=1."""
    path = chromium()
    if path is None:
        reason = "no Chromium at /usr/bin/chromium or on PATH"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        expect.set_options(timeout=20_000)
        yield started
        await started.close()


@pytest.fixture(scope="session")
def _stub() -> Iterator[Stub]:
    stub = Stub(request_timeout_ms=TIMEOUT_MS).start()
    stub.market.overview()  # what is made up once is made up now, not while a test's clock runs
    for timeframe in STEPS:
        pristine("BTC/USDT", timeframe)
    yield stub
    stub.stop()


@pytest.fixture
def stub(_stub: Stub) -> Iterator[Stub]:
    """The stub back end with a market as at the beginning."""
    _stub.market.drop()
    _stub.market.reset()
    yield _stub
    _stub.market.drop()


@pytest.fixture
def market(stub: Stub) -> Market:
    """The stub's market, to move it and to break it."""
    return stub.market


@pytest.fixture
def errors() -> Errors:
    """What the page's console complained about; a test that breaks something on purpose forgives it."""
    return Errors()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, errors: Errors) -> AsyncIterator[Page]:
    """A fresh page of 1280 by 800 in a fresh profile; console errors fail the test."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, timezone_id="Europe/Istanbul")
    opened = await context.new_page()
    errors.watch(opened)
    yield opened
    await context.close()
    assert errors.seen == [], "errors in the page's console"
