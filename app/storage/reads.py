"""Where the web reads: from a streaming replica while it has what the primary has committed, else from the primary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from app.storage.trouble import reason, trouble_of

WAIT_S = 0.25  # a read waits so long for the replica to catch up, then it goes to the primary
LOOK_S = 0.005
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
        try:
            with self.replica.connect() as connection:
                standby, behind_ms = connection.execute(_STATE).one()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            return {"ok": False, "cause": reason(error), "effect": "the web reads from the primary"}
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
        try:
            connection = self.replica.connect()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            self._rest(reason(error))
            return None
        try:
            if self._wait(connection, told):
                return connection
        except sa.exc.DBAPIError as error:
            if trouble_of(error) is None:
                raise
            self._rest(reason(error))
        except BaseException:
            connection.close()
            raise
        connection.close()
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
