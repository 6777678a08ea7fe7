"""Puts the market of tests/sql_market.py into a database, by the platform's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import sqlalchemy as sa

from app.domain.bars import Bar, Origin, State, partial_bars
from app.domain.conditions import VOLUME
from app.domain.instruments import Instrument
from app.domain.outbox import Due, Span
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.domain.trades import Trade, TradeBatch
from app.services.derive import Derive
from app.services.settle import Settle
from app.storage import bulk, candles, catalog, closing, holes, indicators, outbox, settled
from app.storage import sessions as stored_sessions
from tests import sql_market as known
from tests.sql_market import NOW, SINCE, Series, market

WITHOUT_BARS = "BNB/USDT"  # on the watchlist, and nothing of it is stored
GONE = "ADA/USDT"  # once on the watchlist: we claim to hold it, and nobody misses its bars


def fill(engine: sa.Engine) -> dict[str, int]:
    """Stores the whole market, roll-ups and indicators too; returns symbol → instrument id."""
    market()  # it takes seconds to draw: longer than a transaction may idle
    with engine.begin() as connection:
        ids = _watchlist(connection)
        _sessions(connection)
    for series in market().values():
        with engine.begin() as connection:
            _history(connection, ids[series.about.symbol], series)
    with engine.begin() as connection:
        _trades(connection, ids)
    with engine.begin() as connection:
        _doubts(connection, ids)
    _derive(engine)
    return ids


def ms(time: pd.Timestamp) -> int:
    """The time in ms since 1970."""
    return int(time.timestamp() * 1000)


def _watchlist(connection: sa.Connection) -> dict[str, int]:
    found = {item.symbol: item.id for item in catalog.instruments(connection)}
    for symbol, instrument_id in found.items():
        catalog.set_active(connection, instrument_id, symbol in market() or symbol == WITHOUT_BARS)
    holes.cover_live(connection, {found[GONE]: ms(known.MINUTES_SINCE)})
    return {symbol: found[symbol] for symbol in market()}


def _sessions(connection: sa.Connection) -> None:
    for calendar in known.EXCHANGE_DAYS:
        rows = [(ms(lo), ms(hi)) for lo, hi in known.sessions(calendar)]
        stored_sessions.put(connection, calendar, [Session(lo - lo % DAY_MS, lo, hi) for lo, hi in rows])


def _history(connection: sa.Connection, instrument_id: int, series: Series) -> None:
    """The exchange's own bars: minutes since the symbol is followed, longer ones before."""
    flats = series.about.exchange == "binance"
    for tf, frame in series.bars.items():
        told = frame[(frame["state"] == known.VERIFIED) & frame["origin"].isin((known.EXCHANGE, known.FLAT))]
        if tf is not Timeframe.M1:
            told = told[told["origin"] == known.EXCHANGE] if tf in SINCE else told[:0]
        bulk.replace(connection, list(_bars(instrument_id, series, told, tf)), tf=tf, flats=flats)
    minutes = series.bars[Timeframe.M1]
    holes.cover_live(connection, {instrument_id: ms(series.about.since)})
    outbox.mark(connection, "rollup", [Span(instrument_id, ms(minutes.index[0]), ms(minutes.index[-1]))])
    if not flats:
        settled.forward(connection, instrument_id, ms(NOW.floor("min")))


def _bars(instrument_id: int, series: Series, frame: pd.DataFrame, tf: Timeframe) -> Iterator[Bar]:
    about = series.about
    columns: Iterator[tuple[Any, ...]] = zip(
        map(ms, frame.index),
        *(known.prices(frame, name).tolist() for name in "ohlc"),
        *(known.sums(about, frame, name) for name in "vqt"),
        frame["n"].tolist(),
        strict=True,
    )
    for time_ms, first, high, low, last, volume, amount, taken, count in columns:
        times = (time_ms * 1000, 0, (time_ms + tf.ms) * 1000 - 1, 0)
        numbers = (volume, amount, taken, int(count), *times)
        yield Bar(instrument_id, time_ms, first, high, low, last, *numbers, State.VERIFIED, 0, Origin.EXCHANGE)


