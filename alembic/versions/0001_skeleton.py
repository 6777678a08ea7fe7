"""The platform's relations, and the watchlist a new database starts with."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
REMOVES = "every bar, indicator, instrument and setting"  # what a downgrade takes

TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
INDICATORS = (
    *("rsi_14", "macd", "macd_signal", "macd_hist", "bb_upper", "bb_middle", "bb_lower"),
    *("sma_20", "sma_50", "sma_100", "sma_200", "ema_12", "ema_26", "ema_50"),
    *("vwap", "stoch_k", "stoch_d", "volume_sma"),
)

TABLES = """
CREATE TABLE instruments (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange text NOT NULL,
    symbol text NOT NULL,
    wire_symbol text NOT NULL,
    asset_class text NOT NULL,
    currency text NOT NULL,
    calendar text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    price_decimals smallint NOT NULL,
    added timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT instruments_exchange_symbol_key UNIQUE (exchange, symbol)
);

CREATE TABLE ledger (
    instrument_id integer,
    run bigint,
    applied int8multirange NOT NULL,
    PRIMARY KEY (instrument_id, run)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE feeds (
    run bigint PRIMARY KEY,
    exchange text NOT NULL,
    kind text NOT NULL,
    shard text NOT NULL,
    since timestamptz NOT NULL,
    clock timestamptz,
    done bigint NOT NULL DEFAULT 0,
    subscribed jsonb NOT NULL DEFAULT '{}'::jsonb,
    subscribed_n bigint NOT NULL DEFAULT 0,
    last_n bigint,
    ended boolean NOT NULL DEFAULT false,
    hi timestamptz,
    accepted bigint NOT NULL DEFAULT 0,
    known bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,
    progress timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE feed_batches (
    run bigint,
    n bigint,
    upto timestamptz NOT NULL,
    accepted bigint NOT NULL,
    known bigint NOT NULL,
    refused bigint NOT NULL,
    hi timestamptz,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, n)
);

CREATE TABLE touched (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stage text NOT NULL,
    instrument_id integer NOT NULL,
    lo timestamptz NOT NULL,
    hi timestamptz NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX touched_stage ON touched (stage, id);

CREATE TABLE official_1m (
    instrument_id integer,
    time timestamptz,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume numeric NOT NULL,
    quote_volume numeric NOT NULL,
    taker_buy_volume numeric NOT NULL,
    trade_count bigint NOT NULL,
    first_id bigint,
    last_id bigint,
    received timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, time)
);

CREATE TABLE coverage (
    instrument_id integer,
    timeframe text,
    stretches tstzmultirange NOT NULL,
    PRIMARY KEY (instrument_id, timeframe)
);

CREATE TABLE holes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument_id integer NOT NULL,
    lo timestamptz NOT NULL,
    hi timestamptz NOT NULL,
    cause text NOT NULL,
    first_id bigint,
    last_id bigint,
    found timestamptz NOT NULL DEFAULT now(),
    repaired timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    tried timestamptz,
    error text
);
CREATE INDEX holes_open ON holes (instrument_id, lo) WHERE repaired IS NULL;

CREATE TABLE backfills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument_id integer NOT NULL,
    timeframe text NOT NULL,
    lo timestamptz NOT NULL,
    hi timestamptz NOT NULL,
    cursor timestamptz NOT NULL,
    state text NOT NULL,
    bars bigint NOT NULL DEFAULT 0,
    error text,
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now()
);
"""

CANDLES = """
CREATE TABLE "candles_{tf}" (
    instrument_id integer,
    time timestamptz,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume numeric NOT NULL,
    quote_volume numeric NOT NULL,
    taker_buy_volume numeric NOT NULL,
    trade_count bigint NOT NULL,
    open_time bigint NOT NULL,
    open_seq bigint NOT NULL,
    close_time bigint NOT NULL,
    close_seq bigint NOT NULL,
    state smallint NOT NULL,
    revision integer NOT NULL DEFAULT 0,
    origin smallint NOT NULL,
    updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, time)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"""

# What a new database collects: (exchange, asset class, calendar, [(symbol, wire symbol, currency, price decimals)]).
WATCHLIST = (
    (
        "binance",
        "crypto",
        "24/7",
        [(f"{b}/USDT", f"{b}USDT", "USDT", p) for b, p in (("BTC", 2), ("ETH", 2), ("SOL", 2), ("BNB", 2), ("ADA", 4))],
    ),
    ("alpaca", "stock", "XNYS", [(s, s, "USD", 2) for s in ("AAPL", "TSLA", "NVDA", "MSFT", "GOOGL", "AMZN", "META")]),
    (
        "yahoo",
        "stock",
        "XIST",
        [(f"{s}.IS", f"{s}.IS", "TRY", 2) for s in ("THYAO", "GARAN", "ISCTR", "AKBNK", "SISE")],
    ),
)


def upgrade() -> None:
    """Makes every relation and seeds the watchlist."""
    op.execute(TABLES)
    for tf in TIMEFRAMES:
        op.execute(CANDLES.format(tf=tf))
        columns = ", ".join(f"{name} double precision" for name in INDICATORS)
        key = "instrument_id integer, time timestamptz"
        op.execute(f'CREATE TABLE "indicators_{tf}" ({key}, {columns}, PRIMARY KEY (instrument_id, time))')
    op.execute('CREATE INDEX "candles_1m_open" ON "candles_1m" (time) WHERE state = 0')
    for view in ("candles", "indicators"):
        parts = [
            f"SELECT i.exchange, i.symbol, '{tf}'::text AS timeframe, t.*"
            f' FROM "{view}_{tf}" t JOIN instruments i ON i.id = t.instrument_id'
            for tf in TIMEFRAMES
        ]
        op.execute(f"CREATE VIEW {view} AS " + " UNION ALL ".join(parts))
    insert = sa.text(
        "INSERT INTO instruments (exchange, symbol, wire_symbol, asset_class, currency, calendar, price_decimals)"
        " VALUES (:exchange, :symbol, :wire, :kind, :currency, :calendar, :places)"
    )
    for exchange, kind, calendar, rows in WATCHLIST:
        for symbol, wire, currency, places in rows:
            values = {"exchange": exchange, "symbol": symbol, "wire": wire, "kind": kind}
            op.get_bind().execute(insert, {**values, "currency": currency, "calendar": calendar, "places": places})


def downgrade() -> None:
    """Removes every relation, data included."""
    for view in ("candles", "indicators"):
        op.execute(f"DROP VIEW {view}")
        for tf in TIMEFRAMES:
            op.execute(f'DROP TABLE "{view}_{tf}"')
    for table in (
        "backfills",
        "holes",
        "coverage",
        "official_1m",
        "touched",
        "feed_batches",
        "feeds",
        "ledger",
        "instruments",
    ):
        op.execute(f"DROP TABLE {table}")
