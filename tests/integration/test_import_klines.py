"""Klines files against a real database: stored as the exchange's own, in halves, again, over bars of trades."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.bootstrap import Platform, platform
from app.config import Settings
from app.domain.bars import Bar, Origin, State
from app.domain.outbox import Span
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.errors import BadInput
from app.services.importing import ImportStalled
from app.services.kline_import import KlineCounts, KlineImporter, check_klines
from app.storage import bulk, candles, holes, outbox
from app.storage.imports import ImportProgress
from app.wire.binance_kline_files import read_klines
from tests.factories import FILES, add_instrument, as_recorded, bars, numbers, recorded_minutes, settle
from tests.keeping import fill, retain
from tests.processes import processes

T0 = 1_570_752_000_000
M1, M5, H1 = Timeframe.M1, Timeframe.M5, Timeframe.H1


@pytest.fixture(scope="module")
def parts(settings: Settings) -> Iterator[Platform]:
    built = platform(settings, process="tests")
    yield built
    built.engine.dispose()


class Progress(ImportProgress):
    """The real progress, with the work of the workers done before it is asked."""

    def __init__(self, parts: Platform) -> None:
        super().__init__(parts.engine)
        self._parts = parts

    def import_progress(self, run: int, instrument_id: int, lo_ms: int, hi_ms: int) -> tuple[int, int, int]:
        """See ImportProgress."""
        while self._parts.settle.run() or self._parts.derive.run(0).marks or self._parts.publish.run():
            continue
        return super().import_progress(run, instrument_id, lo_ms, hi_ms)


def recorded_klines(data: Path) -> list[str]:
    """The recorded minutes as Binance's klines files have them: quiet ones, which the recording lacks, are flat."""
    minutes = recorded_minutes(data)
    lines, close = list[str](), ""
    for time_ms in range(min(minutes), max(minutes) + 1, MINUTE_MS):
        o, h, low, close, volume, quote, count = minutes.get(time_ms, (close,) * 4 + ("0.00000000",) * 2 + ("0",))
        lines.append(f"{time_ms},{o},{h},{low},{close},{volume},{time_ms + 59_999},{quote},{count},0,0,0")
    return lines


def write(folder: Path, lines: list[str], name: str = "XRPETH-1m-2019-10.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def importing(
    parts: Platform, instrument: int, *paths: tuple[Path, Timeframe], now_ms: int = 2 * T0, skip_bad: bool = False
) -> KlineCounts:
    importer = KlineImporter(parts.engine, bulk, holes, outbox, Progress(parts), read_klines, now_ms)
    return importer.run(check_klines(paths, read_klines, skip_bad=skip_bad), instrument)


def covered(parts: Platform, instrument: int, tf: Timeframe = M1) -> list[tuple[int, int | None]]:
    with parts.engine.begin() as connection:
        return holes.covered(connection, instrument, tf=tf)


def test_half_a_file_the_other_half_and_all_again(parts: Platform, shared_data: Path, tmp_path: Path) -> None:
    lines, one = recorded_klines(shared_data), add_instrument(parts.engine, "HALF/ETH")
    assert len(lines) == 3560
    assert importing(parts, one, (write(tmp_path, lines[1500:]), M1)) == (2060, 0, 0)
    assert covered(parts, one) == [(T0 + 1500 * MINUTE_MS, T0 + 3560 * MINUTE_MS)]
    assert importing(parts, one, (write(tmp_path, lines[:1700]), M1)) == (1500, 200, 0)
    assert importing(parts, one, (write(tmp_path, lines), M1)) == (0, 3560, 0)
    assert covered(parts, one) == [(T0, T0 + 3560 * MINUTE_MS)]
    check(parts, one, shared_data)
    hours = bars(parts.engine, one, "1h")
    assert len(hours) == 60 and {bar.state for bar in hours[:-1]} == {State.VERIFIED}
    with parts.engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM touched")) == 0
        assert connection.scalar(sa.text("SELECT count(*) FROM ledger WHERE instrument_id = :i"), {"i": one}) == 0
        query = sa.text("SELECT count(*) FROM indicators_1m WHERE instrument_id = :i AND sma_20 IS NOT NULL")
        assert connection.scalar(query, {"i": one}) == 3560 - 19


