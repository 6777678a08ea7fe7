"""Pools and timeouts reach the database and fire; what a failure means; whether a server has room for all of us."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import sqlalchemy as sa
from celery import Celery
from celery.exceptions import Reject
from flask.testing import FlaskClient
from sqlalchemy.engine import make_url

from app.bootstrap import Platform
from app.cache import health, keys
from app.config import Settings, load_settings
from app.domain.bar_columns import BarColumns
from app.domain.bars import Bar
from app.domain.timeframes import Timeframe
from app.domain.trades import Trade, TradeBatch
from app.errors import ConfigError
from app.local.postgres import PostgresServer
from app.local.processes import process_table
from app.local.room import check_room, most_connections
from app.storage import bulk, catalog
from app.storage.engine import make_engine
from app.storage.trouble import Trouble, reason, trouble_of
from tasks import base
from tests.integration.web_data import START_MS, bar
from tests.unit.test_processes import run_of
from webapp import create_app

pytestmark = pytest.mark.slow

SLEEP = sa.text("SELECT pg_sleep(5)")


@pytest.fixture
def engine_of(settings: Settings) -> Iterator[Callable[..., sa.Engine]]:
    """Makes engines of a process on changed settings."""
    made = []

    def make(process: str = "worker", **values: Any) -> sa.Engine:
        made.append(make_engine(settings.model_copy(update=values), process=process))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def read_only(postgres: PostgresServer, settings: Settings) -> Iterator[Callable[[bool], None]]:
    """Whether new connections to the database may write."""
    name = make_url(settings.database_url).database
    connection = postgres.connect("postgres")
    connection.autocommit = True

    def change(on: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f'ALTER DATABASE "{name}" '
                + ("SET default_transaction_read_only = on" if on else "RESET default_transaction_read_only")
            )

    yield change
    change(False)
    connection.close()


def failure(engine: sa.Engine, statement: sa.TextClause = SLEEP) -> Exception:
    """What a statement raises."""
    with pytest.raises((sa.exc.DBAPIError, sa.exc.TimeoutError)) as caught, engine.begin() as connection:
        connection.execute(statement)
    return caught.value


def terminate(engine: sa.Engine, connection: sa.Connection) -> None:
    """Ends the session of a connection, as a fast shutdown does."""
    pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with engine.begin() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


class TestSettings:
    def test_they_reach_every_connection_and_the_web_has_its_own(self, engine_of: Callable[..., sa.Engine]) -> None:
        values = {
            "db_pool_size": 3, "db_pool_overflow": 1, "db_pool_timeout_s": 0.2, "db_web_pool_size": 1,
            "db_web_pool_overflow": 1, "db_statement_timeout_ms": 7000, "db_web_statement_timeout_ms": 3000,
            "db_lock_timeout_ms": 2000, "db_idle_tx_timeout_ms": 9000,
        }  # fmt: skip
        for process, most, statement_timeout in (("worker", 4, "7s"), ("web", 2, "3s")):
            engine = engine_of(process, **values)
            held = [engine.connect() for _ in range(most)]
            began = time.monotonic()
            error = failure(engine)
            assert trouble_of(error) is Trouble.AWAY
            assert 0.15 < time.monotonic() - began < 10
            for name, wanted in (
                ("statement_timeout", statement_timeout),
                ("lock_timeout", "2s"),
                ("idle_in_transaction_session_timeout", "9s"),
                ("application_name", f"market {process}"),
            ):
                assert held[-1].scalar(sa.text(f"SHOW {name}")) == wanted
            for connection in held:
                connection.close()

    def test_a_pool_of_one_is_refused_where_it_would_wait_for_itself(self) -> None:
        with pytest.raises(ConfigError, match=r"DB_POOL_SIZE: .* greater than or equal to 2"):
            load_settings(db_pool_size=1, _env_file=None)


class TestTrouble:
    def test_a_statement_that_takes_too_long(self, engine_of: Callable[..., sa.Engine]) -> None:
        error = failure(engine_of(db_statement_timeout_ms=200))
        assert trouble_of(error) is Trouble.SLOW
        assert reason(error) == "canceling statement due to statement timeout"

    def test_a_lock_that_is_not_given_back(self, engine_of: Callable[..., sa.Engine]) -> None:
        engine = engine_of(db_lock_timeout_ms=200)
        with engine.begin() as connection:
            connection.execute(sa.text("LOCK TABLE touched IN ACCESS EXCLUSIVE MODE"))
            error = failure(engine, sa.text("SELECT count(*) FROM touched"))
        assert trouble_of(error) is Trouble.NEIGHBOUR
        assert reason(error) == "canceling statement due to lock timeout"

    def test_a_process_that_paused_within_a_transaction(self, engine_of: Callable[..., sa.Engine]) -> None:
        engine = engine_of(db_idle_tx_timeout_ms=100)
        with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            time.sleep(0.6)
            connection.execute(sa.text("SELECT 1"))
        assert trouble_of(caught.value) in {Trouble.AWAY, Trouble.NEIGHBOUR}
        with engine.begin() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1

    def test_a_connection_that_was_ended(self, engine_of: Callable[..., sa.Engine]) -> None:
        engine = engine_of()
        with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
            terminate(engine, connection)
            connection.execute(sa.text("SELECT 1"))
        assert trouble_of(caught.value) is Trouble.AWAY
        with engine.begin() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1

    def test_a_connection_that_was_ended_before_a_copy(
        self, engine_of: Callable[..., sa.Engine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = engine_of()

        def ended(connection: sa.Connection, *_: Any) -> bool:
            terminate(engine, connection)
            return False

        monkeypatch.setattr(bulk, "_any", ended)
        with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
            bulk.replace(connection, _bars(500))
        assert trouble_of(caught.value) is Trouble.AWAY

    def test_a_connection_that_was_ended_within_a_copy(self, engine_of: Callable[..., sa.Engine]) -> None:
        engine = engine_of()
        ended = threading.Thread(target=_end_a_copy, args=(engine,))
        page = BarColumns.of(1, _bars(100_000))
        with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
            ended.start()
            bulk.replace(connection, page)
        ended.join()
        assert trouble_of(caught.value) is Trouble.AWAY

    def test_a_server_that_is_not_there(self, settings: Settings) -> None:
        engine = make_engine(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
        assert trouble_of(failure(engine)) is Trouble.AWAY

    def test_what_waiting_cannot_cure(self, engine_of: Callable[..., sa.Engine]) -> None:
        for statement in ("SELECT 1/0", "SELECT * FROM nowhere", "INSERT INTO instruments DEFAULT VALUES"):
            assert trouble_of(failure(engine_of(), sa.text(statement))) is None

    def test_no_copy_into_a_database_that_takes_no_writes(
        self, engine_of: Callable[..., sa.Engine], read_only: Callable[[bool], None]
    ) -> None:
        engine = engine_of()
        read_only(True)
        with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
            bulk.replace(connection, _bars(500))
        assert trouble_of(caught.value) is Trouble.READ_ONLY
        read_only(False)
        with engine.begin() as connection:
            assert bulk.replace(connection, _bars(500)), "that connection was given up"
            connection.rollback()


def _end_a_copy(engine: sa.Engine) -> None:
    """Ends the session that copies, as soon as one does."""
    copies = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~* 'copy.*stdin' AND state = 'active'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + 60
        while not connection.execute(sa.text(copies)).all() and time.monotonic() < deadline:
            time.sleep(0.002)


def _bars(count: int) -> list[Bar]:
    return [bar(1, START_MS + n * Timeframe.M1.ms) for n in range(count)]


class TestTasks:
    @pytest.fixture
    def slow(
        self, settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Callable[[bool], base.PlatformTask]]:
        """Makes a task whose statement is too slow; whether it is patient."""
        core = Platform(settings.model_copy(update={"db_statement_timeout_ms": 100, "max_deliveries": 3}), "tests")
        monkeypatch.setattr("tasks.base.platform", lambda: core)

        def body(data: bytes) -> None:
            with core.engine.begin() as connection:
                connection.execute(SLEEP)

        app = Celery(set_as_current=False)

        def make(patient: bool) -> base.PlatformTask:
            task: base.PlatformTask = app.task(name=f"tests.slow{patient}", base=base.PlatformTask, patient=patient)(
                body
            )
            task.push_request(id="one", delivery_info={"redelivered": True})
            return task

        yield make
        core.engine.dispose()

    def test_a_batch_that_is_always_too_slow_comes_back_a_few_times_and_is_parked(
        self, slow: Callable[[bool], base.PlatformTask], redis_client: redis.Redis
    ) -> None:
        task = slow(True)
        for _ in range(3):
            with pytest.raises(Reject, match="statement timeout") as caught:
                task(b"batch")
            assert caught.value.requeue
        with pytest.raises(Reject, match="delivered 4 times") as caught:
            task(b"batch")
        assert not caught.value.requeue
        assert redis_client.lrange(keys.PARKED, 0, -1) == [b"batch"]
        assert health.counters(redis_client)["parked"] == 1

    def test_a_batch_waits_for_a_database_that_takes_no_writes(
        self,
        settings: Settings,
        redis_client: redis.Redis,
        read_only: Callable[[bool], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A primary that was demoted, or saved from a full disk: its connections stay read-only when it is over."""
        core = Platform(settings, "tests")
        monkeypatch.setattr("tasks.base.platform", lambda: core)
        monkeypatch.setattr("tasks.base.WAIT_S", 0.2)
        with core.engine.begin() as connection:
            instrument = catalog.find(connection, "BTC/USDT", "binance").id

        def ingest(data: bytes) -> None:
            core.ingest.apply(TradeBatch.decode(data))

        app = Celery(set_as_current=False)
        task: base.PlatformTask = app.task(name="tests.ingest", base=base.PlatformTask, patient=True)(ingest)
        task.push_request(id="two", delivery_info={"redelivered": True})
        batch = TradeBatch.of([Trade(instrument, START_MS * 1000, 1, 1, 10**8, 10**8, True)]).encode()
        read_only(True)
        core.engine.dispose()  # who is connected already does not see the default
        for _ in range(settings.max_deliveries + 1):
            with pytest.raises(Reject, match="in a read-only transaction") as caught:
                task(batch)
            assert caught.value.requeue
        read_only(False)
        assert task(batch) is None, "no connection of then is left in the pool"
        with core.engine.begin() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM ledger WHERE instrument_id = :i"), {"i": instrument})
        assert (redis_client.llen(keys.PARKED), health.counters(redis_client).get("failed_tasks")) == (0, None)
        core.engine.dispose()

    def test_a_tick_that_is_too_slow_is_dropped(self, slow: Callable[[bool], base.PlatformTask]) -> None:
        assert slow(False)(b"tick") is None


