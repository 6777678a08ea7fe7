"""The recorded files through the command line, real Celery workers and REST: bars equal to the independent ones."""

from __future__ import annotations

import csv
import io
import time
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.config import Settings
from app.domain.timeframes import ROLLUPS, Timeframe
from app.local.redis import RedisServer
from tests.factories import FILES, numbers, recorded_minutes
from tests.integration.test_core_exact import decimal_roll_up
from tests.processes import Processes, processes, until
from webapp import create_app

FIRST_MS = 1570752000000


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("import-redis")) as server:
        yield server


@pytest.fixture(scope="module")
def here(settings: Settings, own_redis: RedisServer) -> Settings:
    return settings.model_copy(update={"redis_url": own_redis.url, "visibility_timeout_s": 4})


@pytest.fixture(scope="module")
def run(here: Settings) -> Iterator[Processes]:
    with processes(here) as running:
        running.worker("trades")
        running.worker("bars")
        running.beat()
        yield running


@pytest.fixture
def empty(here: Settings, engine: sa.Engine) -> None:
    """No bar, no ledger: each test imports from nothing, and nothing of the test before is still on its way."""
    client = redis.Redis.from_url(here.redis_url)

    def quiet() -> bool:
        with engine.begin() as connection:
            marks = connection.scalar(sa.text("SELECT count(*) FROM touched"))
        return not (marks or client.llen("trades.0") or client.hlen("unacked"))

    until(quiet, seconds=180, what="the platform came to rest")
    with engine.begin() as connection:
        for tf in Timeframe:
            connection.execute(sa.text(f'TRUNCATE "candles_{tf.value}", "indicators_{tf.value}"'))
        connection.execute(sa.text("TRUNCATE ledger, feeds, feed_batches, touched, coverage, holes"))
    for key in client.scan_iter("chart*"):
        client.delete(key)
    client.close()


@pytest.fixture(scope="module")
def web(here: Settings) -> Iterator[FlaskClient]:
    app = create_app(here)
    yield app.test_client()