def check(parts: Platform, instrument: int, data: Path) -> list[Bar]:
    found = bars(parts.engine, instrument)
    minutes = recorded_minutes(data)
    assert {bar.time_ms: as_recorded(bar) for bar in found if bar.trade_count} == {
        time_ms: numbers(row) for time_ms, row in minutes.items()
    }
    assert len(found) == 3560 and {(bar.state, bar.revision) for bar in found} == {(State.VERIFIED, 0)}
    assert {bar.origin for bar in found if not bar.trade_count} == {Origin.FLAT}
    return found


def test_what_is_missing_inside_a_file_is_claimed_and_what_is_not_over_is_left_out(
    parts: Platform, shared_data: Path, tmp_path: Path
) -> None:
    lines, one = recorded_klines(shared_data), add_instrument(parts.engine, "GAP/ETH")
    path = write(tmp_path, lines[:100] + lines[160:2600] + lines[2800:3000])
    assert importing(parts, one, (path, M1), now_ms=T0 + 2950 * MINUTE_MS + 30_000) == (2690, 0, 50)
    assert covered(parts, one) == [(T0, T0 + 2950 * MINUTE_MS)]


def test_native_bars_of_longer_timeframes(parts: Platform, tmp_path: Path) -> None:
    one = add_instrument(parts.engine, "LONG/ETH")
    lines = [f"{T0 + k * 300_000},1,2,1,1.5,9,{T0 + (k + 1) * 300_000 - 1},12,4,3,4,0" for k in range(288)]
    assert importing(parts, one, (write(tmp_path, lines, "LONGETH-5m-2019-10-11.csv"), M5)) == (288, 0, 0)
    assert covered(parts, one, M5) == [(T0, T0 + DAY_MS)] and covered(parts, one) == []
    with parts.engine.begin() as connection:
        found = candles.read(connection, one, M5)
    assert len(found) == 288 and {(bar.state, bar.origin) for bar in found} == {(State.VERIFIED, Origin.EXCHANGE)}


def as_line(bar: Bar, tf: Timeframe, **changed: float) -> str:
    """A stored bar as a line of a klines file."""
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close} | changed
    sums = (bar.quote_volume, bar.trade_count, bar.taker_buy_volume, 0, 0)
    return ",".join(map(str, (bar.time_ms, *prices.values(), bar.volume, bar.time_ms + tf.ms - 1, *sums)))


def test_longer_bars_follow_the_exchanges_own_ones(parts: Platform, tmp_path: Path) -> None:
    """Minutes that nobody could verify, then the hours of the exchange: one differs, the rest agree."""
    one = add_instrument(parts.engine, "FOLLOW/ETH")
    fill(parts.engine, one, M1, T0, T0 + 2 * DAY_MS, state=1)
    with parts.engine.begin() as connection:
        above = "open = open + 1, high = high + 1, low = low + 1, close = close + 1"
        connection.execute(sa.text(f"UPDATE candles_1m SET {above} WHERE instrument_id = :i"), {"i": one})
        outbox.mark(connection, "rollup", [Span(one, T0, T0 + 2 * DAY_MS - MINUTE_MS)])
    settle(parts)
    before = {tf: bars(parts.engine, one, tf) for tf in ("15m", "1h", "4h", "1d")}
    assert {bar.state for found in before.values() for bar in found} == {State.CLOSED}
    hours = before["1h"]
    lines = [as_line(bar, H1) for bar in hours]
    lines[5] = as_line(hours[5], H1, high=(top := max(bar.high for bar in hours) + 9.0))
    assert importing(parts, one, (write(tmp_path, lines, "FOLLOWETH-1h-2019-10.csv"), H1)) == (48, 0, 0)
    after = {tf: bars(parts.engine, one, tf) for tf in ("15m", "1h", "4h", "1d")}
    assert after["15m"] == before["15m"]
    for tf, place in (("1h", 5), ("4h", 1), ("1d", 0)):
        assert {bar.state for bar in after[tf]} == {State.VERIFIED}, tf
        assert [k for k, bar in enumerate(after[tf]) if bar.revision] == [place], tf
        assert after[tf][place].high == top != before[tf][place].high
    assert {bar.origin for bar in after["1h"]} == {Origin.ROLLUP, Origin.EXCHANGE}


