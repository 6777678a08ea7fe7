"""Tasks of upkeep: holes, missing ids, backfills that stand still, rows nobody needs."""

from __future__ import annotations

from time import monotonic

from celery import current_app, shared_task
from loguru import logger

from app.cache import health
from app.services.feed_states import replaced
from app.storage import feeds, holes, ledger, official
from tasks.base import PlatformTask, platform

SILENT_S = 600.0
LEDGERS, LEDGERS_S = 5000, 5.0  # of forgotten runs that a transaction deletes, and for how long a turn goes on
GONE_S = 600.0  # an instance not heard of for so long will not come back


@shared_task(name="tasks.upkeep.repair", base=PlatformTask)
def repair() -> None:
    """Fills holes with the exchange's own bars."""
    platform().repair.run()


@shared_task(name="tasks.upkeep.find_gaps", base=PlatformTask)
def find_gaps() -> None:
    """Finds missing trade ids and counts in those whose bars are verified."""
    platform().repair.find_gaps()


@shared_task(name="tasks.upkeep.verify", base=PlatformTask)
def verify() -> None:
    """Checks against history the closed bars that the stream said nothing of, and minutes it called quiet."""
    platform().sweep.run()


@shared_task(name="tasks.upkeep.find_outages", base=PlatformTask)
def find_outages() -> None:
    """Records the minutes of feeds that stand still as holes, while they do."""
    platform().search.outages()


@shared_task(name="tasks.upkeep.scan", base=PlatformTask)
def scan() -> None:
    """Looks for minutes that are expected and missing."""
    platform().search.scan()


@shared_task(name="tasks.upkeep.resume_backfills", base=PlatformTask)
def resume_backfills() -> None:
    """Starts backfills that wait, and those whose worker was killed."""
    for backfill_id in platform().backfill.due():
        current_app.send_task("tasks.backfill.run", args=(backfill_id,), argsrepr=f"backfill {backfill_id}")


@shared_task(name="tasks.upkeep.retain", base=PlatformTask)
def retain() -> None:
    """Deletes what is not kept any longer, a turn of some seconds at a time."""
    if platform().retention.run():
        current_app.send_task("tasks.upkeep.retain", expires=600)


@shared_task(name="tasks.upkeep.tidy", base=PlatformTask)
def tidy() -> None:
    """Ends runs that fell silent and deletes old ones; says which ledgers are in too many pieces."""
    redis = platform().redis
    health.prune(redis, older_s=GONE_S)
    health.forget(redis, *replaced(health.read(redis)))
    _forget_ledgers()
    most = platform().settings.ledger_fragments
    with platform().engine.begin() as connection:
        feeds.forget(connection, silent_s=SILENT_S)
        official.forget(connection)
        holes.forget(connection)
        shattered = [row for row in ledger.fragments(connection) if row[2] > most]
    for instrument_id, _, pieces in shattered:
        logger.warning(
            "the ledger of instrument {} is in {:,} pieces: ids of that many stretches are missing",
            instrument_id,
            pieces,
        )
        platform().publisher.count("ledger_in_pieces")


def _forget_ledgers() -> None:
    """Before the runs themselves: a run forgotten just now, though it speaks, is entered again until the next time."""
    end = monotonic() + LEDGERS_S
    found = LEDGERS
    while found == LEDGERS and monotonic() < end:
        with platform().engine.begin() as connection:
            found = ledger.forget(connection, limit=LEDGERS)
