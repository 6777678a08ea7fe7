"""Migrations while the platform works: ingest is never held up for long, and an old schema loses no message."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from celery import Celery
from celery.exceptions import Reject

from app.bootstrap import platform
from app.config import ROOT, Settings
from app.domain.trades import Trade, TradeBatch
from app.storage import migrate
from app.storage.trouble import Trouble
from tasks import base
from tests.factories import add_instrument, bars

HERE = Path(__file__).resolve().parent.parent


@pytest.fixture
def with_test_migration(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    made = migrate._config

    def config(url: str) -> Config:
        found = made(url)
        found.set_main_option("version_locations", f"{ROOT / 'alembic' / 'versions'} {HERE / 'migrations'}")
        found.set_main_option("path_separator", "space")
        return found

    monkeypatch.setattr(migrate, "_config", config)
    yield
    migrate.downgrade(settings.database_url, "0005")


@pytest.mark.slow
@pytest.mark.usefixtures("with_test_migration")
def test_a_migration_beside_ingest_and_a_long_reader(settings: Settings, engine: sa.Engine) -> None:
    ingest, instrument_id = platform(settings).ingest, add_instrument(engine)
    over, took, applied = threading.Event(), list[float](), [0]

    def trade() -> None:
        while not over.is_set():
            n = applied[0] + 1
            began = time.monotonic()
            ingest.apply(TradeBatch.of([Trade(instrument_id, 60_000_000 + n, n, n, 10**8, 10**8, True)]))
            took.append(time.monotonic() - began)
            applied[0] = n

    def read() -> None:
        with engine.connect() as connection:  # as pg_dump does, for as long as it takes
            connection.execute(sa.text("SET idle_in_transaction_session_timeout = 0"))
            connection.execute(sa.text("SELECT count(*) FROM candles_1m"))
            reading.set()
            leave.wait(60)

    reading, leave = threading.Event(), threading.Event()
    threads = [threading.Thread(target=trade), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    reading.wait(60)
    began, patience = time.monotonic(), threading.Timer(8, leave.set)
    patience.start()
    try:
        migrate.upgrade(settings.database_url)
        waited = time.monotonic() - began
        before = applied[0]
        while applied[0] < before + 20 and time.monotonic() - began < 60:
            time.sleep(0.05)
    finally:
        over.set()
        leave.set()
        patience.cancel()
        for thread in threads:
            thread.join(60)
    assert waited > 6, "the reader should have been in its way"
    assert max(took) < 5, "ingest waited behind a migration that waited"
    (bar,) = bars(engine, instrument_id)
    assert bar.trade_count == applied[0] > 50
    with engine.connect() as connection:
        assert migrate.current(connection) == "9001"
        assert connection.scalar(
            sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'candles_1m_tested'::regclass")
        )
        assert connection.scalar(sa.text("SELECT count(*) FROM candles_1m WHERE tested")) == 0


def test_a_newer_worker_than_the_schema_gives_its_message_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = platform(settings)
    monkeypatch.setattr(base, "platform", lambda: made)
    monkeypatch.setattr(base, "WAIT_S", 0.0)

    class Newer(base.PlatformTask):
        name, patient = "tasks.bars.ingest", True

        def run(self, data: bytes) -> None:
            with made.engine.begin() as connection:
                connection.execute(sa.text("SELECT of_tomorrow FROM candles_1m"))

    task = Newer()
    task.bind(Celery("alone", set_as_current=False))
    task.push_request(id="one", delivery_info={"redelivered": False})
    with pytest.raises(sa.exc.ProgrammingError):  # at the newest schema it is a defect
        task(b"x")
    monkeypatch.setattr(base.revision, "newest", lambda: "9999")
    with pytest.raises(Reject, match="of_tomorrow") as back:
        task(b"x")
    assert back.value.requeue and Trouble.OLD.value == "the schema is older than this program"