def _trades(connection: sa.Connection, ids: dict[str, int]) -> None:
    """BTC's last minutes as four trades each, closed but for the last, the older ones verified; an odd lot of AAPL."""
    btc, frame = ids["BTC/USDT"], market()["BTC/USDT"].bars[Timeframe.M1]
    live = frame[frame["origin"] == known.TRADES]
    candles.merge(connection, partial_bars(TradeBatch.of(_prints(btc, live))))
    lo_ms, open_ms = ms(live.index[0]), ms(known.OPEN_MINUTE)
    assert closing.close(connection, [Due(btc, lo_ms, open_ms, 0.0)], lo_ms=lo_ms) == len(live) - 1
    verified = live[live["state"] == known.VERIFIED]
    candles.verify(connection, [(btc, ms(time)) for time in verified.index])
    odd = Trade(ids[known.ODD_LOT], open_ms * 1000, 1, 1, 125 * 10**8, 3 * 10**8, False, VOLUME)
    candles.merge(connection, partial_bars(TradeBatch.of([odd])))


def _prints(instrument_id: int, minutes: pd.DataFrame) -> Iterator[Trade]:
    size_e8 = 10 ** (8 - market()["BTC/USDT"].about.places)
    for place, (time, row) in enumerate(minutes.iterrows()):
        part = int(row["v"]) // 4
        sizes = (part, part, part, int(row["v"]) - 3 * part)
        for i, (name, size) in enumerate(zip("ohlc", sizes, strict=True)):
            time_us = (ms(time) + 5_000 + i * 15_000) * 1000  # type: ignore[arg-type]
            number = 1000 + 4 * place + i
            price_e8 = int(row[name]) * 10 ** (8 - known.PRICE)
            yield Trade(instrument_id, time_us, number, number, price_e8, size * size_e8, i < 2)


def _doubts(connection: sa.Connection, ids: dict[str, int]) -> None:
    """Holes: those that are open, one that was repaired, and one in which a bar stands that is asked for again."""
    for series in market().values():
        for lo, hi in series.about.holes:
            holes.record(connection, ids[series.about.symbol], ms(known.utc(lo)), ms(known.utc(hi)), "feed down")
    aapl, btc = ids["AAPL"], ids["BTC/USDT"]
    old = ms(known.utc("2025-11-26 16:00"))
    holes.record(connection, aapl, old, old + 60 * MINUTE_MS, "feed down")
    mended = {h.id: h.hi_ms for h in holes.open_holes(connection, due_only=False) if h.instrument_id == aapl}
    holes.repaired(connection, mended)
    late = ms(known.utc("2025-11-28 20:10"))
    holes.record(connection, btc, late, late + MINUTE_MS, "late trade")


def _derive(engine: sa.Engine) -> None:
    """Roll-ups, then the indicators of all timeframes."""
    with engine.begin() as connection:
        instruments: dict[int, Instrument] = {item.id: item for item in catalog.instruments(connection)}
        ids = {item.symbol: item.id for item in instruments.values()}
        spans = [Span(ids[symbol], ms(known.FIRST), ms(NOW.floor("min"))) for symbol in market()]
    settle = Settle(engine, outbox, holes, closing, lambda wanted: {i: instruments[i] for i in wanted}, flat_days=7)
    while settle.run():
        continue
    with engine.begin() as connection:  # a stock's day was in doubt while its minutes came
        for series in market().values():
            if series.about.exchange != "binance":
                days = series.bars[Timeframe.D1].tail(5)
                own = list(_bars(ids[series.about.symbol], series, days, Timeframe.D1))
                candles.replace(connection, own, tf=Timeframe.D1, flats=False)
    with engine.begin() as connection:
        outbox.mark(connection, "indicators", spans)
    derive = Derive(engine, indicators, lambda latest: None)
    while derive.run(0).more:
        continue
