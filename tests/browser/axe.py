"""What axe-core has to say of a page's accessibility."""

from __future__ import annotations

from playwright.async_api import Page

from app.config import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"


# What fades in has less contrast on its way.
STILL = """async () => {
  const ending = document.getAnimations().filter(({ effect }) => effect.getComputedTiming().endTime !== Infinity);
  await Promise.allSettled(ending.map(({ finished }) => finished));
}"""


async def assert_accessible(page: Page) -> None:
    """Fails with each serious finding and the elements it is about."""
    await page.evaluate(STILL)
    await page.evaluate(AXE.read_text(encoding="utf-8"))  # not by a script element: the policy forbids those
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = {
        each["id"]: [node["html"][:120] for node in each["nodes"]][:5]
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    }
    assert not serious, "\n".join(f"{name}: {nodes}" for name, nodes in serious.items())
