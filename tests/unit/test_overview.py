"""What the overview keeps, when several ask at the same time; the stores are the seam."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from app.domain.bars import Bar
from app.domain.day import Day
from app.domain.instruments import Exchange, Instrument
from app.services.overview import Overview

NOW_MS = 1_700_000_000_000
COINS = [
    Instrument(number, Exchange.BINANCE, f"{coin}/USDT", f"{coin}USDT", "crypto", "USDT", "24/7", True, 2)
    for number, coin in enumerate(("BTC", "ETH", "SOL"), 1)
]


class Stores:
    """Bars and days of nothing but a close; a read of days takes until it is let go."""

    def __init__(self) -> None:
        self.asked: list[set[int]] = []
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.connections = 0

    @contextmanager
    def connect(self) -> Iterator[Any]:
        self.connections += 1
        yield None
        self.connections -= 1

    def read_many(self, *_: Any, **__: Any) -> list[Bar]:
        return []

    def days(self, _: Any, instruments: Sequence[int], /, **__: Any) -> dict[int, Day]:
        self.asked.append(set(instruments))
        self.reading.set()
        self.go_on.wait(5)
        return {key: Day(reference=float(key)) for key in instruments}

    def minutes(self, _: Any, __: Mapping[int, int], /, **___: Any) -> list[Bar]:
        return []

    def last_minutes(self, *_: Any, **__: Any) -> dict[int, Bar]:
        return {}


def test_who_asks_while_the_days_are_read_waits_without_a_connection_and_gets_its_own() -> None:
    stores = Stores()
    overview = Overview(stores.connect, stores, stores, now_ms=lambda: NOW_MS)
    found: dict[str, list[float]] = {}

    def ask(name: str, instruments: list[Instrument]) -> None:
        found[name] = [row["price"] for row in overview.rows(instruments, {})]

    first = threading.Thread(target=ask, args=("first", COINS[:2]))
    first.start()
    assert stores.reading.wait(5)
    rest = [threading.Thread(target=ask, args=each) for each in (("same", COINS[:2]), ("one", COINS[1:2]))]
    for each in rest:
        each.start()
    assert stores.connections == 1
    stores.go_on.set()
    for each in (first, *rest):
        each.join(5)
    ask("other", COINS[1:])
    assert found == {"first": [1.0, 2.0], "same": [1.0, 2.0], "one": [2.0], "other": [2.0, 3.0]}
    assert stores.asked == [{1, 2}, {2, 3}]
