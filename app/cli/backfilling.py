"""What `backfill` does: check the range, queue the request, follow its progress."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from app.cache.trade_queue import BROKER_ERRORS, make_publisher
from app.cli.platform import attached_settings, database, exchange_now_us
from app.config import Settings
from app.domain.history import Backfill
from app.domain.instruments import Exchange
from app.domain.timeframes import Timeframe
from app.errors import BadInput, BadRange, SourceError, Unavailable
from app.storage import backfills, catalog

TASK, QUEUE = "tasks.backfill.run", "backfill"
POLL_S = 0.5


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


def request(*, symbol: str, exchange: str, timeframe: str, start: str, end: str) -> tuple[Settings, int]:
    """Queues the backfill; returns the settings of the platform and the backfill's id."""
    settings = attached_settings()
    length, lo, hi = parse_range(start, end, timeframe, now_ms=exchange_now_us(settings) // 1000)
    if catalog.exchange_named(exchange) is not Exchange.BINANCE:
        raise BadInput(f"history of {exchange} cannot be fetched yet, only of binance")
    with database(settings) as connection:
        instrument = catalog.find(connection, symbol, exchange)
        backfill_id = backfills.create(connection, instrument.id, length, lo, hi)
    try:
        make_publisher(settings).send_task(TASK, args=(backfill_id,), queue=QUEUE, retry=False, ignore_result=True)
    except BROKER_ERRORS as error:  # the row is written: the sweep will find it
        raise Unavailable(f"backfill {backfill_id} is noted, but the broker does not answer: {error}") from error
    return settings, backfill_id


def follow(settings: Settings, backfill_id: int) -> None:
    """Shows a bar until the backfill is done; raises PlatformError with its reason when it fails."""
    count = TextColumn("{task.fields[bars]:,} bars")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), count)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"backfill {backfill_id}", total=1.0, bars=0)
        while True:
            item = _read(settings, backfill_id)
            share = (item.cursor_ms - item.lo_ms) / (item.hi_ms - item.lo_ms)
            progress.update(task, completed=1.0 if item.state == "done" else share, bars=item.bars)
            if item.state not in {"waiting", "running"}:
                break
            time.sleep(POLL_S)
    if item.state != "done":
        raise SourceError(f"backfill {backfill_id} {item.state}: {item.error or 'no reason given'}")
    print(f"backfill {backfill_id} is done: {item.bars:,} bars")


def _read(settings: Settings, backfill_id: int) -> Backfill:
    with database(settings) as connection:
        item = backfills.get(connection, backfill_id)
    if item is None:
        raise BadInput(f"there is no backfill {backfill_id}")
    return item