def test_longer_bars_are_made_of_the_exchanges_own_ones(parts: Platform, tmp_path: Path) -> None:
    """Of an hour's bars alone come those of 4h and 1d, complete ones closed; minutes are not kept so long."""
    one = add_instrument(parts.engine, "FRESH/ETH")
    lines = [f"{T0 + k * H1.ms},1,{2 + k},1,1.5,9,{T0 + (k + 1) * H1.ms - 1},12,4,3,4,0" for k in range(50)]
    retain(parts.engine, {"1m": 10, "5m": 10, "15m": 10})
    assert importing(parts, one, (write(tmp_path, lines, "FRESHETH-1h-2019-10.csv"), H1)) == (50, 0, 0)
    retain(parts.engine, {})
    fours, days = bars(parts.engine, one, "4h"), bars(parts.engine, one, "1d")
    assert [(bar.time_ms, bar.high, bar.trade_count) for bar in fours[:-1]] == [
        (T0 + k * 4 * H1.ms, 5.0 + 4 * k, 16) for k in range(12)
    ]  # fmt: skip
    assert [(bar.high, bar.volume) for bar in days[:-1]] == [(25.0, 24 * 9), (49.0, 24 * 9)]
    for found in (fours, days):
        assert [bar.state for bar in found] == [State.VERIFIED] * (len(found) - 1) + [State.OPEN]
    assert bars(parts.engine, one, "15m") == []


def test_nothing_of_a_file_that_ends_damaged_is_stored(parts: Platform, shared_data: Path, tmp_path: Path) -> None:
    lines, one = recorded_klines(shared_data), add_instrument(parts.engine, "CRC/ETH")
    path = tmp_path / "CRCETH-1m-2019-10.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("CRCETH-1m-2019-10.csv", "\n".join(lines[9:]))
    path.write_bytes(path.read_bytes().replace(b",0.0", b",9.0", 4))
    assert importing(parts, one, (path, M1), (write(tmp_path, lines[:9]), M1), skip_bad=True) == (9, 0, 0)
    assert len(bars(parts.engine, one)) == 9 and covered(parts, one) == [(T0, T0 + 9 * MINUTE_MS)]


def test_nobody_derives(parts: Platform, tmp_path: Path, shared_data: Path) -> None:
    one, now_s = add_instrument(parts.engine, "STILL/ETH"), [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += 50

    files = check_klines([(write(tmp_path, recorded_klines(shared_data)[:9]), M1)], read_klines)
    progress = ImportProgress(parts.engine)
    importer = KlineImporter(
        parts.engine, bulk, holes, outbox, progress, read_klines, 2 * T0, now_s=lambda: now_s[0], sleep=sleep
    )
    with pytest.raises(ImportStalled, match="nothing derives from them: 1 marks are left"):
        importer.run(files, one)


@pytest.mark.slow
def test_the_command_with_trades_and_klines_together(settings: Settings, shared_data: Path, tmp_path: Path) -> None:
    """The klines agree with the bars of the trades: these are verified by them, and none changes."""
    lines = recorded_klines(shared_data)
    klines = write(tmp_path, lines)
    parts = platform(settings, process="tests")
    with processes(settings) as run:
        run.worker("trades")
        run.worker("bars")
        run.beat()
        trades = [shared_data / name for name in FILES]
        done = run.cli("import", "--symbol", "XRP/ETH", *trades, klines)
        assert done.returncode == 0, done.stdout + done.stderr + run.said()
        assert done.stdout.splitlines() == [
            "XRP/ETH: 14,672 raw trades in 3 file(s)",
            "read 12,477  new 12,477  already known 0",
            "XRP/ETH: 3,560 klines (1m) in 1 file(s)",
            "read 3,560  new 3,560  already known 0",
        ]
        found = check(parts, add_instrument(parts.engine), shared_data)
        assert {bar.origin for bar in found if bar.trade_count} == {Origin.TRADES}
        assert all(bar.open_seq > 0 for bar in found if bar.trade_count)
        other = run.cli("import", "--symbol", "BTC/USDT", klines)
        assert (other.returncode, other.stderr) == (
            2, f"error: {klines} holds XRPETH by its name, not BTC/USDT; nothing was imported\n",
        )  # fmt: skip
        klines.write_text("\n".join([*lines[:5], lines[5].replace(",", ";")]))
        bad = run.cli("import", "--symbol", "XRP/ETH", klines)
        assert bad.returncode == 2 and f"{klines}, line 6: 1 columns where klines have 12" in bad.stderr
        skipped = run.cli("import", "--symbol", "XRP/ETH", "--skip-bad", klines)
        assert skipped.returncode == 0 and "rejected 1:" in skipped.stderr
        assert skipped.stdout.endswith("read 5  new 0  already known 5  rejected 1\n")
    parts.engine.dispose()


def test_a_file_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no kline"):
        check_klines([(write(tmp_path, ["open_time,open"]), M1)], read_klines)
