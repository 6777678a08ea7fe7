"""What `backfill` does: check the range, queue the requests, end one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from app.bootstrap import platform
from app.cli.keeping import say_kept
from app.cli.platform import attached_settings, database, exchange_now_us
from app.config import Settings
from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.errors import BadInput, Unavailable
from app.services.backfilling import Wish, whole_bars
from app.storage import catalog


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
    lo_ms = parse_moment(start, "start")
    hi_ms = parse_moment(end, "end") if end else None
    return length, *whole_bars(length, lo_ms, hi_ms, now_ms=now_ms, said=(start, end))


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
    wish = Wish(length, lo, hi, f"the backfill of {', '.join(symbols) or 'all'}")
    service = platform(settings, process="cli").backfilling
    with database(settings) as connection:
        found = _wanted(connection, symbols, exchange)
        queued = service.queue(connection, found, wish, now_ms=now_ms, keep=keep)
        if queued.kept:
            say_kept(queued.kept, lo)
    try:
        service.start()
    except Unavailable as error:  # the rows are written: the sweep will find them
        names = ", ".join(map(str, queued.backfills))
        raise Unavailable(f"backfill {names} is noted, but {error}") from error
    return settings, {backfill_id: item.symbol for backfill_id, item in queued.backfills.items()}


def end(backfill_id: int) -> None:
    """Cancels the backfill."""
    settings = attached_settings()
    with database(settings) as connection:
        item = platform(settings, process="cli").backfilling.cancel(connection, backfill_id)
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
