"""The streamer's parts that need no socket: delays, bounded buffers, numbers and claims of batches, official bars."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from random import Random

import pytest

from app.domain.official import Doubt, OfficialBar, OfficialBatch
from app.domain.timeframes import Timeframe
from app.domain.trades import Trade, TradeBatch
from app.errors import Unavailable
from streamers.backoff import delays
from streamers.buffer import Buffer, Chunk, Run
from streamers.officials import Officials
from streamers.sender import Sender
from streamers.stats import Stats


class Queue:
    """Keeps what it is given; the first `refuse` hand-overs fail."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse, self.kept = refuse, list[tuple[int, TradeBatch]]()

    def send(self, batch: TradeBatch, shard: int) -> None:
        """Keep the batch."""
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("away")
        self.kept.append((shard, batch))


def trade(number: int, instrument_id: int = 1, size: int = 1) -> Trade:
    """A trade with this id."""
    return Trade(instrument_id, 1_000_000 + number, number, number, 100, size, True)


def run(id: int = 5) -> Run:
    """A run that just began."""
    return Run(id, "binance", "0/1", 1_000_000)


async def sent(buffer: Buffer, *, shards: int = 1, most: int = 10, queue: Queue | None = None) -> Queue:
    """What a sender makes of the closed buffer."""
    queue = queue or Queue()
    buffer.close()
    await Sender(queue, buffer, Stats(), shards=shards, most=most).run()
    return queue


def test_delays_grow_to_their_cap_and_jitter() -> None:
    found = list(islice(delays(Random(1), first_s=1, cap_s=8), 50))
    assert all(cap / 2 <= delay <= cap for delay, cap in zip(found, [1, 2, 4, *[8] * 47], strict=True))
    assert len({round(delay, 6) for delay in found[3:]}) > 40


async def test_neighbours_are_joined_up_to_the_batch_size() -> None:
    buffer, one = Buffer(Stats(), limit=1000, most=10), run()
    for number in range(25):
        buffer.put(Chunk(one, [trade(number)], 2_000_000 + number))
    queue = await sent(buffer)
    assert [len(batch) for _, batch in queue.kept] == [10, 10, 5]
    marks = [batch.mark for _, batch in queue.kept if batch.mark]
    assert [(mark.n, mark.upto_us) for mark in marks] == [(1, 2_000_009), (2, 2_000_019), (3, 2_000_024)]
    assert [mark.subscribed for mark in marks] == [(), None, None]


async def test_a_symbol_is_left_with_the_last_of_its_trades() -> None:
    """With the broker away older chunks wait: told with the first of them, its last minutes would be nobody's."""
    buffer, one = Buffer(Stats(), limit=1000, most=5), run()
    one.news = ((1, 1_000_000), (2, 1_000_000))
    for number in range(10):
        buffer.put(Chunk(one, [trade(number, instrument_id=1 + number % 2)], 2_000_000 + number))
    one.news = ((1, 1_000_000),)  # the other one is left
    buffer.put(Chunk(one, [trade(10), trade(11, instrument_id=2)], 2_000_011))
    one.news = ((1, 1_000_000), (3, 2_000_012))
    buffer.put(Chunk(one, [trade(12, instrument_id=3)], 2_000_012))
    queue = await sent(buffer, shards=2, most=5)
    told = [(m.upto_us, m.subscribed) for _, batch in queue.kept if (m := batch.mark) and m.subscribed is not None]
    assert told == [
        (0, ((1, 1_000_000), (2, 1_000_000))),  # a run begins with what it receives
        (2_000_011, ((1, 1_000_000),)),
        (2_000_012, ((1, 1_000_000), (3, 2_000_012))),
    ]


