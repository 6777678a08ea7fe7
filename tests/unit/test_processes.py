"""The process table of `up`: what is started, in which environment, and stopped in which order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from app.config import Settings, load_settings
from app.local.postgres import PostgresServer
from app.local.processes import child_environment, missing, process_table
from app.local.report import address_table, without_password
from app.local.room import most_connections
from app.local.runfile import Run

SANDBOX = "http://127.0.0.1:8010"


def run_of(settings: Settings, sandbox: str = SANDBOX) -> Run:
    return Run(
        pid=1, created=0.0, web_url="http://127.0.0.1:8000", flower_url="http://127.0.0.1:5555", sandbox_url=sandbox,
        database_url="postgresql+psycopg2://postgres:secret@127.0.0.1:1/market", redis_url="redis://:secret@127.0.0.1:2/0",
        celery_broker_url="redis://:secret@127.0.0.1:2/0", log_dir=str(settings.log_dir), market=settings.market,
    )  # fmt: skip


def make(tmp_path: Path, **values: Any) -> Settings:
    return load_settings(_env_file=None, data_dir=tmp_path, log_dir=tmp_path / "logs", **values)


def test_the_whole_platform_in_order_of_stopping(tmp_path: Path) -> None:
    settings = make(tmp_path)
    table = process_table(settings, run_of(settings), run_dir=tmp_path)
    assert {spec.name: spec.stage for spec in table} == {
        "sandbox": 2, "worker-trades": 1, "web": 1, "worker-bars": 1, "streamer-binance": 0, "streamer-alpaca": 0,
        "beat": 1, "worker-history": 1, "worker-backfill": 1, "flower": 1,
    }  # fmt: skip
    times = [(spec.stage, spec.stop_s + (spec.cold_s if spec.cold_signal else 0)) for spec in table]
    worst = [max(seconds for at, seconds in times if at == stage) for stage in range(3)]
    assert sum(worst) < 13  # of 15 s; the databases need the rest


def test_live_markets_need_no_sandbox_and_feeds_can_be_left_out(tmp_path: Path) -> None:
    settings = make(tmp_path, market="live")
    names = [spec.name for spec in process_table(settings, run_of(settings, ""), run_dir=tmp_path, streamers=False)]
    assert not {"sandbox", "streamer-binance"} & set(names)
    assert "BINANCE_API_URL" not in {**child_environment(settings, run_of(settings, ""))}


def test_without_its_key_a_market_is_left_out_and_one_line_says_what_to_set(tmp_path: Path) -> None:
    live = make(tmp_path, market="live")
    names = {spec.name for spec in process_table(live, run_of(live, ""), run_dir=tmp_path)}
    assert "streamer-binance" in names
    assert "streamer-alpaca" not in names
    (line,) = missing(live)
    assert "ALPACA_API_KEY and ALPACA_SECRET_KEY" in line
    keyed = make(tmp_path, market="live", alpaca_api_key="key", alpaca_secret_key="secret")
    assert "streamer-alpaca" in {spec.name for spec in process_table(keyed, run_of(keyed, ""), run_dir=tmp_path)}
    assert missing(keyed) == missing(make(tmp_path)) == []


def test_a_backfill_shares_no_worker_with_repair_and_polling(tmp_path: Path) -> None:
    settings = make(tmp_path)
    table = process_table(settings, run_of(settings), run_dir=tmp_path)
    queues = [set(spec.argv[spec.argv.index("-Q") + 1].split(",")) for spec in table if "-Q" in spec.argv]
    assert {"backfill"} in queues
    assert set().union(*queues) == {"trades.0", "bars", "indicators", "polling", "upkeep", "backfill"}
    assert sum(len(each) for each in queues) == 6


def test_each_shard_of_trades_has_a_worker_of_its_own(tmp_path: Path) -> None:
    settings = make(tmp_path, trade_shards=2)
    table = process_table(settings, run_of(settings), run_dir=tmp_path)
    queues = [spec.argv[spec.argv.index("-Q") + 1] for spec in table if spec.name.startswith("worker-trades")]
    assert queues == ["trades.0", "trades.1"]
    # Each child keeps the numbers it was started with, whatever those that follow have.
    assert {(spec.env["TRADE_SHARDS"], spec.env["STREAM_SHARDS"]) for spec in table} == {("2", "1")}
    assert not {"TRADE_SHARDS", "STREAM_SHARDS"} & (child_environment(settings, run_of(settings)).keys() - os.environ)


def test_children_get_the_sandbox_in_place_of_the_exchange(tmp_path: Path) -> None:
    settings = make(tmp_path)
    environment = child_environment(settings, run_of(settings))
    assert environment["BINANCE_API_URL"] == SANDBOX
    assert environment["BINANCE_STREAM_URL"] == "ws://127.0.0.1:8010"


def test_no_password_is_shown(tmp_path: Path) -> None:
    settings = make(tmp_path)
    assert "secret" not in address_table(settings, run_of(settings), seconds=1)
    assert without_password("redis://:secret@host:1/0") == "redis://host:1/0"
    assert without_password("postgresql+psycopg2://me:secret@host/x") == "postgresql://me@host/x"


def test_connections_to_the_database_stay_between_10_and_50(tmp_path: Path) -> None:
    settings = make(tmp_path)
    table = process_table(settings, run_of(settings), run_dir=tmp_path)
    assert {spec.name: spec.connections for spec in table} == {
        "sandbox": 0, "worker-trades": 2, "web": 10, "worker-bars": 4, "streamer-binance": 2, "streamer-alpaca": 2,
        "beat": 0, "worker-history": 2, "worker-backfill": 2, "flower": 0,
    }  # fmt: skip
    assert most_connections(settings, table) == 26  # with a command beside them
    assert 10 <= most_connections(settings, table) <= 50 < int(PostgresServer.OPTIONS["max_connections"])
    many = make(tmp_path, trade_shards=8)
    assert 10 <= most_connections(many, process_table(many, run_of(many), run_dir=tmp_path)) <= 50
    for spec in table:  # each child of a worker's pool has its own
        if "-c" in spec.argv and "worker" in spec.argv:
            assert spec.connections == int(spec.argv[spec.argv.index("-c") + 1]) * settings.db_connections
