"""The tables, declared once; one declaration makes the six tables of a kind (DESIGN.md section 4)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, INT8MULTIRANGE, JSONB, TIMESTAMP, TSTZMULTIRANGE

from app.domain.indicator_names import INDICATORS
from app.domain.timeframes import Timeframe

metadata = sa.MetaData()

Time = TIMESTAMP(timezone=True)


def _now() -> sa.TextClause:
    return sa.text("now()")


instruments = sa.Table(
    "instruments",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("exchange", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("wire_symbol", sa.Text, nullable=False),
    sa.Column("asset_class", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("calendar", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("price_decimals", sa.SmallInteger, nullable=False),
    sa.Column("added", Time, nullable=False, server_default=_now()),
    sa.UniqueConstraint("exchange", "symbol", name="instruments_exchange_symbol_key"),
)


def candles_table(tf: Timeframe) -> sa.Table:
    """`candles_<tf>`: one bar a row; sums exact, (open_time, open_seq) the first trade, (close_time, …) the last.

    Plain integers in place of a foreign key: a bar is written a thousand times as often as an instrument changes.
    """
    price, count = DOUBLE_PRECISION, sa.BigInteger
    name = f"candles_{tf.value}"
    table = sa.Table(
        name,
        metadata,
        sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", Time, primary_key=True),
        *(sa.Column(column, price, nullable=False) for column in ("open", "high", "low", "close")),
        *(sa.Column(column, sa.Numeric, nullable=False) for column in ("volume", "quote_volume", "taker_buy_volume")),
        *(
            sa.Column(c, count, nullable=False)
            for c in ("trade_count", "open_time", "open_seq", "close_time", "close_seq")
        ),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("origin", sa.SmallInteger, nullable=False),
        sa.Column("updated", Time, nullable=False, server_default=_now()),
        postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
    )
    sa.Index(f"{name}_open", table.c.time, postgresql_where=sa.text("state = 0"))
    if tf is Timeframe.M1:
        sa.Index(f"{name}_unverified", table.c.time, postgresql_where=sa.text("state = 1"))
    return table


def indicators_table(tf: Timeframe) -> sa.Table:
    """`indicators_<tf>`: the indicator values of a bar, null until there are enough bars."""
    return sa.Table(
        f"indicators_{tf.value}",
        metadata,
        sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", Time, primary_key=True),
        *(sa.Column(name, DOUBLE_PRECISION) for name in INDICATORS),
    )


CANDLES = {tf: candles_table(tf) for tf in Timeframe}
INDICATOR_TABLES = {tf: indicators_table(tf) for tf in Timeframe}

# Which trade ids of a stream are in its bars. run is 0 where the exchange numbers its trades without gaps.
ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("applied", INT8MULTIRANGE, nullable=False),
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
)

# One row a run: a connection of a streamer, or an import. `clock` is the exchange time up to which all is committed.
feeds = sa.Table(
    "feeds",
    metadata,
    sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("exchange", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("shard", sa.Text, nullable=False),
    sa.Column("since", Time, nullable=False),
    sa.Column("clock", Time),
    sa.Column("done", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("subscribed", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("subscribed_n", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("last_n", sa.BigInteger),  # the number of the batch that said `over`
    sa.Column("ended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("hi", Time),  # start of the newest minute an import has brought
    sa.Column("accepted", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("known", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("refused", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("progress", Time, nullable=False, server_default=_now()),  # wall time `done` or the clock last moved
)

feed_batches = sa.Table(
    "feed_batches",
    metadata,
    sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("upto", Time, nullable=False),
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("known", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("hi", Time),
    sa.Column("at", Time, nullable=False, server_default=_now()),
)

# The outbox: what has to be derived again, written in the transaction of its cause. Append only.
touched = sa.Table(
    "touched",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("instrument_id", sa.Integer, nullable=False),
    sa.Column("lo", Time, nullable=False),
    sa.Column("hi", Time, nullable=False),
    sa.Column("at", Time, nullable=False, server_default=_now()),
    sa.Index("touched_stage", "stage", "id"),
)

# The exchange's own 1m bars, kept aside until ours is closed and can be compared.
official_1m = sa.Table(
    "official_1m",
    metadata,
    sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", Time, primary_key=True),
    *(sa.Column(column, DOUBLE_PRECISION, nullable=False) for column in ("open", "high", "low", "close")),
    *(sa.Column(column, sa.Numeric, nullable=False) for column in ("volume", "quote_volume", "taker_buy_volume")),
    sa.Column("trade_count", sa.BigInteger, nullable=False),
    sa.Column("first_id", sa.BigInteger),
    sa.Column("last_id", sa.BigInteger),
    sa.Column("received", Time, nullable=False, server_default=_now()),
    sa.Column("revised", sa.Boolean, nullable=False, server_default=sa.false()),
)

# The exchange's own bars of longer timeframes, kept until ours is verified: they check the roll-ups.
official_rollups = sa.Table(
    "official_rollups",
    metadata,
    sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("timeframe", sa.Text, primary_key=True),
    sa.Column("time", Time, primary_key=True),
    *(sa.Column(column, DOUBLE_PRECISION, nullable=False) for column in ("open", "high", "low", "close")),
    *(sa.Column(column, sa.Numeric, nullable=False) for column in ("volume", "quote_volume", "taker_buy_volume")),
    sa.Column("trade_count", sa.BigInteger, nullable=False),
    sa.Column("received", Time, nullable=False, server_default=_now()),
)

# Where our bar and the exchange's own disagreed, and what both said.
differences = sa.Table(
    "differences",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("instrument_id", sa.Integer, nullable=False),
    sa.Column("timeframe", sa.Text, nullable=False),
    sa.Column("time", Time, nullable=False),
    sa.Column("source", sa.Text, nullable=False),  # stream, updated, history
    sa.Column("fields", sa.ARRAY(sa.Text), nullable=False),
    sa.Column("ours", JSONB, nullable=False),
    sa.Column("theirs", JSONB(none_as_null=True)),  # null where the exchange has no bar
    sa.Column("found", Time, nullable=False, server_default=_now()),
    sa.Index("differences_instrument", "instrument_id", "time"),
)

# Up to where an instrument's bars are known to be all there are, on exchanges without flat bars.
settled = sa.Table(
    "settled",
    metadata,
    sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("until", Time, nullable=False),
    sa.Column("checked", Time),  # up to where history agreed that quiet minutes were quiet
)

# Trading sessions by calendar, as exchange_calendars knows them: what expected minutes are.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("calendar", sa.Text, primary_key=True),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("open", Time, nullable=False),
    sa.Column("close", Time, nullable=False),
)

# The stretches we claim to hold; holes are looked for only inside them.
coverage = sa.Table(
    "coverage",
    metadata,
    sa.Column("instrument_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("timeframe", sa.Text, primary_key=True),
    sa.Column("stretches", TSTZMULTIRANGE, nullable=False),
)

holes = sa.Table(
    "holes",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("instrument_id", sa.Integer, nullable=False),
    sa.Column("lo", Time, nullable=False),
    sa.Column("hi", Time, nullable=False),  # exclusive
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("first_id", sa.BigInteger),  # missing ids [first_id, last_id], where they are known
    sa.Column("last_id", sa.BigInteger),
    sa.Column("found", Time, nullable=False, server_default=_now()),
    sa.Column("repaired", Time),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("tried", Time),
    sa.Column("error", sa.Text),
    sa.Index("holes_open", "instrument_id", "lo", postgresql_where=sa.text("repaired IS NULL")),
    sa.Index("holes_repaired", "instrument_id", "cause", "hi", postgresql_where=sa.text("repaired IS NOT NULL")),
)

backfills = sa.Table(
    "backfills",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("instrument_id", sa.Integer, nullable=False),
    sa.Column("timeframe", sa.Text, nullable=False),
    sa.Column("lo", Time, nullable=False),
    sa.Column("hi", Time, nullable=False),  # exclusive
    sa.Column("cursor", Time, nullable=False),  # everything before it is stored
    sa.Column("state", sa.Text, nullable=False),  # waiting, running, done, failed, cancelled
    sa.Column("bars", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("error", sa.Text),
    sa.Column("asked_by", sa.Text, nullable=False, server_default="user"),  # user, start, daily
    sa.Column("started", Time),
    sa.Column("created", Time, nullable=False, server_default=_now()),
    sa.Column("updated", Time, nullable=False, server_default=_now()),
    sa.Column("not_before", Time),  # nobody takes it up before: it waits for its source, or a worker has it
    sa.Column("empty_to", Time),  # the source has nothing in [lo, empty_to)
)

# How long the bars of a timeframe are kept; what was asked to be kept beyond it stays (`kept_from`).
retention = sa.Table(
    "retention",
    metadata,
    sa.Column("timeframe", sa.Text, primary_key=True),
    sa.Column("keep_days", sa.Integer),  # null: for ever
    sa.Column("kept_from", Time),
)