async def test_what_a_run_receives_is_told_even_when_its_trades_went() -> None:
    stats, one = Stats(), run()
    buffer = Buffer(stats, limit=10, most=5)
    for number in range(0, 30, 5):
        one.news = ((number, 1_000_000),) if number < 10 else None
        buffer.put(Chunk(one, [trade(n) for n in range(number, number + 5)], 2_000_000 + number))
    queue = await sent(buffer)
    marks = [(len(batch), batch.mark.subscribed) for _, batch in queue.kept if batch.mark]
    assert marks == [(0, ((0, 1_000_000),)), (0, ((5, 1_000_000),)), (5, None), (5, None)]
    numbers = [batch.mark.n for _, batch in queue.kept if batch.mark]
    assert numbers == [2, 4, 6, 7], "before each of those that were emptied, and where what followed them went"
    assert stats.dropped == {"buffer_full": 20}


async def test_the_oldest_go_first_and_leave_a_number_out() -> None:
    stats, one = Stats(), run()
    buffer = Buffer(stats, limit=20, most=10)
    buffer.put(Chunk(one, [trade(n) for n in range(10)], 2_000_000))
    first = await buffer.get()
    assert first is not None and one.mark(first.upto_us, over=False).n == 1
    for start in range(10, 60, 10):
        buffer.put(Chunk(one, [trade(n) for n in range(start, start + 10)], 2_000_000 + start))
    buffer.put(Chunk(one, [], 3_000_000, over=True))
    assert buffer.trades == 20
    assert stats.dropped == {"buffer_full": 30}
    queue = await sent(buffer)
    assert [int(first) for _, batch in queue.kept for first in batch.first] == list(range(40, 60))
    marks = [batch.mark for _, batch in queue.kept if batch.mark]
    assert [mark.n for mark in marks] == [3, 4]
    assert [mark.over for mark in marks] == [False, True]


async def test_the_end_of_a_run_is_told_even_when_its_trades_went() -> None:
    stats, old, new = Stats(), run(5), run(6)
    buffer = Buffer(stats, limit=10, most=10)
    buffer.put(Chunk(old, [trade(n) for n in range(10)], 2_000_000, over=True))
    buffer.put(Chunk(new, [trade(n) for n in range(10, 20)], 2_000_100))
    queue = await sent(buffer)
    facts = [(batch.mark.run, len(batch), batch.mark.over) for _, batch in queue.kept if batch.mark]
    assert facts == [(5, 0, True), (6, 10, False)]


async def test_a_flush_of_several_shards_claims_its_time_with_the_last_batch_only() -> None:
    buffer, one = Buffer(Stats(), limit=100, most=10), run()
    buffer.put(Chunk(one, [trade(n, instrument_id=n) for n in range(6)], 2_000_000))
    buffer.put(Chunk(one, [trade(n, instrument_id=n) for n in range(6, 12)], 3_000_000, over=True))
    queue = await sent(buffer, shards=3)
    assert [shard for shard, _ in queue.kept] == [0, 1, 2, 0, 1, 2]
    marks = [batch.mark for _, batch in queue.kept if batch.mark]
    assert [mark.n for mark in marks] == [1, 2, 3, 4, 5, 6]
    assert [mark.upto_us for mark in marks] == [0, 0, 2_000_000, 2_000_000, 2_000_000, 3_000_000]
    assert [mark.over for mark in marks] == [False] * 5 + [True]
    assert all(set((batch.instrument_id % 3).tolist()) == {shard} for shard, batch in queue.kept)


async def test_a_refused_batch_is_sent_again_as_it_was() -> None:
    buffer, one = Buffer(Stats(), limit=100, most=10), run()
    buffer.put(Chunk(one, [trade(1)], 2_000_000))
    queue = await sent(buffer, queue=Queue(refuse=2))
    assert [batch.mark.n for _, batch in queue.kept if batch.mark] == [1]


