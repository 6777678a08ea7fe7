"""A migration of tests alone, in the form that runs beside a working platform: expand, and build indexes apart."""

from __future__ import annotations

from alembic import op

revision = "9001"
down_revision = "0005"
REMOVES = "what tests added"


def upgrade() -> None:
    """Adds a column that old programs do not miss, and an index that nobody waits for."""
    op.execute("ALTER TABLE candles_1m ADD COLUMN tested boolean NOT NULL DEFAULT false")
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # it waits for others, and nobody for it
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS candles_1m_tested")  # what an interrupted attempt left
        op.execute("CREATE INDEX CONCURRENTLY candles_1m_tested ON candles_1m (instrument_id) WHERE tested")


def downgrade() -> None:
    """Takes both away."""
    op.execute("ALTER TABLE candles_1m DROP COLUMN tested")
