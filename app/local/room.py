"""Whether a database server has room for every connection that the platform may hold."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import psycopg2

from app.config import Settings
from app.errors import ConfigError
from app.local.child import ChildSpec
from app.local.report import without_password

START_S = 120.0  # a server of the user's own is waited for while it starts or recovers
_STARTING = re.compile("starting up|not yet accepting|recovery mode|shutting down")
_LIMITS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""


def most_connections(settings: Settings, table: Sequence[ChildSpec]) -> int:
    """Connections that the children may hold at most, and one command beside them."""
    return sum(spec.connections for spec in table) + settings.db_connections


def check_room(
    url: str, settings: Settings, table: Sequence[ChildSpec], *, say: Callable[[str], None], pause: Callable[[], None]
) -> None:
    """Raises ConfigError where the server at `url` allows fewer connections than the platform may hold.

    Waits, calling `pause`, while the server starts. One that cannot be asked is left to those who need it.
    """
    most = most_connections(settings, table)
    found = _limit(url, say=say, pause=pause)
    if found is None or most <= found[0]:
        return
    limit, setting = found
    holders = ", ".join(f"{spec.name} {spec.connections}" for spec in table if spec.connections)
    raise ConfigError(
        f"the database at {without_password(url)} allows {limit} connections ({setting}), and the platform may hold "
        f"{most} ({holders}, a command {settings.db_connections}): raise {setting} there, or lower DB_WEB_POOL_SIZE, "
        f"DB_WEB_POOL_OVERFLOW, DB_POOL_OVERFLOW or TRADE_SHARDS here"
    )


def _limit(url: str, *, say: Callable[[str], None], pause: Callable[[], None]) -> tuple[int, str] | None:
    """The number of connections we may have there, and the setting that says so."""
    deadline, said = time.monotonic() + START_S, False
    while True:
        try:
            connection = psycopg2.connect(re.sub(r"^postgres\w*(\+\w+)?://", "postgresql://", url), connect_timeout=5)
        except psycopg2.Error as error:
            if not _STARTING.search(str(error)) or time.monotonic() > deadline:
                return None  # the migrations come next, and say what is wrong
            if not said:
                say("[dim]–[/] the database is starting: waiting for it")
            said = True
            pause()
            continue
        try:
            with connection.cursor() as cursor:
                cursor.execute(_LIMITS)
                free, role, database = cursor.fetchone() or (0, -1, -1)
        finally:
            connection.close()
        limits = [(free, "max_connections"), (role, "the role's CONNECTION LIMIT"), (database, "the database's")]
        return min((number, name) for number, name in limits if number >= 0)
