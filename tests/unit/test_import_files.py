"""Binance's bulk files: what is read, and what is refused with which words."""

from __future__ import annotations

import io
import random
import struct
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.cli.importing import import_command
from app.domain.trades import e8
from app.errors import BadFile, BadInput
from app.services.importing import check
from app.wire.binance_bulk import trades_names
from app.wire.binance_files import read_batches

AGG = "13519807,0.00141342,23.00000000,15373518,15373519,1570752011620,True,True"
TRADE = "28457,4.00000100,12.00000000,48.00001200,1498793709153,true,true"
AGG_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker,is_best_match"
KLINE = "1570752000000,1.0,1.0,1.0,1.0,5.0,1570752059999,5.0,3,1.0,1.0,0"

type Row = tuple[int, int, int, int, int, int, bool]


def rows(path: Path, **options: object) -> list[Row]:
    """Every trade of the file, as (instrument, time, first, last, price, size, taker)."""
    found: list[Row] = []
    for batch in read_batches(path, 7, most=options.pop("most", 5000), **options):  # type: ignore[arg-type]
        assert batch.size_scale == 8
        ints = (batch.instrument_id, batch.time_us, batch.first, batch.last, batch.price_e8, batch.size)
        found += zip(*(column.tolist() for column in (*ints, batch.taker_buy)), strict=True)
    return found


def write(folder: Path, *lines: str, name: str = "file.csv", end: str = "\n") -> Path:
    """A file of these lines."""
    path = folder / name
    path.write_text(end.join(lines) + end, newline="")
    return path


def zipped(folder: Path, members: dict[str, str], name: str = "file.zip") -> Path:
    """A zip of these members."""
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return path


def test_an_aggregate_row(tmp_path: Path) -> None:
    assert rows(write(tmp_path, AGG)) == [
        (7, 1570752011620_000, 15373518, 15373519, 141342, 2_300_000_000, False),
    ]


def test_a_trade_row(tmp_path: Path) -> None:
    assert rows(write(tmp_path, TRADE)) == [(7, 1498793709153_000, 28457, 28457, 400_000_100, 1_200_000_000, False)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_header_microseconds_line_ends_and_no_last_newline(tmp_path: Path, end: str) -> None:
    micro = AGG.replace("1570752011620", "1740000000000123").replace("True,True", "false,1")
    path = write(tmp_path, AGG_HEADER, AGG, micro, end=end)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip())
    times = [(time, taker) for _, time, *_, taker in rows(path)]
    assert times == [(1570752011620_000, False), (1740000000000123, True)]


def test_fewer_places_are_exact(tmp_path: Path) -> None:
    (row,) = rows(write(tmp_path, AGG.replace("0.00141342", "97000").replace("23.00000000", "0.5")))
    assert row[4:6] == (97000 * 10**8, 5 * 10**7)


def test_blank_lines_count_but_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "", AGG, "", AGG.replace("23.0", "-23.0"), "")
    with pytest.raises(BadFile, match=r"file\.csv, line 4: quantity is '-23\.00000000', negative"):
        rows(path)


def test_recorded_files(shared_data: Path) -> None:
    found = [row for path in sorted(shared_data.glob("XRPETH-aggTrades-*.zip")) for row in rows(path)]
    assert len(found) == 12_477
    assert found[0] == (7, 1570752011620_000, 15373518, 15373518, 141342, 2_300_000_000, False)
    assert [a[3] + 1 for a in found[:-1]] == [b[2] for b in found[1:]]
    assert found[-1][3] + 1 - found[0][2] == 14_672


def test_several_members_and_small_batches(tmp_path: Path) -> None:
    second = AGG.replace("15373518,15373519", "15373520,15373520")
    path = zipped(tmp_path, {"a.csv": f"{AGG}\n{second}\n", "b.csv": AGG_HEADER + "\n" + second, "note.txt": "hello"})
    assert [row[2] for row in rows(path, most=1)] == [15373518, 15373520, 15373520]


def test_rows_in_any_order_leave_sorted(tmp_path: Path) -> None:
    lines = [AGG.replace("15373518,15373519", f"{i},{i}") for i in random.Random(1).sample(range(100), 100)]
    assert [row[2] for row in rows(write(tmp_path, *lines))] == list(range(100))


def test_sizes_too_far_apart_part_the_batch(tmp_path: Path) -> None:
    big = AGG.replace("23.00000000", "900000000000.00000000").replace("15373518,15373519", "15373520,15373520")
    small = AGG.replace("23.00000000", "0.00000001")
    path = write(tmp_path, small, big)
    batches = list(read_batches(path, 1, most=10))
    assert [int(batch.size[0]) * 10 ** (8 - batch.size_scale) for batch in batches] == [1, 900000000000 * 10**8]


