"""Coverage and holes: the stretches we claim to hold, and what is missing inside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from app.domain.history import RECHECKS, Hole
from app.domain.timeframes import DAY_MS, MINUTE_MS, Timeframe
from app.storage import settled
from app.storage.arrays import literal
from app.storage.candles import FIRST_MS, LAST_MS
from app.storage.sql import sql
from app.storage.times import utc

RECENT_MS = 7 * DAY_MS


def cover(
    connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int | None, *, tf: Timeframe = Timeframe.M1
) -> None:
    """Claims [lo, hi) as held; hi None is open into the future."""
    values = {"instrument_id": instrument_id, "timeframe": tf.value, "lo": lo_ms, "hi": hi_ms}
    connection.execute(sql("holes", "cover"), values)


def covered(
    connection: sa.Connection, instrument_id: int, *, tf: Timeframe = Timeframe.M1
) -> list[tuple[int, int | None]]:
    """The stretches [lo, hi) held, oldest first; the last may be open."""
    values = {"instrument_id": instrument_id, "timeframe": tf.value}
    return [(row[0], row[1]) for row in connection.execute(sql("holes", "covered"), values)]


def live_since(connection: sa.Connection, instruments: Iterable[int]) -> dict[int, int]:
    """Instrument id → start (ms) of the stretch that is claimed into the future; one without is left out."""
    rows = connection.execute(sql("holes", "live_since"), {"instruments": literal(instruments)})
    return {row[0]: row[1] for row in rows}


def cover_live(connection: sa.Connection, since: Mapping[int, int]) -> None:
    """Claims everything from each instrument's time (ms) on."""
    if since:
        values = {"instruments": literal(since), "since": literal(since.values())}
        connection.execute(sql("holes", "cover_live"), values)


def last_known(connection: sa.Connection, before: Mapping[int, int]) -> dict[int, int]:
    """Instrument id → time (ms) up to which nothing was in doubt before the given time; one without is left out.

    The start of its newest stored 1m bar, or where a stock was known to be complete if that is later.
    """
    if not before:
        return {}
    known: dict[int, int] = {}
    for lo_ms in (max(before.values()) - RECENT_MS, 0):  # what lies farther back is looked for when it has to be
        rest = {i: time_ms for i, time_ms in before.items() if i not in known}
        if rest:
            columns = {"instruments": literal(rest), "before": literal(rest.values())}
            bounds = {"lo": lo_ms, "hi": max(rest.values())}
            rows = connection.execute(sql("holes", "last_known"), {**columns, **bounds})
            known |= {row[0]: row[1] for row in rows}
    for instrument_id, until_ms in settled.until(connection, before).items():
        until_ms = min(until_ms, before[instrument_id])
        known[instrument_id] = max(known.get(instrument_id, until_ms), until_ms)
    return known


def record_all(
    connection: sa.Connection, stretches: Sequence[tuple[int, int, int]], cause: str, *, again: bool = False
) -> None:
    """Records the holes (instrument id, lo, hi) that no open hole holds already; with `again` those, too."""
    if stretches:
        columns = dict(zip(("instruments", "lows", "highs"), map(literal, zip(*stretches, strict=True)), strict=True))
        connection.execute(sql("holes", "record_all"), {**columns, "cause": cause, "again": again})


def extend_all(connection: sa.Connection, stretches: Sequence[tuple[int, int, int]], cause: str) -> int:
    """Lets the open hole of that cause that touches (instrument id, lo, hi) reach up to hi, or records a new one.

    What a hole of the same cause held and was repaired is not in doubt again. Returns how many grew or are new.
    """
    if not stretches:
        return 0
    columns = dict(zip(("instruments", "lows", "highs"), map(literal, zip(*stretches, strict=True)), strict=True))
    grown = connection.execute(sql("holes", "grow"), {**columns, "cause": cause}).rowcount
    return grown + connection.execute(sql("holes", "start"), {**columns, "cause": cause}).rowcount


def record(
    connection: sa.Connection,
    instrument_id: int,
    lo_ms: int,
    hi_ms: int,
    cause: str,
    *,
    ids: tuple[int, int] | None = None,
) -> bool:
    """Records the hole [lo, hi), `ids` its missing (first, last); False where an open hole holds it already."""
    values = {
        "instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms, "cause": cause,
        "first_id": ids[0] if ids else None, "last_id": ids[1] if ids else None,
    }  # fmt: skip
    return connection.execute(sql("holes", "record"), values).rowcount > 0


def open_holes(
    connection: sa.Connection,
    *,
    due_only: bool = True,
    before_ms: int | None = None,
    resting: Iterable[str] = (),
    limit: int = 200,
) -> list[Hole]:
    """The holes not repaired yet: each instrument's longest waiting, then each one's next.

    Only those that end by `before_ms` where it is given, and none of the exchanges `resting`. `due_only` leaves out
    those whose last attempt is too fresh.
    """
    values = {"all": not due_only, "before": before_ms, "resting": list(resting), "limit": limit}
    return [Hole(*row) for row in connection.execute(sql("holes", "open"), values)]


def repaired(connection: sa.Connection, ends: Mapping[int, int]) -> int:
    """Closes holes, each by its id, if they end by the time (ms) up to which they were looked at; returns how many."""
    values = {"ids": literal(ends), "ends": literal(ends.values())}
    return connection.execute(sql("holes", "repaired"), values).rowcount