async def test_a_number_that_fits_no_column_is_counted_and_the_others_go() -> None:
    stats, one, queue = Stats(), run(), Queue()
    buffer = Buffer(stats, limit=100, most=10)
    buffer.put(Chunk(one, [trade(1), trade(2, size=10**40 + 1), trade(3)], 2_000_000))
    buffer.close()
    await Sender(queue, buffer, stats, shards=1, most=10).run()
    assert [batch.first.tolist() for _, batch in queue.kept] == [[1, 3]]
    assert stats.dropped == {"number_too_big": 1}


@dataclass
class OfficialQueue:
    """Keeps the official batches it is given, each through the wire encoding; `away` refuses them."""

    away: bool = False
    kept: list[OfficialBatch] = field(default_factory=list)

    def send_official(self, batch: OfficialBatch) -> None:
        """Keep the batch."""
        if self.away:
            raise Unavailable("away")
        self.kept.append(OfficialBatch.decode(batch.encode()))

    @property
    def times(self) -> list[int]:
        """The times of the bars, in the order of hand-over."""
        return [bar.time_ms for batch in self.kept for bar in batch.bars]

    @property
    def doubts(self) -> list[Doubt]:
        """The doubts, in the order of hand-over."""
        return [doubt for batch in self.kept for doubt in batch.doubts]


def official(time_ms: int) -> OfficialBar:
    """An official bar of this minute."""
    one, sums = 1.5, (Decimal(3), Decimal("4.5"), Decimal(1))
    return OfficialBar(1, Timeframe.M1, time_ms, one, one, one, one, *sums, 2, 10, 11)


async def test_official_bars_go_once_and_in_order_and_the_end_flushes() -> None:
    stats, queue = Stats(), OfficialQueue()
    officials = Officials(queue, stats, "binance", every_s=0.01)
    task = asyncio.create_task(officials.run())
    officials.put(official(60_000))
    officials.doubt(Doubt(1, 0, 60_000, "cancel"))
    await asyncio.sleep(0.1)
    assert (queue.times, queue.doubts) == ([60_000], [Doubt(1, 0, 60_000, "cancel")])
    for minute in range(2, 2502):
        officials.put(official(minute * 60_000))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert queue.times == [minute * 60_000 for minute in range(1, 2502)]
    assert max(len(batch.bars) for batch in queue.kept) == 1000
    assert queue.kept[0].bars == [official(60_000)] and queue.kept[0].exchange == "binance"
    assert (stats.official, stats.doubts, stats.dropped) == (2501, 1, {})


async def test_with_the_broker_away_the_oldest_bars_go_and_doubts_stay() -> None:
    stats, queue = Stats(), OfficialQueue(away=True)
    officials = Officials(queue, stats, "alpaca", limit=10, every_s=0.01)
    for number in range(3):
        officials.doubt(Doubt(number, 0, 60_000, "correction"))
        officials.doubt(Doubt(number, 0, 60_000, "correction"))
    for minute in range(20):
        officials.put(official(minute * 60_000))
    assert officials.waiting == 10
    assert stats.dropped == {"official_dropped": 13}
    task = asyncio.create_task(officials.run())
    async with asyncio.timeout(5):
        while not officials.away:
            await asyncio.sleep(0.01)
    assert not queue.kept
    queue.away = False
    async with asyncio.timeout(5):
        while not queue.kept:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert queue.times == [minute * 60_000 for minute in range(13, 20)]
    assert [doubt.instrument_id for doubt in queue.doubts] == [0, 1, 2]


async def test_doubts_are_bounded_too() -> None:
    stats, queue = Stats(), OfficialQueue()
    officials = Officials(queue, stats, "alpaca", limit=3)
    for number in range(5):
        officials.doubt(Doubt(number, 0, 60_000, "cancel"))
    assert (officials.waiting, stats.dropped) == (3, {"doubts_dropped": 2})


async def test_an_end_without_a_broker_does_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamers.officials.END_S", 0.3)
    officials = Officials(OfficialQueue(away=True), Stats(), "binance", every_s=0.01)
    officials.put(official(0))
    task = asyncio.create_task(officials.run())
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(2):
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