BAD_ROWS = [
    (AGG.replace("0.00141342", "-0.00141342"), "price is '-0.00141342', negative"),
    (AGG.replace("0.00141342", "0.00000000"), "price is 0.00000000, not above zero"),
    (AGG.replace("0.00141342", "1e-3"), "price is '1e-3', not a plain decimal"),
    (AGG.replace("0.00141342", "0.001413421"), "at most 8 places"),
    (AGG.replace("0.00141342", "nan"), "price is 'nan'"),
    (AGG.replace("0.00141342", ""), "price is ''"),
    (AGG.replace("0.00141342", "99999999999.0"), "price 99999999999.0 is too big"),
    (AGG.replace("23.00000000", "0"), "quantity is 0, not above zero"),
    (AGG.replace("15373518,15373519", "15373519,15373518"), "last id 15373518 is before first id 15373519"),
    (AGG.replace("15373518,15373519", "-1,-1"), "first id is '-1', not a whole number"),
    (AGG.replace("15373518,15373519", "1_0,2_0"), "first id is '1_0', not a whole number"),
    (AGG.replace("1570752011620", "1570752011"), "neither ms nor µs between 2009 and 2100"),
    (AGG.replace("1570752011620", "1570752011620000000"), "time is '1570752011620000000'"),
    (AGG.replace("True,True", "Maybe,True"), "buyer is maker is 'Maybe'"),
    (AGG.replace("True,True", "True,Tr"), "best match is 'Tr'"),
    (AGG + ",x", "9 columns where aggTrades has 8"),
    ("15373518", "1 columns where aggTrades has 8"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_ROWS)
def test_a_bad_row_is_named(tmp_path: Path, bad: str, reason: str) -> None:
    path = write(tmp_path, AGG, AGG, bad, AGG)
    with pytest.raises(BadFile) as caught:
        rows(path)
    assert caught.value.line == 3
    assert reason in str(caught.value)
    skipped: list[BadFile] = []
    assert len(rows(path, on_bad=skipped.append)) == 3
    assert [error.line for error in skipped] == [3]


def test_a_bad_row_far_inside_is_named(tmp_path: Path) -> None:
    lines = [AGG] * 20_000
    lines[17_321] = AGG.replace("23.0", "x")
    with pytest.raises(BadFile) as caught:
        rows(write(tmp_path, *lines))
    assert caught.value.line == 17_322


FOREIGN: Sequence[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"\n\n", "empty"),
    (KLINE.encode(), "klines"),
    (b"open_time,open,high,low,close,volume\n", "klines"),
    (b"20141201 00:00,300,370,300,370,0.05655554\n", "not a Binance spot bulk file: 6 columns"),
    (b"hello world\n", "not a Binance spot bulk file: 1 columns"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\xff", "not text"),
    (b"1" * 600_000, "a line without end"),
    (b"PK\x03\x04garbage", "truncated or damaged zip"),
]


@pytest.mark.parametrize(("content", "reason"), FOREIGN)
def test_a_foreign_file_is_refused_even_when_bad_rows_are_skipped(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=reason):
        rows(path, on_bad=lambda error: None)


def test_unreadable_paths(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "not a regular file"), (tmp_path / "none.csv", "No such file")):
        with pytest.raises(BadFile, match=reason):
            rows(path)


