"""Views in which a symbol reaches the primary key; a bar's VWAP, its state and its origin by name."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
REMOVES = "no data: the columns vwap, state_name and origin_name of the view candles"  # what a downgrade takes

TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
# A minute of odd lots only has no price and is no bar: its open_time stands at 2^62 until it is over.
PRICED = " AND t.open_time < 4611686018427387904"

CANDLES = (
    *("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "trade_count"),
    *("open_time", "open_seq", "close_time", "close_seq", "state", "revision", "origin", "updated"),
)
DERIVED = """,
    (b.quote_volume / nullif(b.volume, 0))::double precision AS vwap,
    CASE b.state WHEN 0 THEN 'open' WHEN 1 THEN 'closed' WHEN 2 THEN 'verified' END AS state_name,
    CASE b.origin WHEN 0 THEN 'trades' WHEN 1 THEN 'exchange' WHEN 2 THEN 'rollup' WHEN 3 THEN 'flat' END
        AS origin_name"""
INDICATORS = (
    *("rsi_14", "macd", "macd_signal", "macd_hist", "bb_upper", "bb_middle", "bb_lower"),
    *("sma_20", "sma_50", "sma_100", "sma_200", "ema_12", "ema_26", "ema_50"),
    *("vwap", "stoch_k", "stoch_d", "volume_sma"),
)


def _by_instrument(kind: str, names: tuple[str, ...], derived: str = "") -> str:
    """The view that asks each table for the bars of one instrument after the other.

    A part with a WHERE of its own is not pulled up, so the planner cannot join a whole table, or a whole chunk, with
    the instruments: it goes from the instrument to the primary key. Bounds of time are handed down all the same.
    """
    parts = [
        f"SELECT '{tf}'::text AS timeframe, t.time, {', '.join(f't.{name}' for name in names)}"
        f' FROM "{kind}_{tf}" t WHERE t.instrument_id = i.id{PRICED if (kind, tf) == ("candles", "1m") else ""}'
        for tf in TIMEFRAMES
    ]
    return (
        f"CREATE OR REPLACE VIEW {kind} AS SELECT i.exchange, i.symbol, b.timeframe, i.id AS instrument_id, b.time,"
        f" {', '.join(f'b.{name}' for name in names)}{derived}"
        f" FROM instruments i CROSS JOIN LATERAL ({' UNION ALL '.join(parts)}) b"
    )


def _joined(kind: str) -> str:
    """The view as it was: each table joined with the instruments."""
    parts = [
        f"SELECT i.exchange, i.symbol, '{tf}'::text AS timeframe, t.*"
        f' FROM "{kind}_{tf}" t JOIN instruments i ON i.id = t.instrument_id'
        + (PRICED.replace(" AND", " WHERE") if (kind, tf) == ("candles", "1m") else "")
        for tf in TIMEFRAMES
    ]
    return f"CREATE OR REPLACE VIEW {kind} AS " + " UNION ALL ".join(parts)


def upgrade() -> None:
    """Replaces both views; who may read them still may."""
    op.execute(_by_instrument("candles", CANDLES, DERIVED))
    op.execute(_by_instrument("indicators", INDICATORS))


def downgrade() -> None:
    """Puts the old ones back; columns cannot be taken from a view, so `candles` is made anew."""
    op.execute("DROP VIEW candles")
    op.execute(_joined("candles"))
    op.execute(_joined("indicators"))
