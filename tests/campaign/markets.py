"""Three simulated markets and the whole platform on servers of its own; what it stored against what was true."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa

from app.config import load_settings
from app.domain.bars import Bar, State
from app.domain.instruments import RULES, Exchange, Instrument
from app.domain.timeframes import Timeframe
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.local.runfile import sandbox_urls
from app.storage import candles, catalog, holes, migrate
from app.storage.engine import make_engine
from tests.processes import Processes, processes
from tests.sandbox import RunningSandbox, start_sandbox

WATCHED = {
    "binance": ("BTC/USDT", "ETH/USDT", "ADA/USDT"),
    "alpaca": ("AAPL", "TSLA", "META"),
    "yahoo": ("THYAO.IS", "SISE.IS"),
}
WORKERS = ("trades", "bars", "history")
# Budgets are in wall time and the market runs many times as fast; the exchange's own limits are its faults here.
LIFTED = {
    "BINANCE_WEIGHT_PER_MINUTE": 100_000,
    "ALPACA_REQUESTS_PER_MINUTE": 100_000,
    "YAHOO_REQUESTS_PER_MINUTE": 100_000,
    "START_DAILY_DAYS": 5,
}


@dataclass
class Markets:
    """The running platform."""

    run: Processes
    sandbox: RunningSandbox
    engine: sa.Engine
    postgres: PostgresServer
    redis: RedisServer
    broker: RedisServer  # the same one, unless it is to be apart
    watched: list[Instrument] = field(default_factory=list)

    def start_workers(self) -> None:
        """Every process of the platform but the web."""
        for name in WORKERS:
            self.run.worker(name)
        self.run.beat()
        self.start_streamers()

    def start_streamers(self) -> None:
        """Both streamers."""
        for exchange in ("binance", "alpaca"):
            self.run.start(f"streamer-{exchange}", "-m", "streamers", exchange)

    def now_ms(self) -> int:
        """Exchange time."""
        return int(self.sandbox.get("/sandbox/clock")["exchange_us"]) // 1000

    def wait_for(self, time_ms: int, *, speed: float) -> None:
        """Returns when the exchange's clock has come to `time_ms`."""
        while (left_ms := time_ms - self.now_ms()) > 0:
            time.sleep(min(5.0, left_ms / 1000 / speed + 0.05))

    def counters(self) -> dict[str, int]:
        """Everything counted, by reason."""
        client = redis.Redis.from_url(self.redis.url)
        try:
            return {name.decode(): int(value) for name, value in client.hgetall("system:counters").items()}
        finally:
            client.close()

    def health(self) -> dict[str, Any]:
        """The heartbeats."""
        client = redis.Redis.from_url(self.redis.url)
        try:
            return {name.decode(): json.loads(value) for name, value in client.hgetall("system:health").items()}
        finally:
            client.close()

    def await_truth(self, lo_ms: int, hi_ms: int, *, seconds: float) -> float:
        """Waits until everything of [lo, hi) is stored, equal to the truth and verified; returns the wall seconds."""
        begun, problems = time.monotonic(), ["not looked yet"]
        while problems:
            if time.monotonic() - begun > seconds:
                said = "\n".join(problems[:40])
                raise AssertionError(
                    f"after {seconds} s, {len(problems)} problems:\n{said}\n{self.counters()}\n{self.run.said()}"
                )
            time.sleep(1.0)
            problems = self.problems(lo_ms, hi_ms)
        return time.monotonic() - begun

    def problems(self, lo_ms: int, hi_ms: int) -> list[str]:
        """What is not yet as it should be in [lo, hi)."""
        with self.engine.begin() as connection:
            found = [
                f"hole {hole.instrument_id} {_minute(hole.lo_ms)}–{_minute(hole.hi_ms)} {hole.cause} ({hole.attempts})"
                for hole in holes.open_holes(connection, due_only=False)
                if hole.lo_ms < hi_ms
            ]
        for instrument in self.watched:
            for tf in Timeframe:
                found += self._compare(instrument, tf, lo_ms, hi_ms)
        return found

    def _compare(self, instrument: Instrument, tf: Timeframe, lo_ms: int, hi_ms: int) -> Iterator[str]:
        query = f"&start={lo_ms}&end={hi_ms - tf.ms + 1}"
        path = (
            f"/sandbox/truth?exchange={instrument.exchange.value}&symbol={instrument.wire_symbol}&timeframe={tf.value}"
        )
        truth = {bar["time"]: bar for bar in self.sandbox.get(path + query)["bars"]}
        truth = {t: bar for t, bar in truth.items() if t >= lo_ms and t + tf.ms <= hi_ms}
        with self.engine.begin() as connection:
            stored = candles.read(
                connection, instrument.id, tf, start_ms=lo_ms, end_ms=hi_ms - tf.ms + 1, limit=100_000
            )
        ours = {bar.time_ms: bar for bar in stored}
        label = f"{instrument.key} {tf.value}"
        for time_ms in sorted(truth.keys() | ours.keys()):
            if time_ms not in ours:
                yield f"{label} {_minute(time_ms)} is missing"
            elif time_ms not in truth:
                yield f"{label} {_minute(time_ms)} is not true: {ours[time_ms]}"
            elif unequal := _unequal(ours[time_ms], truth[time_ms], RULES[instrument.exchange].compared):
                yield f"{label} {_minute(time_ms)} differs in {unequal}: {ours[time_ms]}"
            elif ours[time_ms].state is not State.VERIFIED:
                yield f"{label} {_minute(time_ms)} is {ours[time_ms].state.name}"


