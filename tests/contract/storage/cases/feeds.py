"""Runs, their batches and their clocks; how far an import is."""

from __future__ import annotations

import sqlalchemy as sa

from app.domain.timeframes import MINUTE_MS
from app.domain.trades import Mark
from app.storage import feeds
from app.storage.imports import ImportProgress
from tests.contract.storage.bars import AAPL, BTC, EDGE, ETH, HAND, LIVE, NOW, OLD, SOL
from tests.contract.storage.registry import case, hours

M = MINUTE_MS


@case(feeds.open_run, feeds=(1, 2))
def open_run(c: sa.Connection) -> object:
    fresh = Mark(21, 1, LIVE * 1000, "binance", since_us=LIVE * 1000, subscribed=((BTC, 5), (ETH, 6)))
    again = Mark(11, 43, LIVE * 1000, "binance", since_us=LIVE * 1000, subscribed=((BTC, 7),), over=True)
    silent = Mark(12, 11, LIVE * 1000, "alpaca")
    stale = Mark(13, 1, LIVE * 1000, "binance", subscribed=((BTC, 7),))
    found = [feeds.open_run(c, mark) for mark in (fresh, again, silent, stale)]
    assert found == [True, True, False, False]
    return found, feeds.subscribed(c, 21), feeds.subscribed(c, 11)


@case(feeds.subscribed)
def subscribed(c: sa.Connection) -> object:
    assert feeds.subscribed(c, 12) == {AAPL: LIVE * 1000}
    return feeds.subscribed(c, 11), feeds.subscribed(c, 999)


@case(feeds.record, feed_batches=(0, 1))
def record(c: sa.Connection) -> object:
    marks = [Mark(11, n, NOW * 1000, "binance") for n in (43, 43, 42, 40)]
    found = [feeds.record(c, mark, accepted=5, known=1, refused=0, hi_ms=LIVE) for mark in marks]
    assert found == [True, False, False, False]
    return found


@case(feeds.fold, feeds=(2, 2), feed_batches=(5, 0))
def fold(c: sa.Connection) -> object:
    skipped = feeds.fold(c, wait_s=2 * 3600)
    assert [(item.run, item.first_n, item.last_n) for item in skipped] == [(12, 8, 8)]
    assert feeds.fold(c, wait_s=2 * 3600) == []
    return skipped, [run._replace(quiet_s=hours(run.quiet_s)) for run in feeds.runs(c)]


@case(feeds.fold, feeds=(1, 1), feed_batches=(3, 0))
def fold_with_patience(c: sa.Connection) -> object:
    return feeds.fold(c, wait_s=10 * 3600)


@case(feeds.runs)
def runs(c: sa.Connection) -> object:
    found = feeds.runs(c, also=[13, 999])
    assert [run.run for run in found] == [11, 12, 13, 14, 15]
    return [run._replace(quiet_s=hours(run.quiet_s)) for run in [*found, *feeds.runs(c)]]


@case(feeds.end, feeds=(1, 1))
def end(c: sa.Connection) -> None:
    feeds.end(c, 12)
    feeds.end(c, 999)


@case(feeds.forget, feeds=(3, 1), feed_batches=(1, 0))
def forget(c: sa.Connection) -> object:
    feeds.forget(c, silent_s=2 * 3600)
    left = feeds.runs(c, also=[11, 12, 13, 14, 15])
    assert [(run.run, run.ended) for run in left] == [(11, False), (12, True), (15, False)]
    return [run._replace(quiet_s=hours(run.quiet_s)) for run in left]


@case(ImportProgress.import_progress, by_engine=True)
def import_progress(engine: sa.Engine) -> object:
    found = ImportProgress(engine).import_progress(15, SOL, HAND, NOW)
    assert found == (3, 3, 1)
    return (
        found,
        ImportProgress(engine).import_progress(999, BTC, EDGE, NOW),
        ImportProgress(engine).import_progress(15, ETH, OLD, HAND),
    )


@case(ImportProgress.import_counts, by_engine=True)
def import_counts(engine: sa.Engine) -> object:
    assert ImportProgress(engine).import_counts(15) == (30, 3, 0)
    return ImportProgress(engine).import_counts(999)
