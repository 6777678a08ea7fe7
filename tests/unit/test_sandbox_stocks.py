"""The simulated stock market without a server: its hours, its prints, their amendments and the true bars."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from app.errors import BadInput
from app.sandbox.stock_faults import StockFault, make_stock_fault
from app.sandbox.stocks.amendments import Kind
from app.sandbox.stocks.conditions import HIGH_LOW, OPEN_CLOSE, VOLUME, effect, known, pack, unpack
from app.sandbox.stocks.hours import DAY_US, MINUTE_US
from app.sandbox.stocks.listing import SEEDED, listings
from app.sandbox.stocks.market import StockMarket
from app.sandbox.stocks.prints import CANCELED, CORRECTED, INCORRECT, VALID, Print
from app.sandbox.stocks.truth import vwap
from app.sandbox.truth import TrueBar

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
ALL, NO_ENDS = OPEN_CLOSE | HIGH_LOW | VOLUME, HIGH_LOW | VOLUME


def _us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


NOW_US = _us("2026-11-20T18:00:30")  # a Friday, 13:00 in New York


def _market(*symbols: str, seed: int = 7, rate: float = 1.0, start: int = NOW_US, days: int = 4) -> StockMarket:
    oldest_us = start // DAY_US * DAY_US - days * DAY_US
    return StockMarket(listings(symbols, rate), seed=seed, start_us=start, oldest_us=oldest_us)


def _bars(market: StockMarket, symbol: str, lo: str, hi: str, length_ms: int = MINUTE_MS) -> list[TrueBar]:
    start_ms, end_ms = _us(lo) // 1000, _us(hi) // 1000
    return market.bars(symbol, length_ms, start_ms=start_ms, end_ms=end_ms, now_us=end_ms * 1000)


def _by_hand(rows: Iterable[Print], tape: str, length_us: int) -> list[tuple[int, ...]]:
    """The bars of regular prints, one by one: (time, open, high, low, close, shares, turnover, count)."""
    found: dict[int, list[int]] = {}
    for row in rows:
        allowed = ALL
        for letter in unpack(row.conditions):
            allowed &= effect(pack(letter), tape, extended=False)
        if row.mark in (CANCELED, INCORRECT):
            continue
        start = row.time_us // length_us * length_us
        bar = found.setdefault(start, [0, 0, 10**9, 0, 0, 0, 0])
        if allowed & OPEN_CLOSE:
            bar[0] = bar[0] or row.price
            bar[3] = row.price
        if allowed & HIGH_LOW:
            bar[1], bar[2] = max(bar[1], row.price), min(bar[2], row.price)
        if allowed & VOLUME:
            bar[4], bar[5], bar[6] = bar[4] + row.size, bar[5] + row.size * row.price, bar[6] + 1
    return [(start // 1000, *bar) for start, bar in sorted(found.items()) if bar[0]]


def _told(bars: Iterable[TrueBar]) -> list[tuple[int, ...]]:
    return [
        (bar.time_ms, bar.open // 10**4, bar.high // 10**4, bar.low // 10**4, bar.close // 10**4,
         bar.volume // 10**8, bar.quote // 10**12, bar.trades)
        for bar in bars
    ]  # fmt: skip


def test_conditions_update_what_the_tape_says() -> None:
    """Single letters, their combination, tapes that differ, extended hours; packing loses nothing."""
    cases = {"@": ALL, "F": ALL, "O": ALL, "6": ALL, "I": VOLUME, "W": VOLUME, "C": VOLUME, "7": VOLUME, "T": VOLUME}
    cases |= {"Z": NO_ENDS, "P": NO_ENDS, "4": NO_ENDS, "G": NO_ENDS, "M": 0, "Q": 0, "9": 0}
    assert {letter: effect(pack(letter), "C", extended=False) for letter in cases} == cases
    assert effect(pack("@", "I"), "C", extended=False) == VOLUME
    assert effect(pack("Z", "I"), "C", extended=False) == VOLUME
    assert effect(pack("@", "M"), "C", extended=False) == 0
    assert effect(pack("B"), "C", extended=False) == ALL and effect(pack("B"), "A", extended=False) == VOLUME
    assert effect(pack("@", "T"), "C", extended=True) == ALL
    assert effect(pack("@", "T", "I"), "C", extended=True) == VOLUME
    assert unpack(pack("@", "F", "T", "I")) == ("@", "F", "T", "I")
    assert known(("@", "I")) and not known(()) and not known(("@", "?"))


def test_the_market_is_open_when_the_exchanges_are() -> None:
    """Holidays, half days and both changes of daylight saving; prints only inside, some of them around."""
    market = _market("AAPL", "THYAO.IS", days=300)
    assert _bars(market, "AAPL", "2026-11-26T00:00", "2026-11-27T00:00") == []  # Thanksgiving
    assert _bars(market, "THYAO.IS", "2026-10-29T00:00", "2026-10-30T00:00") == []  # Republic Day
    hours = {
        ("AAPL", "2026-11-27"): ("14:30", "18:00"),  # half a day
        ("AAPL", "2026-10-30"): ("13:30", "20:00"),  # daylight saving ends on 1 November
        ("AAPL", "2026-11-02"): ("14:30", "21:00"),
        ("AAPL", "2026-03-06"): ("14:30", "21:00"),  # and begins on 8 March
        ("AAPL", "2026-03-09"): ("13:30", "20:00"),
        ("THYAO.IS", "2026-10-27"): ("06:55", "15:10"),
        ("THYAO.IS", "2026-10-28"): ("06:55", "09:40"),  # half a day
    }
    for (symbol, date), (opening, close) in hours.items():
        bars = _bars(market, symbol, f"{date}T00:00", f"{date}T23:59")
        lo, hi = _us(f"{date}T{opening}") // 1000, _us(f"{date}T{close}") // 1000
        assert lo <= bars[0].time_ms < lo + 5 * MINUTE_MS and hi - 5 * MINUTE_MS <= bars[-1].time_ms < hi
    day = _us("2026-11-27")
    around = [row for row in market.prints("AAPL", day, day + DAY_US, now_us=day + DAY_US).rows()
              if not _us("2026-11-27T14:30") <= row.time_us < _us("2026-11-27T18:00")]  # fmt: skip
    assert around and all("T" in unpack(row.conditions) for row in around)
    assert around[0].time_us >= _us("2026-11-27T09:00") and around[-1].time_us < _us("2026-11-27T22:00")
    auctions = [bar.time_ms % DAY_MS // MINUTE_MS for bar in _bars(market, "THYAO.IS", "2026-10-27", "2026-10-28")]
    assert {*range(415, 420)} & {*auctions} and {*range(905, 910)} & {*auctions}  # 09:55 and 18:05 in Istanbul
    assert not {*range(900, 905)} & {*auctions}


def test_same_seed_same_prints_however_they_are_asked_for() -> None:
    """By another instance, in pieces and backwards: the same; another seed or rate gives others."""
    lo, hi = _us("2026-11-18"), _us("2026-11-20")
    for rate in (0.2, 3.0):  # whole sessions in a block, and in several
        whole = list(_market("AAPL", rate=rate).prints("AAPL", lo, hi, now_us=NOW_US).rows())
        market, step = _market("AAPL", rate=rate), (hi - lo) // 23
        pieces = [list(market.prints("AAPL", at, min(at + step, hi), now_us=NOW_US).rows())
                  for at in range(lo, hi, step)[::-1]]  # fmt: skip
        assert [row for piece in reversed(pieces) for row in piece] == whole
        other = _market("AAPL", seed=8, rate=rate).prints("AAPL", lo, hi, now_us=NOW_US)
        assert list(other.rows()) != whole and len(whole) > 20_000 * rate


def test_prints_are_as_the_tape_has_them() -> None:
    """Unique rising times and ids with gaps, whole cents and shares, odd lots below a hundred, special conditions."""
    rows = list(_market("AAPL").prints("AAPL", _us("2026-11-19"), _us("2026-11-20"), now_us=NOW_US).rows())
    times, ids = [row.time_us for row in rows], [row.id for row in rows]
    assert times == sorted(set(times)) and ids == sorted(set(ids)) and ids[-1] - ids[0] > 2 * len(ids)
    assert all(row.price > 0 and row.price % 100 == 0 and row.size > 0 for row in rows)
    assert all((row.size < 100) == ("I" in unpack(row.conditions)) for row in rows)
    letters = {letter for row in rows for letter in unpack(row.conditions)}
    assert letters >= {*"@FIZU4WBCO6T"}
    regular = [row for row in rows if _us("2026-11-19T14:30") <= row.time_us < _us("2026-11-19T21:00")]
    assert unpack(regular[0].conditions) == ("@", "O") and unpack(regular[-1].conditions) == ("@", "6")


@pytest.mark.parametrize(("symbol", "rate"), [("AAPL", 0.3), ("IBM", 0.3), ("META", 0.03), ("SPY", 3.0)])
def test_bars_are_those_counted_by_hand(symbol: str, rate: float) -> None:
    """Minutes, longer bars and the day, from prints taken one by one."""
    market = _market(symbol, rate=rate)
    lo, hi = _us("2026-11-19T14:30"), _us("2026-11-19T21:00")
    rows = list(market.prints(symbol, lo, hi, now_us=NOW_US).rows())
    tape = market.series[symbol].listing.tape
    minutes = _by_hand(rows, tape, MINUTE_US)
    assert _told(_bars(market, symbol, "2026-11-19", "2026-11-20")) == minutes
    day = _bars(market, symbol, "2026-11-19", "2026-11-20", DAY_MS)
    assert _told(day) == _by_hand(rows, tape, DAY_US)
    for length in (300_000, 900_000, HOUR_MS, 4 * HOUR_MS):
        expected: dict[int, list[tuple[int, ...]]] = {}
        for bar in minutes:
            expected.setdefault(bar[0] // length * length, []).append(bar)
        longer = [
            (start, group[0][1], max(bar[2] for bar in group), min(bar[3] for bar in group), group[-1][4],
             *(sum(bar[field] for bar in group) for field in (5, 6, 7)))
            for start, group in expected.items()
        ]  # fmt: skip
        assert _told(_bars(market, symbol, "2026-11-19", "2026-11-20", length)) == longer
    for bar in day:
        assert abs(Fraction(vwap(bar)) - Fraction(bar.quote, bar.volume * 10**8)) <= Fraction(51, 10**8)


def test_quiet_minutes_and_minutes_of_odd_lots_have_no_bar() -> None:
    """The thin stock has plenty of both; its day counts the odd lots all the same."""
    market = _market(*SEEDED, rate=2.0)
    lo, hi = _us("2026-11-19T14:30"), _us("2026-11-19T21:00")
    rows = list(market.prints("META", lo, hi, now_us=NOW_US).rows())
    traded = {row.time_us // MINUTE_US for row in rows}
    bars = {bar.time_ms // MINUTE_MS for bar in _bars(market, "META", "2026-11-19", "2026-11-20")}
    assert bars < traded and len(traded - bars) > 40 and 390 - len(traded) > 20
    volume = sum(row.size for row in rows if effect(row.conditions, "C", extended=False) & VOLUME)
    [day] = _bars(market, "META", "2026-11-19", "2026-11-20", DAY_MS)
    assert day.volume == volume * 10**8


def test_extended_hours_are_left_out_unless_asked_for() -> None:
    """An extended-hours sale makes a bar of its own outside the session, and never touches the day's bar."""
    market = _market("AAPL")
    span = {"start_ms": _us("2026-11-19") // 1000, "end_ms": _us("2026-11-20") // 1000, "now_us": NOW_US}
    regular = market.bars("AAPL", MINUTE_MS, **span)
    more = market.bars("AAPL", MINUTE_MS, **span, extended=True)
    outside = [bar for bar in more if not _us("2026-11-19T14:30") <= bar.time_ms * 1000 < _us("2026-11-19T21:00")]
    assert len(outside) >= 2 and len(more) == len(regular) + len(outside)
    assert market.bars("AAPL", DAY_MS, **span, extended=True) == market.bars("AAPL", DAY_MS, **span)


def test_the_running_minute_and_day_stand_as_far_as_they_are() -> None:
    """bars() has them, closed() has not until they are over; nothing of the future is told."""
    market, now = _market("AAPL"), _us("2026-11-20T18:00:30")
    span = {"start_ms": _us("2026-11-20") // 1000, "end_ms": now // 1000, "now_us": now}
    running, closed = market.bars("AAPL", MINUTE_MS, **span), market.closed("AAPL", MINUTE_MS, **span)
    assert running[:-1] == closed and running[-1].time_ms == _us("2026-11-20T18:00") // 1000
    whole = market.bars("AAPL", MINUTE_MS, **{**span, "now_us": now + 30_000_000})[-1]
    assert running[-1].volume < whole.volume and running[-1].open == whole.open
    [day] = market.bars("AAPL", DAY_MS, **span)
    rows = market.prints("AAPL", _us("2026-11-20T14:30"), now, now_us=now).rows()
    assert _told([day]) == _by_hand(rows, "C", DAY_US)
    assert market.closed("AAPL", DAY_MS, **span) == []
    over = _us("2026-11-20T21:00")
    assert len(market.closed("AAPL", DAY_MS, **{**span, "now_us": over})) == 1


def test_one_minute_is_the_bar_of_its_hour() -> None:
    """Asked one by one the minutes are those of bars(), None where there is none, also before and after the hours."""
    market, lo = _market("IBM", rate=0.05), _us("2026-11-19T00:00")
    span = {"start_ms": lo // 1000, "end_ms": lo // 1000 + DAY_MS, "now_us": NOW_US}
    bars = market.bars("IBM", MINUTE_MS, **span, extended=True)
    single = [market.series["IBM"].minute(at, NOW_US) for at in range(lo, lo + DAY_US, MINUTE_US)]
    assert [bar for bar in single if bar is not None] == bars and single[0] is single[-1] is None


def test_amendments_hold_from_their_time_on() -> None:
    """Before it the market knows nothing of it; from it on the minute and the day are as if it had never been."""
    market, now = _market("AAPL"), NOW_US
    lo = _us("2026-11-20T17:30")
    rows = list(market.prints("AAPL", lo, lo + MINUTE_US, now_us=now).rows())
    highest = max(
        (row for row in rows if effect(row.conditions, "C", extended=False) == ALL), key=lambda row: row.price
    )

    def minute(at_us: int) -> list[tuple[int, ...]]:
        span = {"start_ms": lo // 1000, "end_ms": lo // 1000 + 1}
        return _told(market.bars("AAPL", MINUTE_MS, **span, now_us=at_us))

    def counted(at_us: int) -> list[tuple[int, ...]]:
        return _by_hand(market.prints("AAPL", lo, lo + MINUTE_US, now_us=at_us).rows(), "C", MINUTE_US)

    before = minute(now)
    fixed = market.correct("AAPL", highest.id, price=highest.price * 2, size=1_000_000, now_us=now + 10)
    assert minute(now + 9) == before == counted(now + 9)
    assert minute(now + 10)[0][2] == highest.price * 2 and minute(now + 10) == counted(now + 10)
    with pytest.raises(BadInput, match="no print"):
        market.cancel("AAPL", highest.id, now_us=now + 20)  # corrected: it is valid no more
    assert fixed.after is not None
    market.cancel("AAPL", fixed.after.id, now_us=now + 20)
    assert minute(now + 20) == counted(now + 20) and minute(now + 20)[0][7] == before[0][7] - 1
    late = market.trade("AAPL", Print(lo + 1, 0, 10_000, 300, pack("@"), ord("Q")), now_us=now + 30)
    assert minute(now + 29)[0][1] != 10_000
    assert minute(now + 30)[0][1] == 10_000 == minute(now + 30)[0][3] and minute(now + 30) == counted(now + 30)
    marks = [row.mark for row in market.prints("AAPL", lo, lo + MINUTE_US, now_us=now + 30).rows()]
    assert sorted(marks)[-2:] == [CANCELED, INCORRECT] and CORRECTED not in marks and VALID in marks
    assert late.after is not None and market.series["AAPL"].find(late.after.id, now + 30).price == 10_000
    day = {"start_ms": _us("2026-11-20") // 1000, "end_ms": now // 1000}
    [bar] = _told(market.bars("AAPL", DAY_MS, **day, now_us=now + 30))
    assert bar[3] == 10_000 and bar[2] < highest.price * 2
    market.reset(now)
    assert minute(now + 30) == before


def test_what_is_taken_back_stays_taken_back() -> None:
    """A correction that comes after the cancel of the same print changes nothing."""
    market, lo = _market("AAPL"), _us("2026-11-20T17:30")
    row = list(market.prints("AAPL", lo, lo + MINUTE_US, now_us=NOW_US).rows())[3]
    market.cancel("AAPL", row.id, now_us=NOW_US + 1)
    before = list(market.prints("AAPL", lo, lo + MINUTE_US, now_us=NOW_US + 1).rows())
    market.series["AAPL"].add(NOW_US + 2, Kind.CORRECT, row, row._replace(price=10_000))
    after = list(market.prints("AAPL", lo, lo + MINUTE_US, now_us=NOW_US + 2).rows())
    assert [one for one in after if one.mark == VALID] == [one for one in before if one.mark == VALID]
    assert len(after) == len(before) and CORRECTED not in {one.mark for one in after}


def test_nothing_is_reported_outside_the_hours() -> None:
    """A print at night, of a stock nobody knows or an id nobody has is refused."""
    market, row = _market("AAPL"), Print(_us("2026-11-20T03:00"), 0, 10_000, 1, pack("@"), ord("Q"))
    with pytest.raises(BadInput, match="does not trade"):
        market.trade("AAPL", row, now_us=NOW_US)
    with pytest.raises(BadInput, match="not listed"):
        market.trade("XYZ", row, now_us=NOW_US)
    with pytest.raises(BadInput, match="no print"):
        market.cancel("AAPL", 17, now_us=NOW_US)


@pytest.mark.parametrize("kind", ["cancel", "correct", "late_print"])
def test_faults_strike_the_same_prints_in_any_steps(kind: str) -> None:
    """The same amendments for the same seed, whether the market is looked at once or all the time."""
    end = NOW_US + 600_000_000
    seen = []
    for step in (600_000_000, 7_000_000):
        market = _market("AAPL", "THYAO.IS")
        market.add_fault(StockFault(kind, probability=0.2, seed=3, delay_s=100), now_us=NOW_US)
        for at in range(NOW_US, end + 1, step):
            market.catch_up(at)
        market.catch_up(end)
        assert not len(market.series["THYAO.IS"].amendments)
        seen.append([(item.at_us, item.before) for item in market.series["AAPL"].amendments.between(0, 2**62)])
        rows = list(market.prints("AAPL", NOW_US, end, now_us=end).rows())
        span = {"start_ms": NOW_US // 1000, "end_ms": end // 1000, "now_us": end}
        assert _told(market.bars("AAPL", MINUTE_MS, **span)) == [
            bar for bar in _by_hand(rows, "C", MINUTE_US) if bar[0] * 1000 >= NOW_US
        ]
    assert seen[0] == seen[1] and len(seen[0]) > 50
    assert all(before is not None and at > before.time_us for at, before in seen[0])
    if kind == "late_print":
        assert all(before is not None and at // MINUTE_US > before.time_us // MINUTE_US for at, before in seen[0])


def test_faults_say_what_is_wrong_with_them() -> None:
    """Unknown kinds, options and values; text is read as numbers."""
    for options in ({"kind": "melt"}, {"kind": "cancel", "colour": 1}, {"kind": "cancel", "probability": "x"}):
        with pytest.raises(BadInput):
            make_stock_fault(options)
    fault = make_stock_fault({"kind": "cancel", "probability": "0.5", "count": "2", "symbol": "THYAO.IS"})
    assert fault.means("THYAO.IS") and not fault.means("AAPL") and fault.describe()["count"] == 2


def test_the_list_of_stocks() -> None:
    """The platform's own share the rate, the others come beside them; chosen ones share it; bad names are refused."""
    default = {listing.symbol: rate for listing, rate in listings((), 2.0)}
    assert sum(default[symbol] for symbol in SEEDED) == pytest.approx(2.0) and len(default) > len(SEEDED)
    chosen = listings(("AAPL", "BRK.B", "XYZAB.IS", "AAPL"), 3.0)
    assert [listing.calendar for listing, _ in chosen] == ["XNYS", "XNYS", "XIST"]
    assert sum(rate for _, rate in chosen) == pytest.approx(3.0)
    assert [listing.currency for listing, _ in chosen] == ["USD", "USD", "TRY"]
    for bad in ("aapl", "TOOLONG", "BTC/USDT"):
        with pytest.raises(BadInput, match="--stocks"):
            listings((bad,), 1.0)
