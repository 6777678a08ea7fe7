"""The colours of what is written over a canvas, of which no checker of pages can say whether it can be read."""

from __future__ import annotations

import re

import pytest

from app.config import ROOT

ENOUGH = 4.5  # of WCAG, for small letters
LABELS = ("teal-label", "orange-label", "line-rsi", "line-macd", "line-stoch-k")  # grounds of labels on the scale


def tokens(theme: str) -> dict[str, str]:
    """The hexadecimal tokens of a theme."""
    sheet = (ROOT / "static" / "css" / "tokens.css").read_text(encoding="utf-8")
    block = re.search(rf':root\[data-theme="{theme}"\] \{{(.*?)\}}', sheet, re.DOTALL)
    assert block is not None
    return dict(re.findall(r"--([\w-]+): (#\w+);", block[1]))


def parts(colour: str) -> list[int]:
    assert len(colour) == len("#rrggbb"), f"{colour} lets through what is under it"
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def luminance(colour: str) -> float:
    shares = [part / 255 for part in parts(colour)]
    red, green, blue = (one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_numbers_of_a_legend_can_be_read(theme: str) -> None:
    known = tokens(theme)
    lines = [name for name in known if name.startswith("line-") and name != "line-strong"]
    seen = {name: contrast(known[name], known["ground"]) for name in (*lines, "teal", "orange", "text-muted")}
    assert len(lines) > 10
    assert {name: round(ratio, 2) for name, ratio in seen.items() if ratio < ENOUGH} == {}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_labels_on_a_scale_can_be_read(theme: str) -> None:
    known = tokens(theme)
    poor = {}
    for name in LABELS:
        red, green, blue = parts(known[name])
        dark = 0.199 * red + 0.687 * green + 0.114 * blue > 160  # by which the library of charts chooses the letters
        ratio = contrast(known[name], "#000000" if dark else "#ffffff")
        if ratio < ENOUGH:
            poor[name] = round(ratio, 2)
    assert poor == {}
