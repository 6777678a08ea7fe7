"""What `backfill` does: check the range, queue the requests, end one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from app.cache.trade_queue import BROKER_ERRORS, make_publisher
from app.cli.keeping import Arrival, admit_all
from app.cli.platform import attached_settings, database, exchange_now_us
from app.config import Settings
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.errors import BadInput, BadRange, Unavailable
from app.services.pages import newest_ms
from app.storage import backfills, catalog

TASK, QUEUE = "tasks.backfill.start", "backfill"


def parse_moment(text: str, name: str) -> int:
    """Exchange time (ms) of an ISO date or date and time, UTC where it names no zone; raises BadInput."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput(f"--{name} {text!r} is no date: write 2026-11-01 or 2026-11-01T09:30 (UTC)") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def parse_range(start: str, end: str, timeframe: str, *, now_ms: int) -> tuple[Timeframe, int, int]:
    """(timeframe, first ms, last ms exclusive), aligned to bars; raises BadRange when that holds no bar."""
    try:
        length = Timeframe(timeframe)
    except ValueError:
        known = ", ".join(tf.value for tf in Timeframe)
        raise BadInput(f"unknown timeframe {timeframe!r}; known are {known}") from None
    lo = parse_moment(start, "start")
    hi = parse_moment(end, "end") if end else now_ms
    if hi < lo:
        raise BadRange(f"the range is reversed: {start} is after {end or 'now'}")
    if lo >= now_ms:
        raise BadRange(f"the range is in the future: it starts at {start}")
    lo, hi = -(-lo // length.ms) * length.ms, length.floor(min(hi, now_ms))
    if lo >= hi:
        raise BadRange(f"the range is empty: no {length.value} bar lies between {start} and {end or 'now'}")
    return length, lo, hi


def request(
    *, symbols: Sequence[str], exchange: str, timeframe: str, start: str, end: str, keep: bool
) -> tuple[Settings, dict[int, str]]:
    """Queues a backfill for each symbol, without any for the whole watchlist (of the exchange).

    Returns the settings of the platform, and the symbol of each backfill by its id. Raises BadInput; also where the
    range begins before what is kept, unless `keep`.
    """
    settings = attached_settings()
    now_ms = exchange_now_us(settings) // 1000
    length, lo, hi = parse_range(start, end, timeframe, now_ms=now_ms)
    queued: dict[int, str] = {}
    with database(settings) as connection:
        admit_all(connection, [Arrival(f"the backfill of {', '.join(symbols) or 'all'}", length, lo)], keep=keep)
        for item in _wanted(connection, symbols, exchange):
            until = min(hi, length.floor(newest_ms(item.exchange, now_ms)))
            if until > lo:
                queued[backfills.create(connection, item.id, length, lo, until)] = item.symbol
    if not queued:
        raise BadRange(f"the range is too new: {start} is so late that the exchange may still add to its bars")
    try:
        make_publisher(settings).send_task(TASK, queue=QUEUE, retry=False, ignore_result=True)
    except BROKER_ERRORS as error:  # the rows are written: the sweep will find them
        names = ", ".join(map(str, queued))
        raise Unavailable(f"backfill {names} is noted, but the broker does not answer: {error}") from error
    return settings, queued


def end(backfill_id: int) -> None:
    """Cancels the backfill."""
    settings = attached_settings()
    with database(settings) as connection:
        ended, item = backfills.cancel(connection, backfill_id), backfills.get(connection, backfill_id)
    if item is None:
        raise BadInput(f"there is no backfill {backfill_id}: `backfill --list` shows them")
    if not ended:
        raise BadInput(f"backfill {backfill_id} is {item.state}: there is nothing to cancel")
    print(f"backfill {backfill_id} is cancelled; its {item.bars:,} bars stay")


def _wanted(connection: sa.Connection, symbols: Sequence[str], exchange: str) -> list[Instrument]:
    if symbols:
        return list({item.id: item for item in (_find(connection, one, exchange) for one in symbols)}.values())
    only = catalog.exchange_named(exchange) if exchange else None
    found = [item for item in catalog.instruments(connection, active_only=True) if only in (None, item.exchange)]
    if not found:
        raise BadInput(f"the watchlist has no symbol{f' of {exchange}' if exchange else ''}")
    return found


def _find(connection: sa.Connection, symbol: str, exchange: str) -> Instrument:
    """Without an exchange a pair is Binance's; of a stock's symbol there is one, or the exchange must be named."""
    pair = "/" in symbol or ("-" in symbol and "." not in symbol)
    return catalog.find(connection, symbol, exchange or (Exchange.BINANCE.value if pair else None))
