"""The faults of the simulated market, without a server: what they do to trades and when, the same for a seed."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest

from app.errors import BadInput
from app.sandbox.chaos import plan
from app.sandbox.fault_box import FaultBox, FaultList
from app.sandbox.faults import BREAKS, KINDS, make_fault, parse_faults
from app.sandbox.stock_faults import STOCK_KINDS, make_stock_fault
from app.sandbox.tape import Row

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Stock(NamedTuple):
    """A trade with other fields than Binance's."""

    time_us: int
    venue: str
    size: int


class Times:
    """A monotonic clock and exchange time, set by hand."""

    def __init__(self) -> None:
        self.wall_s, self.now_us = 0.0, 0


def _box(times: Times, *faults: dict[str, Any], exchange: str = "binance", door: str = "stream") -> FaultBox[Any]:
    return FaultBox[Any](
        FaultList(make_fault(options) for options in faults),
        exchange=exchange,
        wall_s=lambda: times.wall_s,
        now_us=lambda: times.now_us,
        door=door,
    )


def _rows(count: int, *, step_us: int = SECOND) -> list[Row]:
    return [Row(k * step_us, k + 1, k + 1, 100, 10, False) for k in range(count)]


def _sent(box: FaultBox[Any], rows: list[Row]) -> list[Row]:
    return [one for row in rows for _, one in box.deliver("BTCUSDT", row)[0]]


def test_the_same_seed_has_the_same_faults() -> None:
    """Everything at once, twice: the same trades in the same order; another seed gives others."""

    def run(seed: int) -> list[Row]:
        kinds = ("duplicate", "reorder", "drop", "late", "revise", "malformed")
        faults = [{"kind": kind, "probability": 0.2, "seed": seed + k} for k, kind in enumerate(kinds)]
        return _sent(_box(Times(), *faults), _rows(400))

    assert run(1) == run(1) != run(2)


def test_a_late_trade_comes_after_its_minute_has_closed() -> None:
    """By exchange time, before the first trade as late as that, or by the clock where nobody trades; none is lost."""
    times = Times()
    box = _box(times, {"kind": "late", "probability": 0.1, "duration_s": 75, "seed": 5})
    rows, sent = _rows(300), list[Row]()
    for row in rows:
        for _, one in box.deliver("BTCUSDT", row)[0]:
            delay_us = row.time_us - one.time_us
            assert delay_us in (0, 75 * SECOND), "at the first trade of that time"
            sent.append(one)
    assert sent != sorted(sent) and len(sent) < 300
    times.now_us = rows[-1].time_us
    assert box.overdue() == []
    times.now_us += 75 * SECOND
    sent += [one for _, one in box.overdue()]
    assert sorted(sent) == rows
    assert not box.idle, "the fault is still in force"


def test_a_revised_trade_is_sent_with_another_size() -> None:
    """Only its size differs, for any exchange's trades; its place is kept."""
    box = _box(Times(), {"kind": "revise", "probability": 0.3, "seed": 2}, exchange="alpaca")
    sent = [box.deliver("AAPL", Stock(k, "V", 10))[0][0][1] for k in range(100)]
    assert [row.time_us for row in sent] == list(range(100))
    assert {row.size for row in sent} == {10, 20} and 10 < sum(row.size == 20 for row in sent) < 60


def test_a_dropped_trade_is_not_held_back() -> None:
    """Of drop, late and reorder on one trade only the first happens, and only it is counted."""
    times = Times()
    box = _box(times, {"kind": "drop"}, {"kind": "late"}, {"kind": "reorder"})
    assert _sent(box, _rows(20)) == []
    times.now_us, times.wall_s = DAY, 100
    assert box.overdue() == []
    assert [fault.fired for fault in box._faults.items] == [20, 0, 0]


def test_connection_faults_and_broken_frames_are_left_to_the_door() -> None:
    """The trade itself passes; the door learns what strikes."""
    box = _box(
        Times(),
        {"kind": "malformed", "probability": 0.5, "seed": 1},
        {"kind": "disconnect", "after": 3, "count": 2},
        {"kind": "shutdown", "at_us": 5 * SECOND, "duration_s": 2},
    )
    struck: dict[int, list[str]] = {}
    for row in _rows(10):
        sent, faults = box.deliver("BTCUSDT", row)
        assert sent == [("BTCUSDT", row)]
        struck[row.id] = [fault.kind for fault in faults if fault.kind != "malformed"]
    assert {number: kinds for number, kinds in struck.items() if kinds} == {
        3: ["disconnect"],
        6: ["disconnect", "shutdown"],
    }


def test_a_fault_is_in_force_at_its_times_only() -> None:
    """[at_us, until_us) of exchange time; outside of it the random numbers stand still."""
    window = {"at_us": 50 * SECOND, "until_us": 60 * SECOND}
    sent = _sent(_box(Times(), {"kind": "drop", **window}), _rows(100))
    assert [row.id for row in sent] == [*range(1, 51), *range(61, 101)]
    early = _box(Times(), {"kind": "duplicate", "probability": 0.5, "seed": 9, "at_us": 50 * SECOND})
    plain = _box(Times(), {"kind": "duplicate", "probability": 0.5, "seed": 9})
    assert _sent(early, _rows(100))[50:] == _sent(plain, _rows(100)[50:])


