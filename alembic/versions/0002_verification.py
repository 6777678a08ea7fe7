"""Sessions, what the exchange says of longer bars, where we differed, and how far stocks are settled."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
REMOVES = "sessions, what exchanges said of longer bars, the differences found"  # what a downgrade takes

LONGER = ("5m", "15m", "1h", "4h", "1d")

TABLES = """
ALTER TABLE official_1m ADD COLUMN revised boolean NOT NULL DEFAULT false;

CREATE TABLE official_rollups (
    instrument_id integer,
    timeframe text,
    time timestamptz,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume numeric NOT NULL,
    quote_volume numeric NOT NULL,
    taker_buy_volume numeric NOT NULL,
    trade_count bigint NOT NULL,
    received timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, timeframe, time)
);

CREATE TABLE differences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument_id integer NOT NULL,
    timeframe text NOT NULL,
    time timestamptz NOT NULL,
    source text NOT NULL,
    fields text[] NOT NULL,
    ours jsonb NOT NULL,
    theirs jsonb,
    found timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX differences_instrument ON differences (instrument_id, time);

CREATE TABLE settled (
    instrument_id integer PRIMARY KEY,
    until timestamptz NOT NULL,
    checked timestamptz
) WITH (fillfactor = 50);

CREATE TABLE sessions (
    calendar text,
    date date,
    open timestamptz NOT NULL,
    close timestamptz NOT NULL,
    PRIMARY KEY (calendar, date)
);

ALTER TABLE backfills ADD COLUMN asked_by text NOT NULL DEFAULT 'user', ADD COLUMN started timestamptz;

CREATE INDEX holes_repaired ON holes (instrument_id, cause, hi) WHERE repaired IS NOT NULL;

CREATE INDEX "candles_1m_unverified" ON "candles_1m" (time) WHERE state = 1;
"""


def _view(minutes: str) -> str:
    """The view of all bars; `minutes` narrows the 1m ones."""
    parts = [
        f"SELECT i.exchange, i.symbol, '{tf}'::text AS timeframe, t.*"
        f' FROM "candles_{tf}" t JOIN instruments i ON i.id = t.instrument_id{minutes if tf == "1m" else ""}'
        for tf in ("1m", *LONGER)
    ]
    return "CREATE OR REPLACE VIEW candles AS " + " UNION ALL ".join(parts)


def upgrade() -> None:
    """Adds what verification and sessions need."""
    op.execute(TABLES)
    # A minute of odd lots only has no price and is no bar: its open_time stands at 2^62 until it is over.
    op.execute(_view(" WHERE t.open_time < 4611686018427387904"))
    for tf in LONGER:
        op.execute(f'CREATE INDEX "candles_{tf}_open" ON "candles_{tf}" (time) WHERE state = 0')


def downgrade() -> None:
    """Takes it away again."""
    op.execute(_view(""))
    for tf in LONGER:
        op.execute(f'DROP INDEX "candles_{tf}_open"')
    op.execute('DROP INDEX "candles_1m_unverified"')
    op.execute("DROP INDEX holes_repaired")
    op.execute("ALTER TABLE backfills DROP COLUMN asked_by, DROP COLUMN started")
    for table in ("sessions", "settled", "differences", "official_rollups"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE official_1m DROP COLUMN revised")
