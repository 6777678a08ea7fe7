"""Every alert on a running platform, scraped by a real Prometheus: what a rule watches is broken, it fires; healed, it
clears. Of the rules a minute is a second here, and of the market as many as SPEED."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from celery import Celery

from app.cache.charts import memory
from app.cache.trade_queue import make_publisher
from app.config import load_settings
from app.local.servers import free_port
from tests.campaign.markets import Markets, markets
from tests.disks import small_disk
from tests.monitoring.prometheus import Prometheus, prometheus
from tests.monitoring.rulebook import rules, used
from tests.processes import until

SPEED = 10.0
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)  # a Saturday: Binance alone is open
WATCHED = {"binance": ("BTC/USDT", "ETH/USDT"), "alpaca": ("AAPL",), "yahoo": ("THYAO.IS",)}
SERVED = {"worker-trades": "trades", "worker-bars": "bars", "worker-history": "history"}
DISK_BYTES = 1 << 20
QUIET_S, LOOK_S = 4.0, 0.2


class Watched:
    """The platform as containers would run it, each process with metrics of its own, and who watches it."""

    def __init__(self, parts: Markets, disk: Path, *, mounted: bool) -> None:
        self.parts, self.disk, self.mounted, self.fired = parts, disk, mounted, set[str]()
        self.ports = {name: free_port() for name in (*SERVED, "beat", "streamer-binance", "web")}
        self.client: redis.Redis = redis.Redis.from_url(parts.redis.url)
        self.watcher: Prometheus | None = None

    def start(self, name: str) -> None:
        run = self.parts.run
        folder = run.folder / f"metrics-{name}"
        run.environment |= {"METRICS_DIR": str(folder), "METRICS_PORT": str(self.ports[name]), "PROCESS_NAME": name}
        if name in SERVED:
            run.worker(SERVED[name], node=name)
        elif name == "beat":
            run.beat()
        elif name == "web":
            run.environment |= {"WEB_PORT": str(self.ports[name]), "DISK_PATHS": str(self.disk)}
            run.environment |= {"PRETENDED_DISK": str(self.disk), "PRETENDED_BYTES": str(DISK_BYTES)}
            gunicorn = "gunicorn" if self.mounted else "tests.monitoring.pretended_disk"
            run.start(name, "-m", gunicorn, "-c", "webapp/gunicorn_conf.py", "webapp:create_app()")
        else:
            run.start(name, "-m", "streamers", "binance")

    def pause(self, *names: str, number: signal.Signals) -> None:
        """A signal to the processes with all their children."""
        for name in names:
            os.killpg(self.parts.run.running[name].pid, number)

    def fires(self, *alerts: str, seconds: float = 90) -> None:
        """Waits until each of them has fired."""
        assert self.watcher is not None
        missing = set(alerts)
        end = time.monotonic() + seconds
        while missing and time.monotonic() < end:
            missing -= self.watcher.firing().keys()
            time.sleep(0.2)
        assert not missing, f"{missing} not within {seconds} s\n{self._seen()}"
        self.fired |= set(alerts)

    def clears(self, *alerts: str, seconds: float = 90) -> None:
        """Waits until none of them fires, or none at all, for a while: a scrape that fails clears for a moment."""
        assert self.watcher is not None
        end = time.monotonic() + seconds
        quiet = 0.0
        while quiet < QUIET_S:
            found = self.watcher.firing()
            left = found.keys() & set(alerts) if alerts else set(found)
            assert time.monotonic() < end, f"{left} still after {seconds} s\n{self._seen()}"
            quiet = 0.0 if left else quiet + LOOK_S
            time.sleep(LOOK_S)

    def knows_all_that_rules_ask_for(self, *, seconds: float) -> None:
        """Waits until everything that a rule reads has been scraped."""
        watcher = self.watcher
        assert watcher is not None
        ours = {rule["alert"] for rule in rules()}
        asked = {name for look in used() if look.where in ours for name in look.samples}
        asked -= {"market_process_ready"}  # of the children of `up`, which does not run here
        assert len(asked) > 10
        end = time.monotonic() + seconds
        while left := asked - set(watcher.get("label/__name__/values")):
            assert time.monotonic() < end, f"nobody exports {left}\n{self._seen()}"
            time.sleep(0.2)

    def _seen(self) -> str:
        assert self.watcher is not None
        wanted = {name for look in used() for name in look.samples if not name.endswith(("_bucket", "_sum", "_count"))}
        query = f'{{__name__=~"{"|".join(sorted(wanted))}|up"}} != 0'
        return f"{self.watcher.firing()}\n{self.watcher.series(query)}\n{self.parts.run.said()}"


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    market = {"start": f"{START:%Y-%m-%dT%H:%M}", "speed": SPEED, "history_hours": 12, "rate": 4, "stock_rate": 1}
    environment = {
        "START_BACKFILL_HOURS": 1, "START_DAILY_DAYS": 0, "OUTAGE_S": 3, "FLUSH_INTERVAL_MS": 50, "LOG_CONSOLE": 1,
    }  # fmt: skip
    with (
        small_disk(folder / "disk", DISK_BYTES) as mounted,
        markets(folder, watched=WATCHED, environment=environment, own_broker=True, **market) as parts,
    ):
        here = Watched(parts, folder / "disk", mounted=mounted is not None)
        for name in here.ports:
            here.start(name)
        until(lambda: parts.health().get("streamer-binance", {}).get("runs", 0) > 0, seconds=90, what="connected")
        parts.sandbox.start()
        with prometheus(folder / "prometheus", here.ports) as here.watcher:
            yield here
        here.client.close()


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_alert_fires_and_clears(tmp_path: Path) -> None:
    with watched(tmp_path) as here:
        began = time.monotonic()
        sandbox = here.parts.sandbox
        until(lambda: _old_bars(here.parts) > 60, seconds=90, what="an hour of history is there and verified")
        here.knows_all_that_rules_ask_for(seconds=90)
        here.clears(seconds=120)  # a start is not quiet by these clocks
        print(f"\nquiet after {time.monotonic() - began:.0f} s")

        # The workers stand still; history refuses, and the exchange's word is taken from bars; a disk fills.
        sandbox.fault("status", exchange="binance", door="rest", path="klines", status=429, retry_after_s=1)
        _unverify(here.parts)
        (here.disk / "full").write_bytes(b"\0" * (DISK_BYTES * 95 // 100))
        here.pause("worker-trades", "worker-bars", number=signal.SIGSTOP)
        here.fires("QueueGrowing", "ClosingLag", "TargetDown", "DiskNearlyFull")
        here.pause("worker-trades", "worker-bars", number=signal.SIGCONT)
        celery = make_publisher(load_settings(celery_broker_url=here.parts.broker.url, _env_file=None))
        _send_nonsense(celery)
        here.fires("CommitLag", "MessagesParked", "TasksFailing")
        here.clears("QueueGrowing", "ClosingLag", "TargetDown", "CommitLag")
        print(f"workers came back after {time.monotonic() - began:.0f} s")

        # The exchange says nothing; then the streamer is killed, and what is missed cannot be repaired.
        sandbox.fault("silence", exchange="binance", duration_s=120)
        here.fires("FeedSilent")
        here.parts.run.kill("streamer-binance")
        here.fires("FeedDown", "ProcessMissing", "HoleOpen", "VerificationLow")
        print(f"all is broken after {time.monotonic() - began:.0f} s")
        sandbox.post("/sandbox/faults/clear")
        here.start("streamer-binance")
        here.client.delete("parked")
        (here.disk / "full").unlink()
        here.clears(seconds=120)
        print(f"all is well again after {time.monotonic() - began:.0f} s")

        # Redis fills while the broker is away; then both stores are.
        _fill(here.client)
        here.parts.broker.stop()
        here.fires("BrokerAway", "RedisNearlyFull")
        here.parts.broker.start()
        here.client.delete("filling")
        here.clears(seconds=120)
        print(f"the broker came back after {time.monotonic() - began:.0f} s")
        here.parts.engine.dispose()
        here.parts.redis.stop()
        here.parts.postgres.stop()
        here.fires("RedisAway", "DatabaseAway")
        here.parts.postgres.start()
        here.parts.redis.start()
        here.clears(seconds=120)
        print(f"the stores came back after {time.monotonic() - began:.0f} s")
        assert here.fired == {rule["alert"] for rule in rules()}


def _old_bars(parts: Markets) -> int:
    with parts.engine.begin() as connection:
        query = "SELECT count(*) FROM candles_1m WHERE state = 2 AND time < :now"
        return int(connection.scalar(sa.text(query), {"now": START - timedelta(minutes=10)}) or 0)


def _unverify(parts: Markets) -> None:
    """Ten bars are as if the exchange had not yet said anything of them."""
    with parts.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE candles_1m SET state = 1 WHERE state = 2 AND time < :hi AND time >= :lo"),
            {"hi": START - timedelta(minutes=10), "lo": START - timedelta(minutes=20)},
        )


def _fill(client: redis.Redis) -> None:
    """Redis holds nine tenths of what it may, and has room to work in."""
    used, _ = memory(client)
    client.config_set("maxmemory", 10 * used)
    while memory(client)[0] < 9 * used:
        client.rpush("filling", b"x" * (used // 20))


def _send_nonsense(celery: Celery) -> None:
    """A batch that is none, and a task without what it needs."""
    celery.send_task("tasks.bars.ingest", args=(b"nonsense",), queue="trades.0", ignore_result=True)
    celery.send_task("tasks.backfill.run", args=(), queue="backfill", ignore_result=True)
