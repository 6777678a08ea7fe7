"""The exchange's own bars until ours are closed, and what became of the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from app.domain.bars import Bar
from app.domain.official import OfficialBar
from app.domain.timeframes import Timeframe
from app.domain.verification import Difference
from app.storage import candles
from app.storage.arrays import literal
from app.storage.candles import as_bar
from app.storage.keys import Key, locked, unlocked
from app.storage.sql import sql
from app.storage.tables import differences as table


def put(connection: sa.Connection, bars: Iterable[OfficialBar]) -> None:
    """Keeps the exchange's bars; of several words on one bar the last revised one, else the last."""
    minutes: dict[Key, OfficialBar] = {}
    longer: dict[tuple[int, str, int], OfficialBar] = {}
    for bar in bars:
        if bar.timeframe is not Timeframe.M1:
            longer[bar.instrument_id, bar.timeframe.value, bar.time_ms] = bar
            continue
        known = minutes.get((bar.instrument_id, bar.time_ms))
        if known is None or bar.revised or not known.revised:
            minutes[bar.instrument_id, bar.time_ms] = bar
    if minutes:
        connection.execute(sql("official", "put"), _columns(list(minutes.values()), _MINUTE))
    if longer:
        connection.execute(sql("official", "put_rollups"), _columns(list(longer.values()), _LONGER))


def closed(connection: sa.Connection, *, patience_s: float, limit: int) -> list[Bar]:
    """Our bars that can be compared now, locked: closed ones, and any whose official bar waits over `patience_s`."""
    found: list[Bar] = []
    for lo, hi in connection.execute(sql("official", "days")).all():
        values = {"lo": lo, "hi": hi, "patience": patience_s, "limit": limit - len(found)}
        rows = locked(connection, sql("official", "closed"), values)
        if rows is None:
            rows = connection.execute(unlocked(sql("official", "closed")), values).all()
            found += candles.hold(connection, [(row[0], row[1]) for row in rows])
        else:
            found += map(as_bar, rows)
    return found


def absent(connection: sa.Connection, edges: Mapping[int, int], *, patience_s: float, limit: int) -> list[Key]:
    """The bars of the exchange that we have nothing for though the instrument's clock (id → ms) has passed them."""
    values = {"instruments": literal(edges), "highs": literal(edges.values()), "patience": patience_s}
    found: list[Key] = []
    for lo, hi in connection.execute(sql("official", "days")).all():
        bounds = {"lo": lo, "hi": hi, "limit": limit - len(found)}
        found += [(row[0], row[1]) for row in connection.execute(sql("official", "absent"), {**values, **bounds})]
    return found


def get(connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, OfficialBar]:
    """What the exchange said of these 1m bars."""
    found: dict[Key, OfficialBar] = {}
    for row in connection.execute(sql("official", "get"), _keys(keys)) if keys else ():
        found[row[0], row[2]] = OfficialBar(row[0], Timeframe.M1, *row[2:])
    return found


def done(connection: sa.Connection, keys: Sequence[Key]) -> None:
    """Forgets official bars that were compared."""
    if keys:
        connection.execute(sql("official", "done"), _keys(keys))


def rollups(connection: sa.Connection, tf: Timeframe, *, limit: int) -> list[OfficialBar]:
    """The exchange's bars of a longer timeframe whose counterparts of ours are verified."""
    lo, hi = connection.execute(sql("official", "rollup_bounds", tf)).one()
    if lo is None:
        return []
    rows = connection.execute(sql("official", "rollups", tf), {"lo": lo, "hi": hi, "limit": limit})
    return [OfficialBar(row[0], Timeframe(row[1]), *row[2:]) for row in rows]


def rollups_done(connection: sa.Connection, tf: Timeframe, keys: Sequence[Key]) -> None:
    """Forgets official bars of a longer timeframe that were compared."""
    if keys:
        connection.execute(sql("official", "rollups_done", tf), _keys(keys))


def note(connection: sa.Connection, differences: Iterable[Difference], source: str) -> None:
    """Keeps differences where one can look them up; `source` is stream, updated or history."""
    rows = [
        {
            "instrument_id": item.instrument_id,
            "timeframe": item.timeframe.value,
            "time": datetime.fromtimestamp(item.time_ms / 1000, UTC),
            "source": source,
            "fields": list(item.fields),
            "ours": item.ours,
            "theirs": item.theirs,
        }
        for item in differences
    ]
    if rows:
        connection.execute(sa.insert(table), rows)


def unverified(
    connection: sa.Connection, *, lo_ms: int, hi_ms: int, quiet_s: float, resting: Iterable[int], limit: int
) -> list[tuple[int, int, int]]:
    """(instrument, first ms, last ms) of closed 1m bars of [lo, hi) nobody has verified or written for `quiet_s`."""
    values = {"lo": lo_ms, "hi": hi_ms, "quiet": quiet_s, "resting": literal(resting), "limit": limit}
    return [(row[0], row[1], row[2]) for row in connection.execute(sql("official", "unverified"), values)]


def unchecked(
    connection: sa.Connection, exchanges: Iterable[str], *, every_s: float, resting: Iterable[int], limit: int
) -> list[tuple[int, int, int]]:
    """(instrument, from, until ms) whose quiet minutes history was not asked about for `every_s` of exchange time."""
    values = {"exchanges": list(exchanges), "every": every_s, "resting": list(resting), "limit": limit}
    return [(row[0], row[1], row[2]) for row in connection.execute(sql("official", "unchecked"), values)]


def checked(connection: sa.Connection, instrument_id: int, until_ms: int) -> None:
    """History has confirmed an instrument's quiet minutes up to `until_ms`."""
    connection.execute(sql("official", "checked"), {"instrument_id": instrument_id, "checked": until_ms})


def forget(connection: sa.Connection) -> None:
    """Deletes what nobody asked for in a day, and differences older than 90 days."""
    for block in ("forget", "forget_rollups", "forget_differences"):
        connection.execute(sql("official", block))


_SUMS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "trade_count")
_MINUTE = (*_SUMS, "first_id", "last_id", "revised")
_LONGER = (*_SUMS, "timeframe")


def _columns(bars: Sequence[OfficialBar], names: Sequence[str]) -> dict[str, str]:
    ordered = sorted(bars, key=lambda bar: (bar.instrument_id, bar.time_ms))
    columns = {name: literal(getattr(bar, name) for bar in ordered) for name in names}
    return {
        **columns,
        "instrument_id": literal(bar.instrument_id for bar in ordered),
        "time": literal(bar.time_ms for bar in ordered),
    }


def _keys(keys: Sequence[Key]) -> dict[str, str]:
    ordered = sorted(keys)
    return {"instrument_id": literal(key[0] for key in ordered), "time": literal(key[1] for key in ordered)}
