"""Bulk files of klines: what their names say, what is read, and what is refused with which words."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from app.cli.importing_klines import arrivals
from app.domain.bars import Bar, Origin, State
from app.domain.timeframes import Timeframe
from app.errors import BadFile, BadInput, WireError
from app.services.kline_import import check_klines
from app.wire.binance_history import parse_klines
from app.wire.binance_kline_files import kline_name, read_klines
from app.wire.binance_klines import parse_columns

T0 = 1_570_752_000_000
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def line(place: int, *, unit: int = 1, minutes: int = 1, **changed: str) -> str:
    """The kline of a minute, `unit` 1000 in µs."""
    start, length = (T0 + place * minutes * 60_000) * unit, minutes * 60_000 * unit
    fields = {
        "start": str(start), "open": "0.00141342", "high": "0.00150000", "low": "0.00140000", "close": "0.00145000",
        "volume": "23.00000000", "end": str(start + length - 1), "quote": "0.03330000", "count": "3",
        "taker": "11.50000000", "taker_quote": "0.01600000", "ignore": "0",
    }  # fmt: skip
    return ",".join((fields | changed).values())


def write(folder: Path, *lines: str, name: str = "XRPETH-1m-2019-10-11.csv", end: str = "\n") -> Path:
    path = folder / name
    path.write_text(end.join(lines) + end, newline="")
    return path


def read(path: Path, tf: Timeframe = Timeframe.M1, **options: object) -> list[Bar]:
    found: list[Bar] = []
    for columns in read_klines(path, 7, tf, most=options.pop("most", 100), **options):  # type: ignore[arg-type]
        found += columns.bars()
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTCUSDT-1m-2024-01.zip", ("BTCUSDT", Timeframe.M1)),
        ("1000SATSUSDT-4h-2024-01-31.csv", ("1000SATSUSDT", Timeframe.H4)),
        ("BTCUSDT-aggTrades-2024-01.zip", None),
        ("BTCUSDT-trades-2024-01-31.csv", None),
        ("klines.csv", None),
    ],
)
def test_the_name_says_symbol_and_timeframe(name: str, expected: tuple[str, Timeframe] | None) -> None:
    assert kline_name(Path("/some/where") / name) == expected


@pytest.mark.parametrize("interval", ["3m", "1mo", "1w", "1s"])
def test_a_timeframe_that_is_not_kept_is_refused(interval: str) -> None:
    with pytest.raises(BadFile, match=f"klines of {interval}, where there are 1m, 5m, 15m, 1h, 4h, 1d"):
        kline_name(Path(f"BTCUSDT-{interval}-2024-01.zip"))


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("header", [[], [HEADER]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_same_bars_as_over_rest(tmp_path: Path, unit: int, header: list[str], end: str) -> None:
    lines = [line(0, unit=unit), line(1, unit=unit, count="0", volume="0.00000000", quote="0", taker="0")]
    rows = [[int(v) if place in (0, 6, 8) else v for place, v in enumerate(text.split(","))] for text in lines]
    found = read(write(tmp_path, *header, *lines, end=end))
    assert found == parse_columns(rows, 7).bars() == parse_klines(rows, 7)
    assert [bar.time_ms for bar in found] == [T0, T0 + 60_000]
    assert {(bar.state, bar.origin, bar.open_seq, bar.close_seq) for bar in found} == {
        (State.VERIFIED, Origin.EXCHANGE, 0, 0)
    }
    assert [bar.close_time for bar in found] == [T0 * 1000 + 59_999_999, T0 * 1000 + 119_999_999]


def test_zips_any_order_blank_lines_and_other_timeframes(tmp_path: Path) -> None:
    path = tmp_path / "XRPETH-5m-2019-10.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("XRPETH-5m-2019-10.csv", "\n".join(["", *(line(i, minutes=5) for i in (2, 0, 1)), ""]))
    assert [bar.time_ms for bar in read(path, Timeframe.M5)] == [T0, T0 + 300_000, T0 + 600_000]


BAD_ROWS = [
    (line(9, open="-1.0"), "open is '-1.0', not a plain decimal"),
    (line(9, high="nan"), "high is 'nan', not a plain decimal"),
    (line(9, close="1e-3"), "close is '1e-3', not a plain decimal"),
    (line(9, low="0.00000000"), "low is 0.00000000, not above zero"),
    (line(9, high="0.00144000"), "close 0.00145000 is not between low 0.00140000 and high 0.00144000"),
    (line(9, taker="23.00000001"), "taker buy volume 23.00000001 is above volume 23.00000000"),
    (line(9, count="-3"), "count is '-3', not a whole number"),
    (line(9, count="3.5"), "count is '3.5', not a whole number"),
    (line(9, start=str(T0 + 9 * 60_000 + 1)), "is not the start of a 1m bar"),
    (line(9, end=str(T0 + 10 * 60_000)), "is not the end of the 1m bar of"),
    (line(9, minutes=5), "is not the end of the 1m bar of"),
    (line(9, start="1570752"), "open time 1570752 is neither ms nor µs between 2009 and 2100"),
    (line(0), f"the bar of open time {T0} came before"),
    (line(9) + ",0", "13 columns where klines have 12"),
    (line(9)[:40], "columns where klines have 12"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_ROWS)
def test_a_bad_row_is_named(tmp_path: Path, bad: str, reason: str) -> None:
    path = write(tmp_path, HEADER, line(0), line(1), bad, line(2))
    with pytest.raises(BadFile) as caught:
        read(path)
    assert caught.value.line == 4 and reason in str(caught.value)
    skipped: list[BadFile] = []
    assert [bar.time_ms for bar in read(path, on_bad=skipped.append)] == [T0, T0 + 60_000, T0 + 120_000]
    assert [error.line for error in skipped] == [4]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"\x00\x01" * 99, "columns where klines"), (b"PK\x03\x04 broken", "zip")],
)
def test_what_is_no_klines_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "XRPETH-1m-2019-10.csv"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=reason):
        check_klines([(path, Timeframe.M1)], read_klines)


@pytest.mark.slow
def test_memory_stays_constant(tmp_path: Path) -> None:
    path = tmp_path / "XRPETH-1m-2019-10.zip"
    buffer = io.StringIO()
    for place in range(44_640):
        buffer.write(line(place) + "\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("XRPETH-1m-2019-10.csv", buffer.getvalue())
    del buffer
    tracemalloc.start()
    count = sum(len(columns) for columns in read_klines(path, 1, Timeframe.M1, most=2500))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 44_640 and peak < 12_000_000


def test_check_lists_what_it_skips(tmp_path: Path) -> None:
    hourly = write(tmp_path, line(0, minutes=60), name="XRPETH-1h-2019-10.csv")
    mixed = write(tmp_path, line(5), *[line(6, open="x")] * 50, name="XRPETH-1m-2019-10.csv")
    both = [(hourly, Timeframe.H1), (mixed, Timeframe.M1)]
    with pytest.raises(BadFile, match=r"XRPETH-1m-2019-10\.csv, line 2: open is 'x'"):
        check_klines(both, read_klines)
    found = check_klines(both, read_klines, skip_bad=True)
    assert [(file.path, file.rows, file.rejected, len(file.shown)) for file in found] == [
        (mixed, 1, 50, 20), (hourly, 1, 0, 0),
    ]  # fmt: skip
    assert (found[0].first_ms, found[0].end_ms) == (T0 + 300_000, T0 + 360_000)
    with pytest.raises(BadInput, match="nothing to import"):
        check_klines([(write(tmp_path, "x", name="a.csv"), Timeframe.M1)], read_klines, skip_bad=True)


def test_a_file_that_ends_damaged_is_left_out_wholly(tmp_path: Path) -> None:
    """A zip tells by its checksum, at its end: what came before is damaged as well."""
    good = write(tmp_path, line(9000), name="XRPETH-1m-2019-11.csv")
    damaged = tmp_path / "XRPETH-1m-2019-10.zip"
    lines = [line(place) for place in range(8000)]
    with zipfile.ZipFile(damaged, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("XRPETH-1m-2019-10.csv", "\n".join(lines))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole.replace(b",0.00150000,", b",0.00950000,", 1))
    both = [(damaged, Timeframe.M1), (good, Timeframe.M1)]
    with pytest.raises(BadFile, match=r"XRPETH-1m-2019-10\.zip: truncated or damaged zip"):
        check_klines(both, read_klines)
    found = check_klines(both, read_klines, skip_bad=True)
    assert [(file.path, file.rows, file.rejected) for file in found] == [(good, 1, 0), (damaged, 0, 1)]
    assert "damaged zip" in found[1].shown[0]
    assert [(item.what, item.start_ms) for item in arrivals(found)] == [(str(good), T0 + 9000 * 60_000)]
    with pytest.raises(BadInput, match=r"nothing to import: .*damaged zip"):
        check_klines(both[:1], read_klines, skip_bad=True)


@pytest.mark.parametrize(
    "rows",
    [
        [[T0, "1", "1", "1", "1", "1", T0 + 1, "1", 1, "1"], [T0, "1", "1", "1", "1", "1", T0 + 1, "1", 1, "1"]],
        [[T0, "1", "1", "NaN", "1", "1", T0 + 1, "1", 1, "1"]],
        [[T0, "1", "1", 1.0, "1", "1", T0 + 1, "1", 1, "1"]],
        [[str(T0), "1", "1", "1", "1", "1", T0 + 1, "1", 1, "1"]],
        [[T0, "1", "1", "1", "1", "1", T0 + 1, "1", 1.5, "1"]],
        [[T0, "1\t2", "1", "1", "1", "1", T0 + 1, "1", 1, "1"]],
        [[T0]],
        [[T0, "1", "1", "1", "1", "1", T0 + 1, "1", 1, "1"], [T0]],
        [None],
        {"code": -1121},
    ],
)
def test_columns_refuse_what_is_not_documented(rows: object) -> None:
    with pytest.raises(WireError, match="Binance sent klines that it does not document"):
        parse_columns(rows, 1)  # type: ignore[arg-type]