class TestWeb:
    @pytest.fixture
    def client(self, settings: Settings, redis_client: redis.Redis) -> Iterator[FlaskClient]:
        """A client of a web process that has one connection, and little patience."""
        changed = {
            "db_web_pool_size": 1, "db_web_pool_overflow": 0, "db_pool_timeout_s": 0.5,
            "db_web_statement_timeout_ms": 300, "db_lock_timeout_ms": 0,
        }  # fmt: skip
        app = create_app(settings.model_copy(update=changed))
        yield app.test_client()
        app.extensions["web"].engine.dispose()
        app.extensions["web"].redis.close()

    def test_no_request_wants_a_second_connection_while_it_holds_one(self, client: FlaskClient) -> None:
        for address in (
            "/api/symbols", "/api/instruments", "/api/quotes", "/api/quotes?symbol=AAPL", "/api/overview",
            "/api/charts/BTC-USDT", "/api/charts/BTC-USDT", "/api/charts/AAPL?exchange=alpaca&timeframe=1h",
            f"/api/charts/BTC-USDT?start={START_MS}&limit=10", "/api/holes", "/api/holes?symbol=BTC-USDT",
            "/api/differences?symbol=THYAO.IS", "/api/health", "/", "/charts/binance/BTC-USDT",
        ):  # fmt: skip
            assert client.get(address).status_code == 200, address

    def test_a_read_that_takes_too_long_says_so(self, client: FlaskClient, engine: sa.Engine) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("LOCK TABLE candles_1m IN ACCESS EXCLUSIVE MODE"))
            answer = client.get("/api/charts/BTC-USDT")
        assert answer.status_code == 503
        assert answer.get_json()["error"]["code"] == "too_slow"
        assert client.get("/api/charts/BTC-USDT").status_code == 200

    def test_no_free_connection_says_so(self, client: FlaskClient) -> None:
        with client.application.extensions["web"].engine.connect():
            answer = client.get("/api/symbols")
        assert answer.status_code == 503
        assert "every connection to the database is in use" in answer.get_json()["error"]["message"]


