"""Where the web reads: from a streaming replica while it has what the primary has committed, else from the primary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from loguru import logger

from app.storage.trouble import reason, trouble_of

WAIT_S = 0.25  # a read waits so long for the replica to catch up, then it goes to the primary
LOOK_S = 0.005
ANSWER_S = 1.0  # a replica that says nothing for so long is away: a frozen one may take connections for ever
REST_S = 5.0  # a replica that is away, or far behind, is left alone for so long

# By transactions, not by the log's position: an idle primary's log may end within a record that nobody can replay yet.
_COMMITTED = sa.text("SELECT pg_current_snapshot()::text")
_STATE = sa.text(
    "SELECT pg_is_in_recovery(), "
    "(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::float8"
)
# Whether what was over on the primary is over here. A standby's snapshot lists no transactions at work: each is asked.
_REPLAYED = sa.text("""
SELECT pg_is_in_recovery(), CASE WHEN pg_snapshot_xmax(here) < pg_snapshot_xmax(there) THEN false ELSE NOT EXISTS (
    SELECT FROM generate_series(pg_snapshot_xmin(here)::text::bigint, pg_snapshot_xmax(there)::text::bigint - 1) n,
        LATERAL (SELECT n::text::xid8 AS x) AS each
    WHERE pg_visible_in_snapshot(x, there) AND pg_xact_status(x) = 'in progress') END
FROM pg_current_snapshot() AS here, (SELECT CAST(:told AS pg_snapshot)) AS p (there)
""")


@dataclass
class Reads:
    """Connections to read from; nothing that was committed before `connect` is missing in what they show.

    So a chart is never older than what a WebSocket has told: that is published after its commit, by whichever process.
    """

    primary: sa.Engine
    replica: sa.Engine | None = None
    wait_s: float = WAIT_S
    _trouble: str = ""
    _rest_until: float = field(default=-1e9)  # of time.monotonic()

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection; raises what the driver does where the primary cannot be reached."""
        caught_up = self._caught_up()
        with self.primary.connect() if caught_up is None else caught_up as connection:
            yield connection

    def state(self) -> dict[str, Any] | None:
        """How the replica does, for health: `ok`, and how far it is `behind_ms` or what is wrong; None without one."""
        if self.replica is None:
            return None
        replica = self.replica

        def ask() -> tuple[bool, float | None]:
            with replica.connect() as connection:
                standby, behind_ms = connection.execute(_STATE).one()
            return standby, behind_ms

        try:
            standby, behind_ms = _bounded(ask, lambda _: None)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, Silent) as error:
            return {"ok": False, "cause": _told(error), "effect": "the web reads from the primary"}
        if not standby:
            return {"ok": False, "cause": NO_REPLICA, "effect": "the web reads from the primary"}
        if self._trouble and time.monotonic() < self._rest_until:
            return {"ok": False, "cause": self._trouble, "effect": "the web reads from the primary"}
        return {"ok": True, "behind_ms": None if behind_ms is None else round(behind_ms, 1)}

    def _caught_up(self) -> sa.Connection | None:
        if self.replica is None or time.monotonic() < self._rest_until:
            return None
        with self.primary.connect() as connection:
            told = connection.execute(_COMMITTED).scalar_one()
        replica = self.replica

        def ask() -> sa.Connection | None:
            connection, good = replica.connect(), False
            try:
                good = self._wait(connection, told)
            finally:
                if not good:
                    connection.close()
            return connection if good else None

        try:
            return _bounded(ask, _close)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, Silent) as error:
            if not isinstance(error, Silent) and trouble_of(error) is None:
                raise
            self._rest(_told(error))
        return None

    def _wait(self, connection: sa.Connection, told: str) -> bool:
        """Whether the replica has replayed in time what is over in the snapshot `told`."""
        deadline = time.monotonic() + self.wait_s
        while True:
            standby, replayed = connection.execute(_REPLAYED, {"told": told}).one()
            connection.rollback()  # what comes next sees what has been replayed by now
            if not standby:
                self._rest(NO_REPLICA)
                return False
            if replayed:
                self._trouble = ""
                return True
            if time.monotonic() > deadline:
                self._rest(f"it is over {self.wait_s * 1000:.0f} ms behind")
                return False
            time.sleep(LOOK_S)

    def _rest(self, trouble: str) -> None:
        self._trouble, self._rest_until = trouble, time.monotonic() + REST_S


NO_REPLICA = "the server of DATABASE_READ_URL is no replica: it takes writes of its own"


class Silent(Exception):
    """Raised when the replica does not answer in time."""


def _bounded[T](ask: Callable[[], T], drop: Callable[[T], None]) -> T:
    """What `ask` returns or raises; raises Silent after `ANSWER_S`, and what comes later is given to `drop`.

    In a thread of its own, since the driver's waits have no end of ours: in the web that is one of gevent's. One that
    hangs holds a connection of the pool until the server speaks again or is known to be gone.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            found = ask()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            _given(answer.set_exception, error)
            return
        if not _given(answer.set_result, found):
            drop(found)

    threading.Thread(target=work, name="replica", daemon=True).start()
    waited = False
    try:
        wait([answer], ANSWER_S)
        waited = True
    finally:  # a request that ran out of time ends in here
        late = answer.cancel()
        if not waited and not late and answer.exception() is None:
            drop(answer.result())
    if late:
        raise Silent
    return answer.result()


def _given[T](give: Callable[[T], None], what: T) -> bool:
    try:
        give(what)
    except InvalidStateError:
        return False  # nobody waits any more
    return True


def _close(connection: sa.Connection | None) -> None:
    if connection is not None:
        connection.close()


def _told(error: Exception) -> str:
    """What everybody may read of a failure: the driver's own words name hosts, ports and users."""
    if isinstance(error, Silent):
        return f"it does not answer within {ANSWER_S:g} s"
    kind = type(getattr(error, "orig", None) or error).__name__
    logger.warning("the replica cannot be read: {}", reason(error))
    return f"it cannot be read ({kind}): the log has more"