def test_damaged_zips(tmp_path: Path) -> None:
    text = "\n".join(AGG.replace("23.0", f"{i}.0") for i in range(1, 30_000))
    whole = zipped(tmp_path, {"a.csv": text}).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    wrong_crc = bytearray(whole)
    place = whole.rindex(b"PK\x01\x02") + 16
    wrong_crc[place : place + 4] = struct.pack("<I", 1)
    for content in (whole[: len(whole) // 2], whole[:-10], bytes(flipped), bytes(wrong_crc)):
        path = tmp_path / "damaged.zip"
        path.write_bytes(content)
        with pytest.raises(BadFile, match="zip"):
            rows(path)
    with pytest.raises(BadFile, match="holds no csv"):
        rows(zipped(tmp_path, {"a.txt": "x"}))


@pytest.mark.slow
def test_memory_stays_constant(tmp_path: Path) -> None:
    import tracemalloc

    buffer = io.StringIO()
    for i in range(60_000):
        buffer.write(AGG.replace("15373518,15373519", f"{i},{i}") + "\n")
    path = zipped(tmp_path, {"a.csv": buffer.getvalue()})
    del buffer
    tracemalloc.start()
    count = sum(len(batch) for batch in read_batches(path, 1, most=5000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 8_000_000


def test_check_reads_all_files_and_sorts_them(tmp_path: Path) -> None:
    late = write(tmp_path, AGG.replace("15373518,15373519", "15373600,15373609"), name="late.csv")
    early = write(tmp_path, AGG, AGG.replace("1570752011620", "1570752131620"), name="early.csv")
    checked = check([late, early], read_batches)
    assert [facts.path for facts in checked.files] == [early, late]
    assert (checked.rows, checked.trades) == (3, 14)
    assert checked.span_ms == (1570752000000, 1570752180000)


def test_check_lists_what_it_skips(tmp_path: Path) -> None:
    mixed = write(tmp_path, AGG, *[AGG.replace("23.0", "x")] * 50, name="mixed.csv")
    foreign = write(tmp_path, KLINE, name="foreign.csv")
    with pytest.raises(BadFile, match=r"mixed\.csv, line 2"):
        check([mixed, foreign], read_batches)
    checked = check([mixed, foreign], read_batches, skip_bad=True)
    assert (checked.rows, checked.rejected, len(checked.shown)) == (1, 51, 20)
    with pytest.raises(BadInput, match="nothing to import"):
        check([foreign], read_batches, skip_bad=True)


def test_a_trade_of_the_future_is_a_bad_row(tmp_path: Path) -> None:
    """A damaged digit must not make the newest bar of the chart."""
    micro = AGG.replace("1570752011620", "3570752011620000")
    until_us = 1570752011620_001
    for bad, when in ((AGG.replace("1570752011620", "3570752011620"), 3570752011620), (micro, 3570752011620000)):
        path = write(tmp_path, AGG, bad, AGG)
        skipped: list[BadFile] = []
        assert len(rows(path)) == 3
        assert len(rows(path, until_us=until_us, on_bad=skipped.append)) == 2
        assert [str(error) for error in skipped] == [f"{path}, line 2: time {when} is in the future"]
    assert rows(write(tmp_path, AGG), until_us=until_us)
    with pytest.raises(BadFile, match="in the future"):
        rows(write(tmp_path, AGG), until_us=until_us - 1)


def importing(*paths: Path, skip_bad: bool = False) -> None:
    import_command(list(paths), symbol="XRP/ETH", exchange="binance", skip_bad=skip_bad, keep=False)


def test_the_command_refuses_a_trade_of_the_future(tmp_path: Path) -> None:
    soon = str(time.time_ns() // 1_000_000 + 3_600_000)
    with pytest.raises(BadInput, match=r"file\.csv, line 2: time \d+ is in the future; nothing was imported"):
        importing(write(tmp_path, AGG, AGG.replace("1570752011620", soon)))


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("kind", ["aggTrades", "trades"])
def test_the_command_refuses_trades_of_another_symbol(tmp_path: Path, kind: str, skip_bad: bool) -> None:
    other, own = f"BTCUSDT-{kind}-2019-10-11", f"XRPETH-{kind}-2019-10-11"
    good = write(tmp_path, AGG, name=f"{own}.csv")
    said = r"{} holds BTCUSDT by its name, not XRP/ETH; nothing was imported"
    with pytest.raises(BadInput, match=said.format(rf"{other}\.csv")):
        importing(good, write(tmp_path, AGG, name=f"{other}.csv"), skip_bad=skip_bad)
    with pytest.raises(BadInput, match=said.format(rf"renamed\.zip:in/{other}\.csv")):
        importing(good, zipped(tmp_path, {f"in/{other}.csv": AGG}, name="renamed.zip"), skip_bad=skip_bad)


def test_names_that_say_a_symbol(tmp_path: Path) -> None:
    name = "XRPETH-aggTrades-2019-10.csv"
    both = zipped(tmp_path, {name: AGG, f"__MACOSX/{name}": "x", "readme.txt": ""}, name="xrpeth-trades-2019-10-11.zip")
    assert list(trades_names(both)) == [(str(both), "XRPETH"), (f"{both}:{name}", "XRPETH")]
    broken = tmp_path / "BTCUSDT-aggTrades-2019-10.zip"
    broken.write_bytes(both.read_bytes()[:-30])
    assert list(trades_names(broken)) == [(str(broken), "BTCUSDT")]
    for other in (write(tmp_path, AGG, name="late.csv"), tmp_path, tmp_path / "none.csv"):
        assert list(trades_names(other)) == []


def test_e8_is_the_unit() -> None:
    assert e8("0.00141342") == 141342
