"""What the clients of a channel share: one read of an `initial`, for as long as nothing is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.test_web_clients import FakeSocket, wait_for
from webapp.channels import Channel, OverviewChannel
from webapp.clients import Client, Subscription
from webapp.live import Hub
from webapp.members import Members


def reader(channel: Channel) -> tuple[Callable[[], bytes], list[int]]:
    """Reads an `initial`, and what it read so far."""
    read: list[int] = []

    def load() -> bytes:
        read.append(len(read))
        return b"initial %d;" % read[-1]

    return lambda: channel.load(load), read


def test_an_initial_is_kept_no_longer_than_it_is_good() -> None:
    channel = Channel("c", every_s=3600)
    load, read = reader(channel)
    assert load() == load() == b"initial 0;"
    channel.tidy()
    assert load() == b"initial 0;" and channel._loaded, "it is good still"
    channel.forget()
    assert not channel._loaded and load() == b"initial 1;"
    channel = Channel("c", every_s=0)
    load, read = reader(channel)
    load()
    channel.tidy()
    assert not channel._loaded and read == [0]


def test_who_waits_for_a_slow_database_shares_what_one_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, read = [100.0], []
    monkeypatch.setattr("webapp.channels.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    channel = Channel("c", every_s=0.1)

    def slow() -> bytes:
        read.append(1)
        now_s[0] += 10
        return b"initial;"

    assert channel.load(slow) == channel.load(slow) == b"initial;" and len(read) == 1
    now_s[0] += 0.2
    assert channel.load(slow) == b"initial;" and len(read) == 2


def test_what_was_told_while_it_was_read_is_read_again() -> None:
    channel = Channel("c", every_s=3600)

    def read() -> bytes:
        channel.forget()
        return b"before;"

    assert channel.load(read) == b"before;"
    assert channel.load(lambda: b"after;") == b"after;"


def test_the_overview_tells_no_price_of_before_the_last_one() -> None:
    """A minute is closed after the first trades of the next; a repair and an import bring minutes of long ago."""
    channel = OverviewChannel(every_s=0)
    channel.subscribers.add(Subscription(Client(FakeSocket(), limit=10), bytes))

    def told(minute: int, close: float, *, last_ms: int, revision: int = 0) -> list[float]:
        bar = {"time": minute * 60_000, "close": close, "order": [0, 1, last_ms * 1000, 2], "revision": revision}
        message = {"exchange": "binance", "symbol": "BTC/USDT", "series": {"1m": {"bars": [bar]}}}
        if not channel.receive(message):
            return []
        frames, _ = channel.take()
        (row,) = json.loads(frames[frames.index(b"{") :])["data"]
        assert row["time"] == last_ms
        return [row["price"]]

    assert told(5, 5.1, last_ms=301_000) == [5.1]
    assert told(4, 5.0, last_ms=298_000) == []
    assert told(5, 5.2, last_ms=301_000) == [5.2], "another trade of the same millisecond"
    assert told(5, 5.3, last_ms=300_000) == []
    assert told(5, 5.3, last_ms=300_000, revision=1) == [5.3], "its last trade was taken back"
    assert told(6, 5.4, last_ms=360_500) == [5.4]


def test_news_reach_a_client_that_waits_for_its_initial() -> None:
    """Its `initial` stands for them, so it has to be one from after them."""
    state = [b"connected;"]
    news: list[tuple[Channel, bytes]] = []

    class FakeWatch:
        def news(self, _channels: Any) -> list[tuple[Channel, bytes]]:
            return news

    unused: Any = None
    hub = Hub(
        unused, unused, read_newest=unused, watch=FakeWatch(), read_overview=lambda: state[-1],  # type: ignore[arg-type]
        members=Members(list), coalesce_s=3600, ping_s=3600,
    )  # fmt: skip
    hub.overview._every_s = 3600
    assert b"connected;" in hub.initial_overview()  # somebody else's, a moment ago
    ws, held = FakeSocket(), threading.Event()
    client = Client(ws, limit=10)
    first = client.subscribe(lambda: b"first;" if held.wait(5) else b"")
    client.owe(first)
    client.start()  # the writer is busy with another channel's
    hub.join(hub.overview, client.subscribe(hub.initial_overview))
    state.append(b"down;")
    news.append((hub.overview, b"status down;"))
    hub._tell_news()
    ws.gate.open.set()
    held.set()
    wait_for(ws, b"initial")
    sent = b"".join(ws.gate.taken)
    assert b"down;" in sent and b"connected;" not in sent
    client.leave()
