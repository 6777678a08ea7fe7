"""The workers' queues, as those who ask for work see them: Celery messages to `tasks.bars`, trades by shard."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future

from amqp.exceptions import AMQPError, NotFound
from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from app.cache.broker import CONFIRM_S, publisher_conf
from app.config import Settings
from app.domain import summaries
from app.domain.instruments import Instrument
from app.domain.official import OfficialBatch
from app.domain.trades import TradeBatch
from app.errors import Unavailable

TASK = "tasks.bars.ingest"
OFFICIAL_TASK, OFFICIAL_QUEUE = "tasks.bars.official", "bars"
BACKFILL_TASK, BACKFILL_QUEUE = "tasks.backfill.start", "backfill"
BROKER_ERRORS = (OperationalError, RedisError, AMQPError, OSError)
PUBLISH = {"retry": False, "ignore_result": True, "confirm_timeout": CONFIRM_S}
HINT_S = 3.0  # a busy machine takes over one second; one that takes longer is of no use to whoever asked


def queue_name(shard: int) -> str:
    """The queue of the workers of `shard`."""
    return f"trades.{shard}"


def make_publisher(settings: Settings) -> Celery:
    """A Celery client that only publishes: it knows no task and keeps no result."""
    client = Celery("publisher", set_as_current=False)
    client.conf.update(
        task_serializer="msgpack",
        accept_content=["msgpack", "json"],
        task_ignore_result=True,
        task_send_sent_event=True,  # Flower shows the queue
        broker_connection_retry_on_startup=False,
        **publisher_conf(settings),
    )
    return client


def start_backfills(celery: Celery) -> None:
    """Tell the workers that a backfill was asked for; raises Unavailable with the broker away: the sweep finds it.

    Nobody waits longer than `HINT_S` for it: a client library tries several times, with pauses of seconds.
    """
    sent: Future[object] = Future()

    def send() -> None:
        try:
            sent.set_result(celery.send_task(BACKFILL_TASK, queue=BACKFILL_QUEUE, **PUBLISH))
        except BROKER_ERRORS as error:
            sent.set_exception(error)

    threading.Thread(target=send, name="backfill-hint", daemon=True).start()
    try:
        sent.result(HINT_S)
    except TimeoutError:
        raise Unavailable(f"the broker does not answer within {HINT_S:g} s") from None
    except BROKER_ERRORS as error:
        raise Unavailable(f"the broker does not answer: {error}") from error


class TradeQueue:
    """Sends batches to the workers; safe to use from several threads."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._names: dict[int, str] = {}

    def know(self, instruments: Iterable[Instrument]) -> None:
        """From now on the tasks name these by their symbols."""
        self._names |= {item.id: item.symbol for item in instruments}

    def send(self, batch: TradeBatch, shard: int) -> None:
        """Hand the batch to the workers of `shard`; raises Unavailable with the broker away (no retry here)."""
        self._publish(TASK, batch.encode(), queue_name(shard), summaries.of_trades(batch, self._names))

    def send_official(self, batch: OfficialBatch) -> None:
        """Hand the exchange's own bars to the workers of bars; raises Unavailable with the broker away."""
        self._publish(OFFICIAL_TASK, batch.encode(), OFFICIAL_QUEUE, summaries.of_official(batch, self._names))

    def waiting(self, shard: int) -> int:
        """How many batches wait for the workers of `shard`; raises Unavailable with the broker away."""
        try:
            with self._celery.pool.acquire(block=True) as connection:
                try:
                    queue = connection.default_channel.queue_declare(queue_name(shard), passive=True)
                except (*connection.channel_errors, NotFound):
                    return 0  # an empty list does not exist in Redis; in RabbitMQ no worker has declared it yet
                return int(queue.message_count)
        except BROKER_ERRORS as error:
            raise Unavailable(f"the broker does not answer: {error}") from error

    def _publish(self, task: str, data: bytes, queue: str, summary: str) -> None:
        """The summary stands for the arguments wherever they are shown, so that nobody reads bytes."""
        try:
            self._celery.send_task(task, args=(data,), queue=queue, argsrepr=summary, **PUBLISH)
        except BROKER_ERRORS as error:
            raise Unavailable(f"the broker does not answer: {error}") from error
