"""The five stages and the line above them, from facts alone; and that every counter has its words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.config import ROOT
from app.domain.counted import COUNTED, meaning
from app.services.stages import Seen, Stage, stages, summary
from app.services.status import Facts, Trouble

NOW = 1_700_000_000_000
SEEN = Seen(redis=True, database=True, now_ms=NOW)


def source(exchange: str, feed: str, **more: Any) -> dict[str, Any]:
    return {"exchange": exchange, "title": exchange.title(), "feed": feed, "at": NOW, "error": None, **more}


def facts(**more: Any) -> Facts:
    """A platform that is well: Binance streams, Yahoo's market is closed."""
    found = Facts(
        sources=[source("binance", "connected"), source("alpaca", "no_key"), source("yahoo", "closed")],
        feeds=[{"name": "streamer-binance", "feed": "connected", "lag_ms": 400}],
        queues={"trades.0": 2, "bars": 1, "taken, not done": 50, "parked": 0},
        clocks={"binance": NOW - 600},
        prices={"binance": NOW - 900, "yahoo": NOW - 10**8},
        last_trades=[
            {"exchange": "binance", "time_ms": NOW - 700, "verified_ms": NOW - 70_000},
            {"exchange": "binance", "time_ms": None, "verified_ms": None},
            {"exchange": "yahoo", "time_ms": NOW - 10**8, "verified_ms": None},
        ],
        verification=[{"exchange": "binance", "closed": 1000, "verified": 998, "differences": 1, "share": 0.998}],
    )
    for name, value in more.items():
        setattr(found, name, value)
    return found


def lanes(found: Facts, seen: Seen = SEEN) -> dict[str, Stage]:
    return {lane.stage: lane for lane in stages(found, seen)}


def test_a_platform_that_is_well() -> None:
    found = lanes(facts())
    assert {name: (lane.state, lane.lag_s, lane.count) for name, lane in found.items()} == {
        "feeds": ("ok", 0.4, 1), "queue": ("ok", 0.6, 3), "bars": ("ok", 0.7, 1000), "verified": ("ok", 70.0, 998),
        "charts": ("ok", 0.9, 0),
    }  # fmt: skip
    line = summary(facts(), SEEN, list(found.values()))
    assert line["level"] == "ok"
    assert line["words"] == (
        "All is well: 1 feed connected, 1 waiting for its market, 99.8% of a day's bars are verified."
    )


def test_a_simulated_market_that_runs_fast_is_not_behind() -> None:
    assert lanes(facts(), replace(SEEN, speed=60.0))["verified"].lag_s == 1.2


@pytest.mark.parametrize(
    ("changed", "stage", "state", "words"),
    [
        ({"sources": [source("binance", "down")]}, "feeds", "broken", "Binance is down"),
        ({"sources": [source("binance", "reconnecting")]}, "feeds", "behind", "Binance is reconnecting"),
        ({"sources": [source("yahoo", "closed")]}, "feeds", "quiet", "every market is closed"),
        ({"sources": []}, "feeds", "quiet", "no feed was heard of yet"),
        ({"queues": {"bars": 1001}}, "queue", "broken", "the workers do not keep up"),
        ({"queues": {"bars": 201}}, "queue", "behind", "work is waiting"),
        ({"clocks": {"binance": NOW - 11_000}}, "queue", "behind", "work is waiting"),
        ({"last_trades": [{"exchange": "binance", "time_ms": NOW - 91_000, "verified_ms": None}]}, "bars", "behind",
         "trades are stored late, or there are none"),
        ({"last_trades": []}, "bars", "quiet", "no open market with a live feed"),
        ({"verification": []}, "verified", "quiet", "nothing to verify yet"),
        ({"late_holes": 3}, "verified", "behind", "3 holes wait for repair"),
        ({"verification": [{"closed": 100, "verified": 94}]}, "verified", "behind",
         "94.0% of a day's bars are verified"),
        ({"prices": {"binance": NOW - 91_000}}, "charts", "behind", "no new price for a while"),
    ],
)  # fmt: skip
def test_what_makes_a_stage_look_otherwise(changed: dict[str, Any], stage: str, state: str, words: str) -> None:
    found = lanes(facts(**changed))[stage]
    assert (found.state, found.words) == (state, words)


def test_without_a_store_a_stage_is_not_known() -> None:
    assert {name: lane.state for name, lane in lanes(Facts(), replace(SEEN, redis=False)).items()} == {
        "feeds": "unknown", "queue": "unknown", "bars": "quiet", "verified": "quiet", "charts": "broken",
    }  # fmt: skip
    away = lanes(facts(), replace(SEEN, database=False))
    assert (away["bars"].state, away["verified"].state, away["feeds"].state) == ("broken", "unknown", "ok")


def test_the_line_names_the_first_trouble_and_what_to_do() -> None:
    found = facts(troubles=[Trouble("beat is given up", "look"), Trouble("web is starting", "wait")])
    line = summary(found, SEEN, stages(found, SEEN))
    assert line == {"level": "degraded", "words": "beat is given up, and 1 more", "remedy": "look"}
    assert summary(found, replace(SEEN, database=False), [])["level"] == "down"
    late = facts(queues={"bars": 300})
    assert summary(late, SEEN, stages(late, SEEN))["words"] == "Queue: work is waiting"


def test_pages_without_a_subscription_are_behind() -> None:
    assert lanes(facts(), replace(SEEN, clients=2, subscribed=False))["charts"].state == "behind"


def test_every_counter_of_the_manual_has_words_and_the_reverse() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    part = text.split("### What is counted", 1)[1].split("\n## ", 1)[0]
    named: set[str] = set()
    for line in part.splitlines():
        if line.startswith("| `"):
            named |= {cell.strip("`") for cell in line.split("|")[1].strip().split(", ")}
    plain = {name for name in named if "…" not in name and not name.startswith("binance_")}
    assert plain == COUNTED.keys()
    assert all(meaning(name) for name in named if "…" not in name)
    assert meaning("yahoo_away") and meaning("nothing of ours") == ""
