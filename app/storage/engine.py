"""The database engine: READ COMMITTED, JIT off, timeouts set, small pool."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from app.config import Settings
from app.errors import ConfigError
from app.storage.trouble import takes_no_writes

WEB = "web"  # the process with a pool and a statement timeout of its own


def database_url(text: str, *, setting: str = "DATABASE_URL") -> URL:
    """The URL with the psycopg2 driver; raises ConfigError when it is not PostgreSQL's."""
    try:
        url = make_url(text)
    except sa.exc.ArgumentError as error:
        raise ConfigError(f"{setting} is not a URL such as postgresql://user:password@host:5432/name") from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigError(f"{setting} is for {url.get_backend_name()}; only PostgreSQL is supported")
    return url.set(drivername="postgresql+psycopg2")


def make_engine(settings: Settings, *, process: str = "", replica: bool = False) -> sa.Engine:
    """The engine of this process, or the one of the replica that it reads from; nothing connects yet.

    READ COMMITTED is pinned since the ledger's slow path must see the winner's commit. JIT costs 50 times the
    query it compiles here. A paused process gives its locks back by the idle timeout. A connection that a restart of
    the server ended is noticed before it is used (`pool_pre_ping`), one to a machine that vanished within a minute by
    who waits for an answer, within half a minute by who sends. One to a server that is frozen while its machine lives
    is not noticed: who must not wait for it bounds that (`reads.py` does). One that takes no writes is not kept: its
    server may have been demoted, and a default to read only stays with the connection after it was taken back.
    """
    web = process == WEB
    server_settings = {
        "jit": "off",
        "timezone": "UTC",
        "statement_timeout": str(settings.db_web_statement_timeout_ms if web else settings.db_statement_timeout_ms),
        "lock_timeout": str(settings.db_lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.db_idle_tx_timeout_ms),
        # A correction may unpack over 100,000 compressed rows. And up to PostgreSQL 16 a bitmap scan passes over the
        # rows that its own UPDATE or DELETE unpacked, or ends the server; nothing here is slower without one.
        "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
        "enable_bitmapscan": "off",
    }
    if replica:
        server_settings["default_transaction_read_only"] = "on"  # should it be no replica, nobody writes there
    engine = sa.create_engine(
        database_url(settings.database_read_url, setting="DATABASE_READ_URL")
        if replica
        else database_url(settings.database_url),
        isolation_level="READ COMMITTED",
        pool_size=settings.db_web_pool_size if web else settings.db_pool_size,
        max_overflow=settings.db_web_pool_overflow if web else settings.db_pool_overflow,
        pool_timeout=settings.db_pool_timeout_s,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 5,
            "application_name": f"market {process}".strip(),
            "options": " ".join(f"-c {name}={value}" for name, value in server_settings.items()),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,  # ms: what was sent and is not acknowledged; keepalives are for idle ones
        },
    )
    if not replica:
        sa.event.listen(engine, "handle_error", _drop_read_only)
    return engine


def _drop_read_only(failed: sa.ExceptionContext) -> None:
    """Has the connection closed, and the pool's others replaced when they are asked for next."""
    if takes_no_writes(failed.original_exception):
        failed.is_disconnect = True
