"""The base of every task: what happens when the database is away, when a task comes too often, when it fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import redis
import sqlalchemy as sa
from celery import Task
from celery.exceptions import Reject, TimeLimitExceeded
from loguru import logger

from app.bootstrap import Platform
from app.bootstrap import platform as build
from app.cache import keys, parked
from app.config import load_settings
from app.domain.summaries import batch_in
from app.errors import NewerMessage, Poisoned, SchemaError, SourceError, WireError
from app.local.runfile import attach_celery
from app.storage import revision
from app.storage.trouble import Trouble, may_be_old, reason, trouble_of

ATTEMPTS = 5  # while neighbours are in the way
NEWER_S = 300.0  # a newer program's message waits so long for one of its workers
NEWER_REST_S = 0.5  # and an older worker rests so long when it gave one back
WAIT_S = 20.0  # a task waits so long for a database that is away, then goes back to its queue


@cache
def platform() -> Platform:
    """The platform of this worker process."""
    return build(attach_celery(load_settings()), process="worker")


class PlatformTask(Task):  # type: ignore[misc]  # celery has no types
    """Retries what a neighbour caused, waits for a database that is away, parks what kills workers.

    `patient`: the task's message carries data and must not be lost, so it goes back to the queue; a tick of the
    beat is dropped instead, since the next one does its work.
    """

    abstract = True
    Request = "tasks.requests:CountedRequest"
    patient = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task; every line it logs names it, and its batch."""
        with logger.contextualize(**self._context(self.request.id)):
            return self._attempt(args, kwargs)

    def _context(self, task_id: str | None) -> dict[str, str]:
        batch = batch_in(getattr(self.request, "argsrepr", None))
        return {"task": self.name, "task_id": task_id or "", **({"batch": batch} if batch else {})}

    def _attempt(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self.patient and self.request.delivery_info and self.request.delivery_info.get("redelivered"):
            self._admit(args)
        deadline = time.monotonic() + WAIT_S
        delay = 0.05
        for attempt in range(1, 10_000):
            try:
                return self.run(*args, **kwargs)
            except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
                trouble = trouble_of(error) or _of_an_old_schema(error)
                if trouble is None:
                    raise
                worn = trouble is Trouble.SLOW or (trouble is Trouble.NEIGHBOUR and attempt >= ATTEMPTS)
                if worn or time.monotonic() > deadline:
                    return self._give_back(error, trouble)
            except redis.RedisError as error:
                logger.warning("{} waits for its next turn, Redis is away: {}", self.name, type(error).__name__)
                return None
            except SourceError as error:
                logger.warning("{} waits for its next turn: {}", self.name, error)
                return None
            except NewerMessage as error:
                return self._leave_to_newer(error, args)
            except WireError as error:
                logger.error("{} refused and parked: {}", self.name, error)
                self._park(args)
                self._count("refused_batches")
                return None
            time.sleep(delay)
            delay = min(delay * 2, 2.0)
        return None

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """A failure nobody foresaw: Celery acknowledges the message, so what it carries is parked and counted.

        One that ran out of time goes back to its queue instead (task_acks_on_timeout), and is no loss.
        """
        if isinstance(exc, TimeLimitExceeded):
            return
        with logger.contextualize(**self._context(task_id)):
            logger.error("{} failed: {}", self.name, type(exc).__name__)
            try:
                self._park(args)
                platform().redis.hincrby(keys.COUNTERS, "failed_tasks", 1)
            except redis.RedisError as error:
                logger.error("{} {} failed and could not be parked: {}", self.name, task_id, type(error).__name__)

    def _park(self, args: tuple[Any, ...]) -> None:
        data = b"".join(arg for arg in args if isinstance(arg, bytes))
        if data:
            parked.park(platform().redis, data)

    def _give_back(self, error: Exception, trouble: Trouble) -> None:
        """Ends this attempt; one that only ran out of time counts as a delivery, or it might come back for ever."""
        why = reason(error)
        if not self.patient:
            logger.warning("{} dropped, the next tick does its work; {}: {}", self.name, trouble.value, why)
            return
        logger.warning("{} goes back to the queue; {}: {}", self.name, trouble.value, why)
        if trouble is not Trouble.SLOW:
            self._forgive()
        raise Reject(why, requeue=True) from None

    def _leave_to_newer(self, error: NewerMessage, args: tuple[Any, ...]) -> None:
        """Puts a newer program's message back for one of its workers; after NEWER_S without any it is parked."""
        client, key = platform().redis, f"{keys.NEWER}{self.request.id}"
        now_s = time.time()
        try:
            client.set(key, now_s, nx=True, ex=int(4 * NEWER_S))
            waited_s = now_s - float(client.get(key) or now_s)
            if waited_s > NEWER_S:
                logger.error("{} parked, no worker came that reads it: {}", self.name, error)
                self._park(args)
                self._count("newer_messages")
                return
        except redis.RedisError as trouble:
            logger.warning("a newer message's wait is not counted, Redis is away: {}", type(trouble).__name__)
        logger.warning("{} goes back to the queue, for a newer worker: {}", self.name, error)
        self._forgive()
        time.sleep(NEWER_REST_S)
        raise Reject(str(error), requeue=True) from None

    def _admit(self, args: tuple[Any, ...]) -> None:
        """Counts a redelivery; a message that came too often is parked, not lost, and no longer kills workers."""
        client, key = platform().redis, f"{keys.DELIVERIES}{self.request.id}"
        try:
            seen = int(client.incr(key))
            client.expire(key, 3600)
            if seen <= platform().settings.max_deliveries:
                return
            self._park(args)
            client.hincrby(keys.COUNTERS, "parked", 1)
        except redis.RedisError as error:
            logger.warning("deliveries not counted, Redis is away: {}", type(error).__name__)
            return
        poisoned = Poisoned(
            f"{self.name} {self.request.id} was delivered {seen} times and is parked in Redis list {keys.PARKED!r}"
        )
        logger.error("{}", poisoned)
        raise Reject(str(poisoned), requeue=False)

    def _forgive(self) -> None:
        """A task that went back by itself did not kill anybody."""
        try:
            platform().redis.delete(f"{keys.DELIVERIES}{self.request.id}")
        except redis.RedisError as error:
            logger.warning("deliveries not forgotten, Redis is away: {}", type(error).__name__)

    def _count(self, reason: str) -> None:
        platform().publisher.count(reason)


def _of_an_old_schema(error: Exception) -> Trouble | None:
    """Whether the task came before `db upgrade`: then its message waits for it, as for a database that is away."""
    if not may_be_old(error):
        return None
    try:
        with platform().engine.connect() as connection:
            revision.require(connection)
    except SchemaError as old:
        logger.error("{}", old)
        return Trouble.OLD
    except sa.exc.DBAPIError:
        return Trouble.AWAY
    return None
