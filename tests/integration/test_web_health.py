"""Health: alive, ready, and what both say when the database, its schema or Redis is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.config import Settings
from app.storage import migrate, revision
from webapp import create_app


@contextmanager
def client_of(settings: Settings, **changes: str) -> Iterator[FlaskClient]:
    app = create_app(settings.model_copy(update=changes))
    yield app.test_client()
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()


def test_a_whole_platform_is_ready(settings: Settings, redis_client: redis.Redis) -> None:
    with client_of(settings) as client:
        answer = client.get("/api/health/ready")
        assert (answer.status_code, answer.get_json()) == (200, {"status": "ready", "effect": None})


def test_without_redis_it_is_ready_but_degraded(settings: Settings) -> None:
    with client_of(settings, redis_url="redis://127.0.0.1:1/0") as client:
        answer = client.get("/api/health/ready")
        assert (answer.status_code, answer.get_json()["status"]) == (200, "degraded")
        assert "no live updates" in answer.get_json()["effect"]
        assert client.get("/api/health/live").get_json() == {"status": "live"}


def test_without_the_database_it_lives_but_is_not_ready(settings: Settings) -> None:
    with client_of(settings, database_url="postgresql://nobody@127.0.0.1:1/none") as client:
        answer = client.get("/api/health/ready")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "unavailable")
        assert "nobody" not in answer.text
        assert client.get("/api/health/live").status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ("UPDATE alembic_version SET version_num = '0001'", 503, "the schema is at 0001, not "),
        ("DELETE FROM alembic_version", 503, "the schema is at base, not "),
        ("ALTER TABLE alembic_version RENAME TO aside", 503, "no schema yet"),
        ("UPDATE alembic_version SET version_num = '9999'", 200, "ready"),
    ],
)
def test_an_old_schema_is_not_ready(
    settings: Settings, engine: sa.Engine, redis_client: redis.Redis, change: str, status: int, said: str
) -> None:
    undo = [
        "ALTER TABLE IF EXISTS aside RENAME TO alembic_version",
        "DELETE FROM alembic_version",
        f"INSERT INTO alembic_version VALUES ('{revision.newest()}')",
    ]
    try:
        with engine.begin() as conn:
            conn.execute(sa.text(change))
        with client_of(settings) as client:
            answer = client.get("/api/health/ready")
        assert answer.status_code == status
        assert said in answer.text
        if status == 503:
            assert answer.get_json()["error"]["code"] == "old_schema"
            assert "db upgrade" in answer.text
    finally:
        with engine.begin() as conn:
            for statement in undo:
                conn.execute(sa.text(statement))


def test_the_newest_revision_is_that_of_the_migrations() -> None:
    assert revision.newest() == migrate.newest()


def test_exchanges_are_told_with_their_hours(settings: Settings, redis_client: redis.Redis) -> None:
    with client_of(settings) as client:
        found = {row["exchange"]: row for row in client.get("/api/exchanges").get_json()["exchanges"]}
    assert list(found) == ["binance", "alpaca", "yahoo"]
    binance = found["binance"]
    assert (binance["title"], binance["calendars"], binance["streamed"]) == ("Binance", ["24/7"], True)
    assert binance["timeframes"] == ["1m", "5m", "15m", "1h", "4h", "1d"]
    assert binance["instruments"] == {"active": 5, "known": 5}
    assert binance["markets"]["24/7"]["state"] == "open"
    assert (found["yahoo"]["delay_s"], found["yahoo"]["streamed"]) == (900, False)


def test_a_missing_key_is_named(settings: Settings, redis_client: redis.Redis) -> None:
    with client_of(settings, market="live") as client:
        found = {row["exchange"]: row for row in client.get("/api/exchanges").get_json()["exchanges"]}
    assert (found["alpaca"]["feed"], found["alpaca"]["missing"]) == ("no_key", "ALPACA_API_KEY and ALPACA_SECRET_KEY")
