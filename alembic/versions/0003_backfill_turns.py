"""When a backfill may be taken up, and from when on its source had data."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
REMOVES = "where waiting backfills stand"  # what a downgrade takes


def upgrade() -> None:
    """Adds both moments."""
    op.execute("ALTER TABLE backfills ADD COLUMN not_before timestamptz, ADD COLUMN empty_to timestamptz")


def downgrade() -> None:
    """Takes them away again."""
    op.execute("ALTER TABLE backfills DROP COLUMN not_before, DROP COLUMN empty_to")