def test_a_fault_of_one_exchange_leaves_the_others_alone() -> None:
    """The list is one; each door takes what concerns it."""
    faults, times = FaultList(), Times()
    doors = {
        (exchange, door): FaultBox[Any](
            faults, exchange=exchange, wall_s=lambda: 0.0, now_us=lambda: times.now_us, door=door
        )
        for exchange in ("binance", "alpaca")
        for door in ("stream", "rest")
    }
    assert all(box.idle for box in doors.values())
    faults.add(make_fault({"kind": "malformed", "exchange": "alpaca", "door": "rest", "count": 1}))
    faults.add(make_fault({"kind": "drop", "exchange": "alpaca"}))
    row = Row(0, 1, 1, 1, 1, False)
    assert doors["binance", "stream"].deliver("BTCUSDT", row) == ([("BTCUSDT", row)], [])
    assert doors["binance", "stream"].idle and not doors["alpaca", "stream"].idle
    assert doors["alpaca", "stream"].deliver("AAPL", row) == ([], [])
    assert doors["binance", "rest"].hit("malformed") is None
    assert doors["alpaca", "rest"].hit("malformed") is faults.items[0]
    assert doors["alpaca", "rest"].hit("malformed") is None, "count is used up"
    faults.clear()
    assert all(box.idle for box in doors.values())


def test_a_request_meets_a_fault_of_its_path() -> None:
    """`path` is a part of it; such a fault never touches a stream, and `after` lets some pass."""
    box = _box(Times(), {"kind": "status", "path": "symbol=ETH", "after": 1, "count": 2}, door="rest")
    asked = ["/api/v3/klines?symbol=ETHUSDT", "/api/v3/klines?symbol=BTCUSDT"] * 4
    hits = [box.hit("status", "slow", path=path) is not None for path in asked]
    assert hits == [False, False, True, False, True, False, False, False]


def test_refused_keys_and_the_clock() -> None:
    """auth refuses `count` clients; skews add up while they last and count once."""
    times = Times()
    box = _box(
        times,
        {"kind": "auth", "exchange": "alpaca", "count": 2},
        {"kind": "skew", "duration_s": 1.5, "until_us": HOUR},
        {"kind": "skew", "duration_s": -4, "at_us": MINUTE},
        exchange="alpaca",
    )
    assert [box.hit("auth") is not None for _ in range(4)] == [True, True, False, False]
    assert [box.skew_ms(at) for at in (0, MINUTE, HOUR)] == [1500, -2500, -4000]
    times.now_us = 2 * MINUTE
    assert box.skew_ms() == -2500
    assert [fault.fired for fault in box._faults.items] == [2, 1, 1]


def test_cleared_faults_let_held_trades_go() -> None:
    """Nothing stays behind."""
    times = Times()
    faults = FaultList([make_fault({"kind": "late"}), make_fault({"kind": "reorder", "exchange": "binance"})])
    box = FaultBox[Any](faults, exchange="binance", wall_s=lambda: times.wall_s, now_us=lambda: times.now_us)
    rows = _rows(5)
    assert _sent(box, rows) == []
    faults.clear()
    assert [one for _, one in box.overdue()] == rows and box.idle


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "rain"},
        {"kind": "drop", "probability": 2},
        {"kind": "drop", "door": "rest"},
        {"kind": "status", "door": "stream"},
        {"kind": "drop", "exchange": "nyse"},
        {"kind": "drop", "door": "window"},
        {"kind": "status", "status": 200},
        {"kind": "status", "status": 401},
        {"kind": "unauthorized", "status": 500},
        {"kind": "slow", "duration_s": -1},
        {"kind": "drop", "colour": "red"},
        {"kind": "drop", "count": "many"},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    """A fault that cannot be is an error of whoever asked, said in words."""
    with pytest.raises(BadInput):
        make_fault(options)


def test_faults_of_the_command_line() -> None:
    """Kinds with options, numbers as text."""
    first, second = parse_faults("status:status=429,retry_after_s=3,path=klines; skew:duration_s=-2,exchange=binance")
    assert (first.status, first.retry_after_s, first.path, second.duration_s, second.exchange) == (
        429, 3, "klines", -2.0, "binance",
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_chaos_has_every_kind_and_ends(seed: int) -> None:
    """Every kind that heals by itself, on each exchange that knows it, in windows that end before the run does."""
    options = plan(seed, start_us=DAY, end_us=2 * DAY, exchanges=("binance", "alpaca", "yahoo"))
    assert options == plan(seed, start_us=DAY, end_us=2 * DAY, exchanges=("yahoo", "binance", "alpaca"))
    assert options != plan(seed + 1, start_us=DAY, end_us=2 * DAY, exchanges=("binance", "alpaca", "yahoo"))
    kinds = Counter((one["exchange"], one["kind"]) for one in options)
    for exchange in ("binance", "alpaca", "yahoo"):
        assert {"status", "slow", "truncated", "malformed", "refused"} <= {k for e, k in kinds if e == exchange}
    assert {kind for _, kind in kinds} == {*KINDS, *STOCK_KINDS} - {"auth", "unauthorized"}
    for one in options:
        assert DAY <= one["at_us"] < one["until_us"] <= DAY + DAY * 9 // 10
        if one["kind"] in STOCK_KINDS:
            assert make_stock_fault({name: value for name, value in one.items() if name != "exchange"}).until_us
            continue
        fault = make_fault(one)
        assert fault.concerns(one["exchange"], one["door"]) and not fault.at_once
        if one["door"] == "rest" or fault.kind in BREAKS or one["exchange"] == "yahoo":
            assert fault.count is not None and fault.count <= 5, (
                "what waits in wall time, or is asked for seldom, is counted"
            )
        elif fault.kind != "skew":
            assert fault.probability <= 0.05
