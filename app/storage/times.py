"""Points in time as the platform has them (ms since 1970) and as the database takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def utc(time_ms: int) -> datetime:
    """The point in time; one beyond what a datetime can hold becomes its first or its last."""
    try:
        return EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return _LAST if time_ms > 0 else _FIRST


class Ms(sa.types.TypeDecorator[datetime]):
    """A timestamptz whose value is given in ms, or as a datetime.

    The server reads it as a literal. `timestamptz 'epoch' + :ms * interval '1 millisecond'` is only STABLE, so that
    TimescaleDB would plan for every chunk there is.
    """

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: int | datetime | None, dialect: sa.Dialect) -> datetime | None:
        """The value as the driver takes it."""
        return value if value is None or isinstance(value, datetime) else utc(value)
