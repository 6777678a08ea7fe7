"""Old and new processes side by side: what older ones wrote stays readable, what newer ones write is no loss."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from celery import Celery
from celery.exceptions import Reject

from app.cache import keys
from app.domain.official import Doubt, OfficialBar, OfficialBatch
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark, TradeBatch
from app.domain.updates import VERSION, readable
from app.errors import NewerMessage, WireError
from tasks import base

# Written by the programs that had these versions, and never to be changed: messages may wait in a queue over an update.
TRADES_1 = bytes.fromhex(
    "87a17601a26964aa31323334616263642d37a473656e7409a57363616c6508a46d61726b99ce1234abcd07cf00060a24181e4000a762696e61"
    "6e6365a46c697665a3302f32cf00060a24180efdc092920105920309c3a16396c41001000000000000000300000000000000c41001401e1824"
    "0a060002401e18240a0600c41064000000000000000700000000000000c41064000000000000000900000000000000c4100030ef7dba020000"
    "0500000000000000c4104e61bc00000000000600000000000000a162c40180"
)
TRADES_2 = bytes([0x88]) + TRADES_1[1:3] + b"\x02" + TRADES_1[4:] + bytes.fromhex("a175c4020704")
OFFICIAL_1 = bytes.fromhex(
    "84a17601a865786368616e6765a762696e616e6365a462617273919e01a2316dcf0000018bcfe519e0cb3ff8000000000000cb400400000000"
    "0000cb3fe0000000000000cb4000000000000000a4332e3235a3342e35a131030a0cc2a6646f75627473919402cdea60ce0001d4c0a663616e"
    "63656c"
)
# Celery messages name a task and its arguments: an argument may be added with a default, none removed or renamed.
SIGNATURES = {
    "tasks.backfill.run": "(backfill_id: 'int') -> 'None'",
    "tasks.bars.ingest": "(data: 'bytes') -> 'None'",
    "tasks.bars.official": "(data: 'bytes') -> 'None'",
    "tasks.indicators.derive": "(shard: 'int') -> 'None'",
}


@pytest.mark.parametrize(("data", "updates"), [(TRADES_1, None), (TRADES_2, [7, 4])])
def test_trade_batches_of_older_programs_are_read(data: bytes, updates: list[int] | None) -> None:
    batch = TradeBatch.decode(data)
    assert batch.mark == Mark(
        0x1234ABCD, 7, 1_700_000_000_000_000, "binance", "live", "0/2", 1_699_999_999_000_000, ((1, 5), (3, 9)), True
    )
    assert (batch.id, batch.sent_us, batch.size_scale) == ("1234abcd-7", 9, 8)
    columns = (batch.instrument_id, batch.time_us, batch.first, batch.last, batch.price_e8, batch.size, batch.taker_buy)
    assert [column.tolist() for column in columns] == [
        [1, 3], [1_700_000_000_000_001, 1_700_000_000_000_002], [100, 7], [100, 9], [3_000_000_000_000, 5],
        [12_345_678, 6], [True, False],
    ]  # fmt: skip
    assert (None if batch.updates is None else batch.updates.tolist()) == updates


def test_official_bars_of_older_programs_are_read() -> None:
    batch = OfficialBatch.decode(OFFICIAL_1)
    sums = (Decimal("3.25"), Decimal("4.5"), Decimal(1))
    assert batch.bars == [OfficialBar(1, Timeframe.M1, 1_699_999_980_000, 1.5, 2.5, 0.5, 2.0, *sums, 3, 10, 12)]
    assert (batch.exchange, batch.doubts) == ("binance", [Doubt(2, 60_000, 120_000, "cancel")])


@pytest.mark.parametrize("decode", [TradeBatch.decode, OfficialBatch.decode])
def test_a_newer_message_is_told_from_garbage(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(NewerMessage, match="version 9; this worker reads up to"):
        decode(msgpack.packb({"v": 9, "made of": ["what", "we", "cannot", "know"]}))
    for nonsense in (0, -1, "2", None, True, 1.5):
        with pytest.raises(WireError) as caught:
            decode(msgpack.packb({"v": nonsense}))
        assert not isinstance(caught.value, NewerMessage)


def test_chart_updates_of_a_newer_program_have_the_chart_read_again() -> None:
    assert readable({"id": 1}) and readable({"v": VERSION, "id": 1})
    assert not readable({"v": VERSION + 1, "id": 1})


@pytest.mark.parametrize(("name", "signature"), SIGNATURES.items())
def test_the_arguments_of_tasks_stay(name: str, signature: str) -> None:
    module, function = name.rsplit(".", 1)
    task = getattr(importlib.import_module(module), function)
    assert (task.name, str(inspect.signature(task.run))) == (name, signature)


class Memory:
    """The few words of Redis that are needed."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.parked: list[bytes] = []

    def set(self, key: str, value: float, *, nx: bool, ex: int) -> None:
        assert nx and ex > base.NEWER_S
        self.values.setdefault(key, value)

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def eval(self, script: str, count: int, key: str, counters: str, data: bytes, *most: object) -> None:
        assert (count, key, counters) == (2, keys.PARKED, keys.COUNTERS)
        self.parked.append(data)


def test_it_goes_back_for_a_newer_worker_and_is_parked_and_counted_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, counted = Memory(), list[str]()
    platform = SimpleNamespace(redis=memory, publisher=SimpleNamespace(count=counted.append))
    monkeypatch.setattr(base, "platform", lambda: platform)
    monkeypatch.setattr(base, "NEWER_REST_S", 0.0)
    newer = msgpack.packb({"v": 9})

    class Ingest(base.PlatformTask):
        name, patient = "tasks.bars.ingest", True

        def run(self, data: bytes) -> None:
            TradeBatch.decode(data)

    task = Ingest()
    task.bind(Celery("alone", set_as_current=False))
    task.push_request(id="one", delivery_info={"redelivered": False})
    for _ in range(2 * 5):  # more often than MAX_DELIVERIES: it killed nobody
        with pytest.raises(Reject) as back:
            task(newer)
        assert back.value.requeue
    assert (memory.parked, counted) == ([], [])
    memory.values[f"{keys.NEWER}one"] -= base.NEWER_S + 1
    assert task(newer) is None
    assert (memory.parked, counted) == ([newer], ["newer_messages"])
