"""How long bars are kept, the hours of data quality; hypertables where TimescaleDB is at hand."""

from __future__ import annotations

from alembic import context, op
from app.storage import timescale
from app.storage.sql import sql

revision = "0004"
down_revision = "0003"
REMOVES = "how long bars are kept; hypertables become plain tables, their bars stay"  # what a downgrade takes

TABLES = """
CREATE TABLE retention (
    timeframe text PRIMARY KEY,
    keep_days integer,
    kept_from timestamptz
)
"""


def upgrade() -> None:
    """Adds them; `python -m app db timescale` converts a database that gains the extension later."""
    op.execute(TABLES)
    op.execute(sql("timescale", "plain_quality"))
    if reason := timescale.adopt(op.get_bind()):
        context.config.attributes["notes"].append(f"the tables stay plain: {reason}")


def downgrade() -> None:
    """Takes them away again; bars stay, in plain tables."""
    if timescale.converted(op.get_bind()):
        timescale.revert(op.get_bind())
    op.execute("DROP VIEW quality_1h")
    op.execute("DROP TABLE retention")
