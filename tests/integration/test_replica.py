"""A streaming replica for the web: never older than the primary, none needed. And TLS to the database."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme
from flask.testing import FlaskClient

from app.config import ROOT, Settings, load_settings
from app.domain.bars import partial_bars
from app.domain.trades import Trade, TradeBatch
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.storage import candles, catalog, migrate
from app.storage import reads as reading
from app.storage.engine import make_engine
from app.storage.reads import Reads
from tests.replicas import Replica, StallDoor, TlsDoor
from webapp import create_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Pair:
    """A primary with the platform's schema, its replica, and the web on both."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.primary = PostgresServer(folder)
        self.primary.OPTIONS = {**PostgresServer.OPTIONS, "fsync": "off"}
        self.primary.start()
        migrate.upgrade(self.primary.url)
        self.replica = Replica(folder, self.primary)
        self.replica.start()
        self.settings: Settings = load_settings(
            database_url=self.primary.url, database_read_url=self.replica.url, redis_url=redis_url, data_dir=folder,
            log_dir=folder / "logs", market="live", rate_limit_reads="off", _env_file=None,
        )  # fmt: skip
        self.engine = make_engine(self.settings, process="tests")
        self.reads = Reads(self.engine, make_engine(self.settings, process="reads", replica=True))
        with self.engine.begin() as connection:
            self.btc = catalog.find(connection, "BTC/USDT", "binance").id
        self.app = create_app(self.settings)

    def store(self, close: float) -> None:
        """A trade of the one minute there is: its close says how new it is."""
        with self.engine.begin() as connection:
            number = int(close)
            trade = Trade(self.btc, 60_000_000 + number, number, number, number * 10**8, 10**8, True)
            candles.merge(connection, partial_bars(TradeBatch.of([trade])))

    def seen(self) -> float:
        """The close that a read finds."""
        with self.reads.connect() as connection:
            return float(connection.execute(sa.text("SELECT close FROM candles_1m")).scalar_one())

    def at_replica(self, query: str) -> Any:
        connection = self.replica.connect()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchone()
        finally:
            connection.close()

    def end(self) -> None:
        assert self.reads.replica is not None
        self.reads.replica.dispose()
        self.engine.dispose()
        self.replica.stop()
        self.primary.stop()


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="pair-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        found = Pair(Path(folder), redis_server.url)
        try:
            yield found
        finally:
            found.end()