def chart(web: FlaskClient, timeframe: str) -> dict[str, Any]:
    answer = web.get(f"/api/charts/XRP-ETH?exchange=binance&timeframe={timeframe}&limit=5000")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def shown(bar: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(bar[name] for name in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count"))


def check(web: FlaskClient, data: Path) -> None:
    minutes = recorded_minutes(data)
    bars = chart(web, "1m")["bars"]
    traded = {bar["time"]: shown(bar) for bar in bars if bar["trade_count"]}
    assert traded == {time_ms: tuple(map(float, numbers(row))) for time_ms, row in minutes.items()}
    assert len(traded) == 2469
    flat = [bar for bar in bars if not bar["trade_count"]]
    assert len(flat) == 1091 and {bar["origin"] for bar in flat} == {"flat"}
    assert [bar["time"] for bar in bars] == list(range(FIRST_MS, FIRST_MS + 3560 * 60_000, 60_000))
    for before, bar in pairwise(bars):
        if not bar["trade_count"]:
            assert shown(bar) == (before["close"],) * 4 + (0, 0, 0)
    assert all(bar["completed"] for bar in bars)
    for tf in ROLLUPS:
        rolled = {bar["time"]: shown(bar) for bar in chart(web, tf.value)["bars"] if bar["trade_count"]}
        expected = decimal_roll_up(minutes, tf)
        assert rolled == {time_ms: tuple(map(float, row)) for time_ms, row in expected.items()}, tf


def done(result: Any, run: Processes, *, new: int, known: int) -> None:
    assert result.returncode == 0, result.stdout + result.stderr + run.said()
    assert f"read {new + known:,}" in result.stdout and f"new {new:,}" in result.stdout, result.stdout
    assert f"already known {known:,}" in result.stdout


def command(data: Path, names: tuple[str, ...]) -> list[object]:
    return ["import", "--exchange", "binance", "--symbol", "XRP/ETH", *(data / name for name in names)]


def test_import_then_import_again(run: Processes, web: FlaskClient, shared_data: Path, empty: None) -> None:
    done(run.cli(*command(shared_data, FILES)), run, new=12_477, known=0)
    check(web, shared_data)
    done(run.cli(*command(shared_data, FILES)), run, new=0, known=12_477)
    check(web, shared_data)
    assert all(bar["revision"] == 0 for bar in chart(web, "1m")["bars"] if bar["trade_count"])


@pytest.mark.slow
def test_import_one_file_at_a_time_backwards(run: Processes, web: FlaskClient, shared_data: Path, empty: None) -> None:
    for name in reversed(FILES):
        result = run.cli(*command(shared_data, (name,)))
        assert result.returncode == 0, result.stdout + result.stderr + run.said()
    check(web, shared_data)


@pytest.mark.slow
def test_rows_in_reverse_order(
    run: Processes, web: FlaskClient, shared_data: Path, empty: None, tmp_path: Path
) -> None:
    rows: list[list[str]] = []
    for name in FILES:
        with zipfile.ZipFile(shared_data / name) as archive, archive.open(archive.namelist()[0]) as raw:
            rows += list(csv.reader(io.TextIOWrapper(raw)))
    backwards = tmp_path / "XRPETH-aggTrades-backwards.csv"
    with backwards.open("w", newline="") as file:
        csv.writer(file).writerows(reversed(rows))
    result = run.cli("import", "--exchange", "binance", "--symbol", "XRP/ETH", backwards)
    done(result, run, new=12_477, known=0)
    check(web, shared_data)


@pytest.mark.slow
def test_two_processes_at_once(run: Processes, web: FlaskClient, shared_data: Path, empty: None) -> None:
    run.worker("trades", node="trades-second")
    both = [run.cli_beside(*command(shared_data, FILES)), run.cli_beside(*command(shared_data, FILES[::-1]))]
    said = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    news = [
        int(line.split("new ")[1].split()[0].replace(",", ""))
        for text in said
        for line in text.splitlines()
        if "new " in line
    ]
    assert sum(news) == 12_477
    check(web, shared_data)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle(
    run: Processes, web: FlaskClient, shared_data: Path, empty: None, engine: sa.Engine
) -> None:
    """Small batches make many deliveries; the worker dies with one in its hands, another takes over."""
    for name in [name for name in run.running if name.startswith("trades")]:
        run.kill(name)
    run.worker("trades", node="trades-victim")
    run.environment["FLUSH_TRADES"] = "60"  # 208 batches
    importing = run.cli_beside(*command(shared_data, FILES))
    run.environment.pop("FLUSH_TRADES")

    def applied() -> int:
        with engine.begin() as connection:
            return int(connection.scalar(sa.text("SELECT count(*) FROM candles_1m WHERE trade_count > 0")) or 0)

    until(lambda: applied() > 50, every=0.02, seconds=180, what="the import began")
    run.kill("trades-victim")
    assert applied() < 2469, "the worker was to die in the middle"
    time.sleep(0.5)
    run.worker("trades", node="trades-heir")
    said = importing.communicate(timeout=400)[0]
    assert importing.returncode == 0, said + run.said()
    check(web, shared_data)


def test_indicators_equal_talib_over_the_whole_history(run: Processes, web: FlaskClient, shared_data: Path) -> None:
    """Whatever order the bars came in, the stored values are those of the whole series."""
    talib = pytest.importorskip("talib")
    answer = chart(web, "1m")
    closes = np.array([bar["close"] for bar in answer["bars"]])
    rows = {row["time"]: row for row in answer["indicators"]}
    assert len(rows) == len(closes)
    for name, expected, scale in (
        ("rsi_14", talib.RSI(closes, 14), 100.0),
        ("sma_200", talib.SMA(closes, 200), closes),
        ("ema_50", talib.EMA(closes, 50), closes),
        ("macd_signal", talib.MACD(closes, 12, 26, 9)[1], closes * 1e-3),
    ):
        stored = np.array(
            [np.nan if rows[bar["time"]][name] is None else rows[bar["time"]][name] for bar in answer["bars"]]
        )
        assert (np.isnan(stored) == np.isnan(expected)).all(), name
        good = ~np.isnan(expected)
        allowed = 1e-6 * np.maximum(np.abs(expected), scale)
        assert (np.abs(stored - expected)[good] <= allowed[good]).all(), name
