"""What clients are told of feeds and market hours: neither may look like the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.gaps import Gap, disjoint
from app.domain.sessions import Session, Window, windows
from app.services.feed_states import POLLER_STALE_S, feed_states, replaced
from app.services.markets import state_at
from webapp.feeds import Feeds

DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# New York's Friday before and Monday after a weekend, 09:30 to 16:00 in winter; a half day on Friday the 27th.
NEW_YORK = [
    Session(ms("2026-11-20"), ms("2026-11-20T14:30"), ms("2026-11-20T21:00")),
    Session(ms("2026-11-23"), ms("2026-11-23T14:30"), ms("2026-11-23T21:00")),
    Session(ms("2026-11-27"), ms("2026-11-27T14:30"), ms("2026-11-27T18:00")),
]
ISTANBUL = [Session(ms("2026-11-20"), ms("2026-11-20T07:00"), ms("2026-11-20T15:00"))]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("2026-11-20T14:29:59", "closed, opens Fri 20 Nov 14:30 UTC"),
        ("2026-11-20T14:30", "open until 21:00 UTC"),
        ("2026-11-20T20:59:59", "open until 21:00 UTC"),
        ("2026-11-20T21:00", "closed, opens Mon 23 Nov 14:30 UTC"),
        ("2026-11-22T12:00", "closed, opens Mon 23 Nov 14:30 UTC"),
        ("2026-11-27T17:00", "open until 18:00 UTC"),
        ("2026-11-27T18:00", "hours not known yet"),
    ],
)
def test_a_market_says_until_when_or_from_when(now: str, words: str) -> None:
    assert state_at(ms(now), "XNYS", windows("XNYS", NEW_YORK)).words() == words


def test_istanbul_is_open_for_its_auctions_and_crypto_always() -> None:
    expected = windows("XIST", ISTANBUL)
    assert state_at(ms("2026-11-20T06:40"), "XIST", expected).words() == "open until 15:10 UTC"
    assert state_at(ms("2026-11-20T06:39"), "XIST", expected).words() == "closed, opens Fri 20 Nov 06:40 UTC"
    assert state_at(0, "24/7", []).words() == "always open"


def states(**beats: dict[str, Any]) -> dict[str, dict[str, Any]]:
    processes = {name.replace("_", "-"): {"age_s": 0.5, **facts} for name, facts in beats.items()}
    return feed_states(processes, ["binance", "alpaca", "yahoo"])


def test_a_refused_feed_says_why() -> None:
    told = states(streamer_alpaca={"exchange": "alpaca", "feed": "refused", "error": "connection limit exceeded (406)"})
    assert (told["alpaca"]["feed"], told["alpaca"]["error"]) == ("refused", "connection limit exceeded (406)")
    assert told["binance"]["feed"] == "none"


@pytest.mark.parametrize(
    ("facts", "feed"),
    [
        ({"feed": "connected"}, "connected"),
        ({"feed": "connected", "age_s": 300}, "connected"),
        ({"feed": "connected", "age_s": POLLER_STALE_S + 1}, "down"),
        ({"feed": "closed", "age_s": 3 * 86_400}, "closed"),
        ({"feed": "down", "error": "429"}, "down"),
    ],
)
def test_a_poller_speaks_only_when_it_polls(facts: dict[str, Any], feed: str) -> None:
    assert states(poller_yahoo={"exchange": "yahoo", **facts})["yahoo"]["feed"] == feed


def test_a_streamer_that_falls_silent_is_down_though_its_market_is_closed() -> None:
    told = states(streamer_alpaca={"exchange": "alpaca", "feed": "closed", "age_s": 30})
    assert told["alpaca"]["feed"] == "down"


def test_the_worst_shard_speaks() -> None:
    told = states(
        streamer_binance_0={"exchange": "binance", "feed": "connected"},
        streamer_binance_1={"exchange": "binance", "feed": "reconnecting"},
    )
    assert told["binance"]["feed"] == "reconnecting"


class Beats:
    """A Redis that knows only heartbeats."""

    def __init__(self) -> None:
        self.hash: dict[bytes, bytes] = {}

    def hgetall(self, _key: str) -> dict[bytes, bytes]:
        return self.hash


def test_without_a_key_it_says_what_to_set() -> None:
    feeds = Feeds(Beats(), missing={"alpaca": "ALPACA_API_KEY"})  # type: ignore[arg-type]
    feeds.refresh()
    assert feeds.states["alpaca"]["feed"] == "no_key"
    assert feeds.states["alpaca"]["missing"] == "ALPACA_API_KEY"
    assert feeds.states["yahoo"]["feed"] == "none"
    assert feeds.states["yahoo"]["delay_s"] == 900


def test_a_market_that_opens_is_news() -> None:
    hours = {"alpaca": {"XNYS": {"calendar": "XNYS", "state": "closed", "until": None, "opens": 1}}}
    feeds = Feeds(Beats(), markets=lambda: hours)  # type: ignore[arg-type]
    assert feeds.news() == {"alpaca"}
    assert feeds.news() == set()
    hours = {"alpaca": {"XNYS": {"calendar": "XNYS", "state": "open", "until": 2, "opens": None}}}
    feeds.refresh()  # somebody else's look takes nothing away
    assert feeds.news() == {"alpaca"}


def gap(start: int, end: int, cause: str = "feed down") -> Gap:
    return Gap(1, start * MINUTE_MS, end * MINUTE_MS, cause, 0)


def test_gaps_do_not_lie_over_each_other() -> None:
    found = disjoint([gap(5, 9), gap(1, 6, "left"), gap(2, 3), gap(20, 21)], None)
    assert [(each.start_ms // MINUTE_MS, each.end_ms // MINUTE_MS, each.cause) for each in found] == [
        (1, 6, "left"), (6, 9, "feed down"), (20, 21, "feed down"),
    ]  # fmt: skip


def test_closed_hours_are_no_gap() -> None:
    expected = [Window(10 * MINUTE_MS, 20 * MINUTE_MS), Window(40 * MINUTE_MS, 50 * MINUTE_MS)]
    found = disjoint([gap(15, 45), gap(22, 30)], expected)
    assert [(each.start_ms // MINUTE_MS, each.end_ms // MINUTE_MS) for each in found] == [(15, 20), (40, 45)]


def shard(text: str, age_s: float = 1.0, exchange: str = "binance") -> dict[str, Any]:
    return {"exchange": exchange, "feed": "connected", "shard": text, "age_s": age_s}


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        ({"0": shard("0/2", 90), "1": shard("1/2", 90), "": shard("0/1")}, ["0", "1"]),
        ({"": shard("0/1", 90), "0": shard("0/2"), "1": shard("1/2")}, [""]),
        ({"": shard("0/1", 90), "0": shard("0/2"), "1": shard("1/2", 90)}, []),  # half of the symbols have nobody
        ({"0": shard("0/2"), "1": shard("1/2", 90_000)}, []),  # an outage
        ({"0": shard("0/2"), "1": shard("1/2"), "2": shard("2/4", 90), "3": shard("3/4", 90)}, ["2", "3"]),
        ({"0": shard("0/2", 20), "1": shard("1/2", 20), "": shard("0/1")}, []),  # not yet
        ({"": shard("0/1", 90), "a": shard("0/1", 1, "alpaca")}, []),
        ({"0": shard("0/2", 90, "alpaca"), "": shard("0/1")}, []),
        ({"0": {"age_s": 90.0}, "1": shard("nonsense", 90), "": shard("0/1")}, []),
    ],
)
def test_silent_shards_are_replaced_by_another_number_that_is_heard_in_full(
    beats: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    processes = {f"streamer-binance-{name}".rstrip("-"): facts for name, facts in beats.items()}
    names = [f"streamer-binance-{name}".rstrip("-") for name in expected]
    assert replaced({**processes, "worker": {"age_s": 1.0}, "poller-yahoo": shard("0/1")}) == names
