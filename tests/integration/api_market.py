"""The API on real servers with something of everything stored, so that each answer has all it can have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
import redis
import sqlalchemy as sa
from flask import Flask
from pydantic import SecretStr

from app.cache import health, keys
from app.config import Settings
from app.domain.bars import State
from app.domain.instruments import Exchange
from app.domain.listing import Listing, unasked
from app.domain.timeframes import MINUTE_MS, Timeframe
from app.domain.verification import Difference
from app.errors import Forbidden, SourceAway, UnknownInstrument
from app.storage import catalog, official
from tests.integration.web_data import START_MS, bar, store, store_indicators, utc, wipe
from webapp import create_app

TOKEN = "a-token-of-these-tests"  # of those who may write
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
BARS = 40
NOW_MS = START_MS + BARS * MINUTE_MS


def listed(exchange: Exchange, symbol: str) -> Listing:
    """Exchanges that list most symbols, refuse some, and cannot be asked about others."""
    match symbol.partition("/")[0]:
        case "GONE":
            raise UnknownInstrument(f"unknown symbol {symbol!r}: {exchange.value} lists no {symbol} (Invalid symbol)")
        case "AWAY":
            raise SourceAway(f"{exchange.value} does not answer (ConnectionError)")
        case "KEYLESS":
            raise Forbidden("Alpaca needs a key: set ALPACA_API_KEY and ALPACA_SECRET_KEY (alpaca.markets)")
        case "HALTED":
            return Listing(exchange, symbol, "USD", "XNYS", 2, "inactive")
    known = unasked(exchange, symbol)
    return Listing(exchange, symbol, known.currency, known.calendar, 4)


def fill(engine: sa.Engine, client: redis.Redis) -> None:
    """Bars of a coin and of a delayed stock, indicators, holes, differences, quotes, a halt, heartbeats, counters."""
    wipe(engine)
    with engine.begin() as conn:
        conn.execute(sa.text("TRUNCATE holes, differences"))
        btc, thyao = catalog.find(conn, "BTC/USDT", "binance"), catalog.find(conn, "THYAO.IS", "yahoo")
    for item in (btc, thyao):
        store(engine, [bar(item.id, START_MS + i * MINUTE_MS, state=State.VERIFIED) for i in range(BARS - 1)])
        store(engine, [bar(item.id, NOW_MS - MINUTE_MS, state=State.OPEN)])
        m5 = Timeframe.M5
        store(engine, [bar(item.id, START_MS + i * m5.ms, minutes=5) for i in range(BARS // 5 - 1)], tf=m5)
    values = {START_MS + i * MINUTE_MS: {"rsi_14": 40.5 + i, "sma_20": 101.25} for i in range(BARS - 1)}
    store_indicators(engine, btc.id, values)
    insert = (
        "INSERT INTO holes (instrument_id, lo, hi, cause, found, repaired, attempts, tried, error, first_id, last_id)"
        " VALUES (:i, :lo, :hi, :cause, :hi, :repaired, :attempts, :tried, :error, :first, :last)"
    )
    lo, hi = utc(START_MS + 3 * MINUTE_MS), utc(START_MS + 5 * MINUTE_MS)
    one = {"i": btc.id, "lo": lo, "hi": hi, "cause": "feed down", "attempts": 2, "error": "429", "tried": hi}
    two = {"i": btc.id, "lo": hi, "hi": utc(START_MS + 6 * MINUTE_MS), "cause": "missing trades", "attempts": 0}
    with engine.begin() as conn:
        conn.execute(sa.text(insert), one | {"repaired": None, "first": None, "last": None})
        conn.execute(sa.text(insert), two | {"repaired": hi, "tried": None, "error": None, "first": 7, "last": 9})
        official.note(
            conn,
            [
                Difference(btc.id, Timeframe.M1, START_MS, ("close",), {"close": "1"}, {"close": "2"}),
                Difference(btc.id, Timeframe.M1, START_MS + MINUTE_MS, ("missing",), {"close": "1"}, None),
            ],
            "history",
        )
    book = {"bid": 189.2, "bid_size": 3, "ask": 189.24, "ask_size": 1, "time": NOW_MS}
    client.hset(keys.BOOK, "alpaca:AAPL", orjson.dumps(book))
    client.hset(keys.HALTS, "alpaca:TSLA", orjson.dumps({"code": "T1", "reason": "News pending", "time": NOW_MS}))
    client.hset(keys.QUOTES, "binance:BTC/USDT", orjson.dumps({"price": 101.5, "time": NOW_MS}))
    beat = {"exchange": "binance", "feed": "connected", "since": START_MS, "at": NOW_MS, "lag_ms": 12}
    health.beat(client, "streamer-binance", beat)
    health.count(client, "repaired_bars", 3)


@contextmanager
def api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application at NOW_MS; no exchange is asked for anything."""
    monkeypatch.setattr("webapp.listings.look", listed)
    monkeypatch.setattr("webapp.composition.exchange_ms", lambda _: NOW_MS)
    doors = {"api_token": SecretStr(TOKEN), "rate_limit_reads": "off", "rate_limit_writes": "off"}
    app = create_app(settings.model_copy(update=doors))
    yield app
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()