class TestRoom:
    def test_a_server_with_room_is_taken_and_one_without_is_named(
        self, settings: Settings, postgres: PostgresServer, tmp_path: Path
    ) -> None:
        settings = settings.model_copy(update={"db_pool_overflow": 0})
        table = process_table(settings, run_of(settings), run_dir=tmp_path)
        most = most_connections(settings, table)
        check_room(settings.database_url, settings, table, say=print, pause=pytest.fail)
        with postgres.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE small LOGIN PASSWORD 'secret' CONNECTION LIMIT {most - 1}")
        url = settings.database_url.replace(f"postgres:{postgres.password}@", "small:secret@")
        with pytest.raises(ConfigError) as caught:
            check_room(url, settings, table, say=print, pause=pytest.fail)
        text = str(caught.value)
        assert f"allows {most - 1} connections (the role's CONNECTION LIMIT)" in text
        assert f"may hold {most} (worker-trades 2, web 10, worker-bars 4," in text
        assert "lower DB_WEB_POOL_SIZE" in text
        assert "secret" not in text
        connection.close()

    def test_a_server_that_starts_is_waited_for(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect, said, pauses = psycopg2.connect, [], []

        def starting(*args: Any, **kwargs: Any) -> Any:
            if len(pauses) < 3:
                raise psycopg2.OperationalError("FATAL:  the database system is starting up")
            return connect(*args, **kwargs)

        monkeypatch.setattr("app.local.room.psycopg2.connect", starting)
        table = process_table(settings, run_of(settings), run_dir=tmp_path)
        check_room(settings.database_url, settings, table, say=said.append, pause=lambda: pauses.append(1))
        assert len(pauses) == 3
        assert said == ["[dim]–[/] the database is starting: waiting for it"]

    def test_a_server_that_is_not_there_is_left_to_the_migrations(self, settings: Settings, tmp_path: Path) -> None:
        table = process_table(settings, run_of(settings), run_dir=tmp_path)
        check_room("postgresql://nobody@127.0.0.1:1/none", settings, table, say=pytest.fail, pause=pytest.fail)


def test_a_server_killed_at_work_starts_again_at_once_with_room_for_all(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path)
    server.make_room(100)
    try:
        server.start()
        working = threading.Thread(target=_work, args=(server.connect(),))
        working.start()
        time.sleep(0.5)
        assert server.process is not None
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(60)
        server.start()
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW max_connections")
            assert cursor.fetchone() == ("120",)
        connection.close()
        working.join(60)
        assert not working.is_alive()
    finally:
        server.stop()


def _work(connection: psycopg2.extensions.connection) -> None:
    """A statement that computes: unlike one that waits, it does not notice that its server died."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM generate_series(1, 300000000) AS n WHERE sin(n) > 2")
    except psycopg2.OperationalError:
        connection.close()


def test_a_server_that_recovers_is_given_more_time(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path)
    server.dir.mkdir()
    for status, recovers in (("starting", True), ("ready   ", False), ("stopping", False)):
        (server.dir / "postmaster.pid").write_text("\n".join([*"1234567", status]) + "\n")
        assert server._recovers() is recovers
    (server.dir / "postmaster.pid").unlink()
    assert not server._recovers()