def given_up(connection: sa.Connection, ids: Sequence[int], reason: str) -> None:
    """Closes holes that nothing can fill, with the reason as their error."""
    connection.execute(sql("holes", "given_up"), {"ids": list(ids), "reason": reason})


def shrink(connection: sa.Connection, ids: Sequence[int], lo_ms: int) -> None:
    """Moves the start of holes that were repaired up to `lo_ms`."""
    connection.execute(sql("holes", "shrink"), {"ids": list(ids), "lo": lo_ms})


def bridge(connection: sa.Connection, exchanges: Sequence[str]) -> int:
    """Closes holes of connections that took over from one still receiving; returns how many.

    `exchanges` are those whose trade ids have no gaps.
    """
    return connection.execute(sql("holes", "bridge"), {"exchanges": list(exchanges)}).rowcount


def failed(connection: sa.Connection, ids: Sequence[int], error: str) -> None:
    """Notes a failed attempt and its reason."""
    connection.execute(sql("holes", "failed"), {"ids": list(ids), "error": error})


def around_gap(connection: sa.Connection, instrument_id: int, first: int, end: int) -> tuple[int | None, int | None]:
    """The minutes (ms) of the bars on either side of the missing ids [first, end)."""
    values = {"instrument_id": instrument_id, "first": first, "end": end}
    lo_ms, hi_ms = connection.execute(sql("holes", "hours_around_gap"), values).one()
    for bounds in ({"lo": lo_ms or FIRST_MS, "hi": hi_ms or LAST_MS}, {"lo": FIRST_MS, "hi": LAST_MS}):
        row = connection.execute(sql("holes", "around_gap"), {**values, **bounds}).one()
        if row[0] is not None and (row[1] is not None or hi_ms is None):
            break
    return row[0], row[1]


def unverified(connection: sa.Connection, instrument_id: int, lo_ms: int, hi_ms: int) -> int:
    """How many minutes of [lo, hi) are not stored as verified."""
    values = {"instrument_id": instrument_id, "lo": lo_ms, "hi": hi_ms}
    return int(connection.execute(sql("holes", "unverified"), values).scalar_one())


def standing(connection: sa.Connection, *, still_s: float) -> list[tuple[int, int]]:
    """(instrument id, exchange ms of its newest committed time) of those that no live run has moved for `still_s`.

    Only instruments that are active and claimed into the future; one no run was ever heard of has its newest bar's.
    """
    found = {row[0]: row[1] for row in connection.execute(sql("holes", "standing"), {"still": still_s})}
    if unheard := [instrument_id for instrument_id, time_ms in found.items() if time_ms is None]:
        rows = connection.execute(sql("holes", "newest"), {"instruments": literal(unheard)})
        found |= {row[0]: row[1] + MINUTE_MS for row in rows}
    return [(instrument_id, time_ms) for instrument_id, time_ms in found.items() if time_ms is not None]


def missing_minutes(
    connection: sa.Connection, instruments: Iterable[int], lo_ms: int, hi_ms: int, *, limit: int = 1000
) -> list[tuple[int, int, int]]:
    """Stretches (instrument id, lo, hi) without bars between stored ones that coverage claims and nobody looked at.

    A stretch inside an open hole, or inside one repaired within a day, is known: the exchange has nothing there.
    """
    values = {"instruments": literal(instruments), "lo": lo_ms, "hi": hi_ms, "limit": limit}
    return [(row[0], row[1], row[2]) for row in connection.execute(sql("holes", "missing_minutes"), values)]


def empty_windows(
    connection: sa.Connection, instrument_id: int, windows: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """Those of the windows [lo, hi) that coverage claims, that hold no 1m bar at all, and that nobody looked at."""
    if not windows:
        return []
    columns = dict(zip(("lows", "highs"), map(literal, zip(*windows, strict=True)), strict=True))
    values = {
        **columns,
        "instrument_id": instrument_id,
        "lo": min(w[0] for w in windows),
        "hi": max(w[1] for w in windows),
    }
    return [(instrument_id, row[0], row[1]) for row in connection.execute(sql("holes", "empty_windows"), values)]


def doubted(connection: sa.Connection, minutes: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the minutes (instrument id, ms) that an open hole holds: what stands there is no claim of ours."""
    keys = sorted(minutes)
    if not keys:
        return set()
    values = {
        "instrument_id": literal(key[0] for key in keys), "time": literal(key[1] for key in keys),
        "rechecks": list(RECHECKS),
    }  # fmt: skip
    return {(row[0], row[1]) for row in connection.execute(sql("holes", "doubted"), values)}


def forget(connection: sa.Connection) -> None:
    """Deletes holes that were repaired a month ago."""
    connection.execute(sql("holes", "forget"))


def let_go(connection: sa.Connection, before_ms: int) -> None:
    """Forgets open holes before a time, and of one that spans it what lies before."""
    connection.execute(sql("retention", "let_go_holes"), {"cutoff": utc(before_ms)})


def held_ids(connection: sa.Connection) -> dict[int, list[tuple[int, int]]]:
    """Instrument id → the missing trade ids (first, last) that its open holes hold."""
    found: dict[int, list[tuple[int, int]]] = {}
    for instrument_id, first, last in connection.execute(sql("holes", "held_ids")):
        found.setdefault(instrument_id, []).append((first, last))
    return found


def exclusive(connection: sa.Connection, key: int) -> bool:
    """Takes an advisory lock until the transaction ends; False where somebody else has it."""
    return bool(connection.execute(sql("holes", "lock"), {"key": key}).scalar())
