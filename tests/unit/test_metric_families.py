"""What is told of an exchange whose key is missing: nothing that anybody has to wait for."""

from __future__ import annotations

from app.config import Settings, load_settings
from app.services.feed_states import NONE
from app.services.status import Facts
from webapp.families import Heard, Read, of_database, unasked

LIVE: Settings = load_settings(market="live", _env_file=None)
WAITING = ("holes_open", "hole_oldest_seconds", "closing_lag_seconds")


def _heard(feed: str) -> Heard:
    return Heard(Facts(), {}, {"alpaca": {**NONE, "feed": feed}})


def test_an_exchange_is_not_asked_where_its_key_is_missing_and_nobody_has_it() -> None:
    assert unasked(LIVE, None) == {"alpaca"}
    assert {feed: unasked(LIVE, _heard(feed)) for feed in ("none", "down", "no_key", "connected", "refused")} == {
        "none": {"alpaca"}, "down": {"alpaca"}, "no_key": {"alpaca"}, "connected": set(), "refused": set(),
    }  # fmt: skip
    keyed = load_settings(market="live", alpaca_api_key="k", alpaca_secret_key="s", _env_file=None)
    assert (unasked(keyed, None), unasked(load_settings(_env_file=None), None)) == (set(), set())


def test_nothing_waits_for_what_nobody_can_bring() -> None:
    names = frozenset({"alpaca", "binance"})
    both = {"alpaca": 700.0, "binance": 800.0}
    holes = {name: (3, age_s) for name, age_s in both.items()}
    read = Read(names, names, both, holes, {"alpaca": 0.5, "binance": 0.6}, (0, 0), 1, 1)

    def told(*absent: str) -> dict[tuple[str, str], float]:
        families = of_database(read, absent=absent)
        samples = [sample for family in families for sample in family.samples if "exchange" in sample.labels]
        return {(sample.name, sample.labels["exchange"]): sample.value for sample in samples}

    found = told("alpaca")
    assert [found[f"market_{what}", "alpaca"] for what in WAITING] == [0, 0, 0]
    assert [found[f"market_{what}", "binance"] for what in WAITING] == [3, 800, 800]
    ratio = "market_verification_ratio"
    assert (found.get((ratio, "alpaca")), found[ratio, "binance"], told()[ratio, "alpaca"]) == (None, 0.6, 0.5)