@pytest.fixture
def client(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(reading, "REST_S", 0.5)
    return pair.app.test_client()


def replica_of(client: FlaskClient) -> Any:
    return client.get("/api/health").get_json()["replica"]


def until(what: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_charts_come_from_the_replica_and_are_never_older_than_the_last_commit(pair: Pair, client: FlaskClient) -> None:
    pair.store(1.0)
    chart = client.get("/api/charts/BTC-USDT?exchange=binance&timeframe=1m&limit=7")
    assert [bar["close"] for bar in chart.get_json()["bars"]] == [1.0]
    (found,) = pair.at_replica("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'market web'")
    assert found >= 1, "the web never asked the replica"
    over = threading.Event()

    def others() -> None:
        """Transactions that take longer, and end in another order than they began in; some of them badly."""
        with pair.engine.connect() as connection:
            while not over.is_set():
                connection.execute(sa.text("SELECT pg_current_xact_id()"))
                time.sleep(0.01)
                connection.rollback()

    beside = threading.Thread(target=others)
    beside.start()
    try:
        for close in range(2, 200):
            pair.store(float(close))
            assert pair.seen() == close
    finally:
        over.set()
        beside.join()
    until(lambda: replica_of(client)["ok"])  # it may have been behind for a moment


def test_nobody_writes_where_the_web_reads(pair: Pair) -> None:
    def refused() -> bool:
        with pair.reads.connect() as connection:
            if not connection.execute(sa.text("SELECT pg_is_in_recovery()")).scalar_one():
                return False  # the replica was behind for a moment, and rests
            with pytest.raises(sa.exc.DBAPIError, match="read-only"):
                connection.execute(sa.text("DELETE FROM candles_1m"))
            return True

    until(refused)


def test_a_replica_that_is_behind_is_not_read(pair: Pair, client: FlaskClient) -> None:
    pair.store(1000.0)
    assert pair.seen() == 1000.0
    pair.at_replica("SELECT pg_wal_replay_pause()")
    try:
        pair.store(1001.0)
        assert pair.seen() == 1001.0
        bars = client.get("/api/charts/BTC-USDT?exchange=binance&timeframe=1m&limit=9").get_json()["bars"]
        assert [bar["close"] for bar in bars] == [1001.0]
        said = client.get("/api/health").get_json()
        assert said["status"] == "degraded"
        assert said["replica"] == {
            "ok": False, "cause": "it is over 250 ms behind", "effect": "the web reads from the primary",
        }  # fmt: skip
    finally:
        pair.at_replica("SELECT pg_wal_replay_resume()")
    until(lambda: client.get("/api/symbols").status_code == 200 and replica_of(client)["ok"])
    assert pair.seen() == 1001.0


def test_a_replica_that_is_away_is_done_without(pair: Pair, client: FlaskClient) -> None:
    pair.store(2000.0)
    pair.replica.stop()
    try:
        assert pair.seen() == 2000.0
        assert client.get("/api/charts/BTC-USDT?exchange=binance&timeframe=1m&limit=8").status_code == 200
        said = replica_of(client)
        assert not said["ok"] and said["cause"] == "it cannot be read (OperationalError): the log has more"
        assert client.get("/api/health/ready").status_code == 200
    finally:
        pair.replica.start()
    until(lambda: client.get("/api/symbols").status_code == 200 and replica_of(client)["ok"])


def test_a_replica_that_falls_silent_is_done_without(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REST_S", 0.5)
    assert pair.replica.process is not None
    door = StallDoor(pair.replica.port)
    url = pair.replica.url.replace(f":{pair.replica.port}/", f":{door.port}/")
    behind = make_engine(pair.settings.model_copy(update={"database_read_url": url}), process="reads", replica=True)
    reads = Reads(pair.engine, behind)

    def from_replica() -> bool:
        with reads.connect() as connection:
            return bool(connection.execute(sa.text("SELECT pg_is_in_recovery()")).scalar_one())

    try:
        until(from_replica)
        door.stall()
        began = time.monotonic()
        assert not from_replica()
        assert time.monotonic() - began < 20
        door.go_on()
        until(from_replica)
    finally:
        door.close()
        behind.dispose()


def test_a_server_that_takes_writes_is_no_replica(pair: Pair) -> None:
    wrong = Reads(pair.engine, pair.engine)
    with wrong.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    state = wrong.state()
    assert state is not None and state["cause"].startswith("the server of DATABASE_READ_URL is no replica")


def test_the_database_is_reached_by_tls_and_by_nothing_that_is_not_proved() -> None:
    with tempfile.TemporaryDirectory(prefix="tls-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder)
        server.OPTIONS = {**PostgresServer.OPTIONS, "fsync": "off"}
        server.start()
        door = TlsDoor(folder, server)
        other = folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)

        def upgrade(url: str) -> subprocess.CompletedProcess[str]:
            env = {**os.environ, "DATABASE_URL": url, "DATA_DIR": str(folder / "data"), "LOG_DIR": str(folder / "logs")}
            command = [sys.executable, "-m", "app", "db", "upgrade"]
            return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

        try:
            good = upgrade(door.url(door.ca))
            assert (good.returncode, good.stdout) == (0, "the schema is up to date\n"), good.stderr
            settings = load_settings(database_url=door.url(door.ca), _env_file=None)
            engine = make_engine(settings, process="tests")
            with engine.connect() as connection:
                assert connection.scalar(sa.text("SELECT 1")) == 1
            engine.dispose()
            assert door.secured > 1
            bad = upgrade(door.url(other))
            assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (1, "", 1)
            assert bad.stderr.startswith("error: the database cannot be reached: ")
            assert "certificate verify failed" in bad.stderr and server.password not in bad.stderr
            lost = upgrade(door.url(folder / "nowhere.pem"))
            assert lost.returncode == 1 and "nowhere.pem" in lost.stderr and server.password not in lost.stderr
        finally:
            door.close()
            server.stop()
