"""Bars in bulk: a page of history by COPY, with the same outcome as candles.replace and several times as fast.

Where nothing stands yet the page goes straight into its table. Otherwise, and where somebody else was faster, it goes
into a temporary table and from there through the very statement candles.replace has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice

import numpy as np
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import sqlalchemy as sa

from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar, Origin, State
from app.domain.timeframes import Timeframe
from app.storage import candles
from app.storage.sql import sql
from app.storage.trouble import takes_no_writes

FEW = 40  # below it one statement is as fast
PIECE = 400  # rows: about 64 kB
_ROWS = re.compile(r"FROM unnest\(CAST\(:instrument_id .*?\)\s+AS u \([a-z, ]+\)", re.DOTALL)


def replace(
    connection: sa.Connection, bars: Sequence[Bar] | BarColumns, *, tf: Timeframe = Timeframe.M1, flats: bool = True
) -> list[tuple[int, int]]:
    """Stores the exchange's own bars as verified; returns the (instrument, time ms) that changed.

    `flats`: a bar without trades is marked flat, as on an exchange whose series has them.
    """
    columns = bars if isinstance(bars, BarColumns) else _columns(bars)
    if columns is None or len(columns) < FEW or not _can_copy(connection):
        return candles.replace(connection, bars.bars() if isinstance(bars, BarColumns) else bars, tf=tf, flats=flats)
    if not _any(connection, columns, tf) and _insert(connection, columns, tf, flats=flats):
        return [(columns.instrument_id, time_ms) for time_ms in columns.time_ms]
    connection.execute(sql("bulk", "staging"))
    connection.execute(sql("bulk", "clear"))  # what an earlier page of this transaction left
    _copy(connection, "stage", tf, _lines(columns, columns.time_ms, [""] * len(columns)))
    return [(row[0], row[1]) for row in connection.execute(_upsert(tf), {"flats": flats})]


def _columns(bars: Sequence[Bar]) -> BarColumns | None:
    """The bars as columns, or None where they are few or of several instruments."""
    if len(bars) < FEW or len({bar.instrument_id for bar in bars}) > 1:
        return None
    return BarColumns.of(bars[0].instrument_id, bars)


def _can_copy(connection: sa.Connection) -> bool:
    """Whether COPY works: not under gevent's psycopg2, and a PostgreSQL of WebAssembly ends with it."""
    if psycopg2.extensions.get_wait_callback() is not None:
        return False
    known = connection.info.get("can_copy")
    if known is None:
        version = str(connection.execute(sa.text("SELECT version()")).scalar_one()).lower()
        known = connection.info["can_copy"] = "emcc" not in version and "wasm" not in version
    return bool(known)


def _any(connection: sa.Connection, columns: BarColumns, tf: Timeframe) -> bool:
    """Whether a bar stands between the first and the last; sets the savepoint that _insert may go back to."""
    first, last = columns.time_ms[0], columns.time_ms[-1]
    values = {"instrument_id": columns.instrument_id, "first": first, "last": last}
    return bool(connection.execute(sql("bulk", "any", tf), values).scalar_one())


def _insert(connection: sa.Connection, columns: BarColumns, tf: Timeframe, *, flats: bool) -> bool:
    """Puts bars where there are none; False where somebody else put one there at the same time."""
    flat, own = (f"\t{State.VERIFIED:d}\t{origin:d}" for origin in (Origin.FLAT, Origin.EXCHANGE))
    ends = (flat if flats and not count else own for count in columns.trade_count)
    try:
        _copy(connection, "insert", tf, _lines(columns, _utc(columns.time_ms), ends))
    except psycopg2.errors.UniqueViolation:
        connection.execute(sql("bulk", "take_back"))
        return False
    return True


def _utc(times_ms: Sequence[int]) -> Iterator[str]:
    """Times as PostgreSQL reads them at once."""
    times = np.array(times_ms, "datetime64[ms]")
    for place in range(0, len(times), PIECE):
        yield from np.datetime_as_string(times[place : place + PIECE], timezone="UTC").tolist()


def _lines(columns: BarColumns, times: Iterable[object], ends: Iterable[str]) -> Iterator[bytes]:
    """The rows as COPY reads them, in pieces: instrument, time, the other columns in their order, then `ends`."""
    c, i = columns, columns.instrument_id
    rows = zip(
        times, c.open, c.high, c.low, c.close, c.volume, c.quote_volume, c.taker_buy_volume, c.trade_count,
        c.open_time, c.open_seq, c.close_time, c.close_seq, ends, strict=True,
    )  # fmt: skip
    while piece := "".join(
        [
            f"{i}\t{time}\t{open_}\t{high}\t{low}\t{close}\t{volume}\t{quote}\t{taker}\t{count}\t{ot}\t{os}\t{ct}\t{cs}{end}\n"
            for time, open_, high, low, close, volume, quote, taker, count, ot, os, ct, cs, end in islice(rows, PIECE)
        ]
    ):
        yield piece.encode()


class _Pieces:
    """A file for COPY whose next piece is made while the server still works on the last one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _: int) -> bytes:
        """The next piece, nothing at the end; the driver sends whatever length it gets."""
        return next(self._pieces, b"")


def _copy(connection: sa.Connection, block: str, tf: Timeframe, pieces: Iterator[bytes]) -> None:
    """COPY by the driver itself; what SQLAlchemy would have wrapped is wrapped here, but for a bar that is there."""
    driver = connection.connection.driver_connection
    assert driver is not None
    statement = sql("bulk", block, tf).text
    try:
        with driver.cursor() as cursor:
            cursor.copy_expert(statement, _Pieces(pieces))
    except psycopg2.errors.UniqueViolation:
        raise
    except (psycopg2.Error, SystemError) as error:
        # The driver stumbles over its own error where the server ends the connection within a COPY.
        cause = error if isinstance(error, psycopg2.Error) else error.__cause__
        if not isinstance(cause, psycopg2.Error):
            raise
        if takes_no_writes(cause):
            connection.invalidate(cause)  # as the engine does with what passes through it
        gone = driver.closed != 0
        raise sa.exc.DBAPIError.instance(
            "COPY", None, cause, psycopg2.Error, connection_invalidated=gone, dialect=connection.dialect
        ) from error


@cache
def _upsert(tf: Timeframe) -> sa.TextClause:
    """The statement of candles.replace, with the temporary table in place of its arrays: one law, stated once."""
    text, count = _ROWS.subn("FROM bars_in", sql("candles", "replace", tf).text)
    assert count == 1, "candles.sql's replace reads its rows in another way now"
    return sa.text(text)