def _unequal(bar: Bar, truth: dict[str, Any], fields: Sequence[str]) -> list[str]:
    return [name for name in fields if _number(getattr(bar, name)) != _number(truth[name])]


def _number(value: Any) -> Decimal:
    return round(Decimal(str(value)), 8)


def _minute(time_ms: int) -> str:
    return time.strftime("%d %H:%M", time.gmtime(time_ms / 1000))


@contextmanager
def markets(
    folder: Path,
    *,
    watched: dict[str, tuple[str, ...]] = WATCHED,
    environment: dict[str, Any] | None = None,
    own_broker: bool = False,
    **market: Any,
) -> Iterator[Markets]:
    """PostgreSQL, Redis, the simulated markets (paused) and an empty platform; nothing of ours runs yet."""
    postgres, cache = PostgresServer(folder / "pg"), RedisServer(folder / "redis")
    broker = RedisServer(folder / "broker") if own_broker else cache
    symbols, stocks = ",".join(watched["binance"]), ",".join((*watched["alpaca"], *watched["yahoo"]))
    with start_sandbox(symbols=symbols, stocks=stocks, paused=True, **market) as sandbox:
        try:
            postgres.start()
            cache.start()
            if own_broker:
                broker.start()
            migrate.upgrade(postgres.url)
            settings = load_settings(
                database_url=postgres.url, redis_url=cache.url, celery_broker_url=broker.url, data_dir=folder,
                log_dir=folder / "logs", visibility_timeout_s=20, _env_file=None, **sandbox_urls(sandbox.url),
            )  # fmt: skip
            engine = make_engine(settings, process="campaign")
            chosen = _watch(engine, watched)
            with processes(settings, **{**LIFTED, **(environment or {})}) as run:
                yield Markets(run, sandbox, engine, postgres, cache, broker, chosen)
            engine.dispose()
        finally:
            if own_broker:
                broker.stop()
            cache.stop()
            postgres.stop()


def _watch(engine: sa.Engine, watched: dict[str, tuple[str, ...]]) -> list[Instrument]:
    wanted = {(Exchange(exchange), symbol) for exchange, symbols in watched.items() for symbol in symbols}
    with engine.begin() as connection:
        for item in catalog.instruments(connection):
            catalog.set_active(connection, item.id, (item.exchange, item.symbol) in wanted)
        return catalog.instruments(connection, active_only=True)
