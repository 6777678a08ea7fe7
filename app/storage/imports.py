"""What the database says of a running import: the adapter behind app.services.importing.Progress."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.errors import Unavailable
from app.storage.sql import sql
from app.storage.trouble import reason, trouble_of


class ImportProgress:
    """Asks the database how far a run has come; each question is a transaction of its own."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def import_progress(self, run: int, instrument_id: int, lo_ms: int, hi_ms: int) -> tuple[int, int, int]:
        """(batches applied, bars open in [lo, hi), outbox marks left there); raises Unavailable."""
        row = self._ask("imports", "progress", run=run, instrument_id=instrument_id, lo=lo_ms, hi=hi_ms)
        return row[0], row[1], row[2]

    def import_counts(self, run: int) -> tuple[int, int, int]:
        """(accepted, known, refused) rows of the run; raises Unavailable."""
        row = self._ask("feeds", "one", run=run)
        return row[0], row[1], row[2]

    def _ask(self, file: str, name: str, **facts: int) -> tuple[Any, ...]:
        try:
            with self._engine.begin() as connection:
                row = connection.execute(sql(file, name), facts).first()
                return (0, 0, 0) if row is None else tuple(row)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            if trouble_of(error) is None:
                raise
            raise Unavailable(f"the database cannot be reached: {reason(error)}") from error
