"""Tasks of bars: a trade batch enters, minutes close."""

from __future__ import annotations

import time

from celery import current_app, shared_task
from loguru import logger

from app.domain.official import OfficialBatch
from app.domain.trades import TradeBatch
from app.errors import SourceError
from app.metrics import recorded
from app.services.clock import wall_us
from tasks.base import PlatformTask, platform

CLOSE_S = 10.0


@shared_task(name="tasks.bars.ingest", base=PlatformTask, patient=True)
def ingest(data: bytes) -> None:
    """Applies one trade batch exactly once."""
    batch = TradeBatch.decode(data)
    with logger.contextualize(batch=batch.id):
        done = platform().ingest.apply(batch)
        logger.debug("batch committed", trades=len(batch), accepted=done.accepted, known=done.known, bars=done.bars)
    _record(batch, done.accepted)


@shared_task(name="tasks.bars.official", base=PlatformTask, patient=True)
def official(data: bytes) -> None:
    """Keeps the exchange's own bars until ours are closed."""
    platform().verify.receive(OfficialBatch.decode(data))


@shared_task(name="tasks.bars.close_due", base=PlatformTask)
def close_due() -> None:
    """Closes what the feeds' clocks have passed, verifies it, and derives and publishes what follows."""
    deadline = time.monotonic() + CLOSE_S
    platform().closing.run()
    platform().verify.run()
    settled = 0
    while (done := platform().settle.run()) and time.monotonic() < deadline:
        settled += done
    if settled or done:
        current_app.send_task("tasks.indicators.derive", args=(0,), expires=30, argsrepr="shard 0")
    while platform().publish.run() and time.monotonic() < deadline:
        continue


def _record(batch: TradeBatch, accepted: int) -> None:
    """Only what is live and was not in already says something of lags; the simulated market's clock may run faster."""
    mark = batch.mark
    exchange = "none" if mark is None else mark.exchange
    queued_s = lag_s = None
    if mark is not None and mark.kind == "live" and (accepted or not len(batch)):
        queued_s = (wall_us() - batch.sent_us) / 1e6 if batch.sent_us else None
        lag_s = _lag_s(int(batch.time_us.min())) if accepted else None
    recorded.batch_committed(exchange, rows=len(batch), accepted=accepted, queued_s=queued_s, lag_s=lag_s)


def _lag_s(time_us: int) -> float | None:
    clock = platform().clock
    try:
        return (clock.now_us() - time_us) / 1e6 / clock.speed
    except SourceError:
        return None  # the simulated market is gone
