"""The streamer's parts that need no socket: delays, the bounded buffer, numbers and claims of batches."""

from __future__ import annotations

from itertools import islice
from random import Random

from app.domain.trades import Trade, TradeBatch
from app.errors import Unavailable
from streamers.backoff import delays
from streamers.buffer import Buffer, Chunk, Run
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
