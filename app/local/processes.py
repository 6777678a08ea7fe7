"""The platform's process table: what `up` starts, with which arguments, and how each one shows that it serves."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.config import ROOT, Settings
from app.local.child import ChildSpec
from app.local.orphans import MARK
from app.local.runfile import Run, sandbox_urls

PROBE_S = 0.5
FEEDS, WORK, MARKET = 0, 1, 2  # the stages of stopping
# A worker's time to finish what it has begun; then it is told to give the rest back to the queue, for which it takes
# celery_config's worker_soft_shutdown_timeout and a moment.
WARM_S, COLD_S = 3.0, 5.0
OVERLAP_S = 1.0  # two streamers are heard for so long: what the old one was sent has come


def child_environment(settings: Settings, run: Run) -> dict[str, str]:
    """The environment of every child: ours, with the platform's addresses in it."""
    environment = dict(os.environ)
    environment |= {
        MARK: str(settings.data_dir),
        "DATA_DIR": str(settings.data_dir),
        "LOG_DIR": str(settings.log_dir),
        "LOG_CONSOLE": "0",
        "METRICS_DIR": str(settings.metrics_folder),
        "METRICS_PORT": "0",  # all are on this machine: the web has everybody's
        "DATABASE_URL": run.database_url,
        "REDIS_URL": run.redis_url,
        "CELERY_BROKER_URL": run.celery_broker_url,
        "MARKET": settings.market,
        "WEB_HOST": settings.web_host,
        "WEB_PORT": str(settings.web_port),
        "FLOWER_PORT": str(settings.flower_port),
        "SANDBOX_HOST": settings.sandbox_host,
        "SANDBOX_PORT": str(settings.sandbox_port),
        "PYTHONUNBUFFERED": "1",
        # One core's worth of threads and arenas a process: the platform scales by processes.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    if run.sandbox_url:
        environment["SANDBOX_SINCE"] = str(time.time())
        environment |= {name.upper(): url for name, url in sandbox_urls(run.sandbox_url).items()}
    return environment


def process_table(settings: Settings, run: Run, *, run_dir: Path, streamers: bool = True) -> list[ChildSpec]:
    """Every child of the platform, in the order of the first start."""
    market = ("sandbox",) if run.sandbox_url else ()
    table = []
    if run.sandbox_url:
        table.append(_sandbox(run))
    for shard in range(settings.trade_shards):
        table.append(_worker(settings, f"worker-trades{_suffix(settings, shard)}", f"trades.{shard}", 1, run_dir))
    table.append(_web(settings, run))
    table.append(_worker(settings, "worker-bars", "bars,indicators", 2, run_dir))
    if streamers:
        table += [_binance(settings, shard, needs=market) for shard in range(settings.stream_shards)]
        if settings.alpaca_keys is not None:
            table.append(_streamer(settings, "alpaca", needs=market))  # one: a key has one connection
    table.append(_beat(settings, run_dir, needs=market))
    # Two workers: however long a backfill is, it holds back neither a repair nor a poll.
    table.append(_worker(settings, "worker-history", "polling,upkeep", 1, run_dir, needs=market))
    table.append(_worker(settings, "worker-backfill", "backfill", 1, run_dir, needs=market))
    table.append(_flower(settings, run))
    # Of each child, not of all: those of another number run on beside them while a restart changes it, or fails to.
    shards = {"TRADE_SHARDS": str(settings.trade_shards), "STREAM_SHARDS": str(settings.stream_shards)}
    return [replace(spec, env={**spec.env, **shards}) for spec in table]


def missing(settings: Settings) -> list[str]:
    """What is not started for want of a setting, and how to set it; Binance and Yahoo need no key."""
    if settings.alpaca_keys is not None:
        return []
    return ["US stocks are not collected: set ALPACA_API_KEY and ALPACA_SECRET_KEY (free at alpaca.markets)"]


def _suffix(settings: Settings, shard: int) -> str:
    return f"-{shard}" if settings.trade_shards > 1 else ""


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "celery_config", *arguments)


def _worker(
    settings: Settings, name: str, queues: str, concurrency: int, run_dir: Path, *, needs: tuple[str, ...] = ()
) -> ChildSpec:
    node = name.removeprefix("worker-").replace("-", "")
    argv = _celery(
        "worker", "-Q", queues, "-c", str(concurrency), "-n", f"{node}@%h", "-E", "--without-gossip", "--without-mingle"
    )
    return ChildSpec(
        name, argv, _file(run_dir, name), env={"PROCESS_NAME": name}, needs=needs, stage=WORK, stop_s=WARM_S,
        cold_signal=signal.SIGQUIT, cold_s=COLD_S,
        connections=concurrency * settings.db_connections,  # its pool children's; the worker itself has none
        beside=True, again={f"{node}@%h": f"{node}-b@%h"},
    )  # fmt: skip


def _streamer(settings: Settings, exchange: str, *, needs: tuple[str, ...]) -> ChildSpec:
    argv = (sys.executable, "-m", "streamers", exchange)
    most = settings.db_connections
    return ChildSpec(f"streamer-{exchange}", argv, 2.0, needs=needs, stage=FEEDS, stop_s=2.5, connections=most)


def _binance(settings: Settings, shard: int, *, needs: tuple[str, ...]) -> ChildSpec:
    """One shard of Binance's streamers. Two of a shard may run: the ledger settles what both deliver."""
    spec, n = _streamer(settings, "binance", needs=needs), settings.stream_shards
    if n > 1:
        spec = replace(spec, name=f"{spec.name}-{shard}", argv=(*spec.argv, "--shard", f"{shard}/{n}"))
    return replace(spec, beside=True, overlap_s=OVERLAP_S)


def _beat(settings: Settings, run_dir: Path, *, needs: tuple[str, ...]) -> ChildSpec:
    schedule = settings.data_dir / "beat" / "schedule"
    schedule.parent.mkdir(parents=True, exist_ok=True)
    argv = _celery("beat", "-s", str(schedule), "--pidfile=")
    return ChildSpec(
        "beat", argv, _file(run_dir, "beat"), env={"PROCESS_NAME": "beat"}, needs=needs, stage=WORK, stop_s=2.0,
        beside=True, again={str(schedule): f"{schedule}-b"},  # one file has one writer
    )  # fmt: skip


def _sandbox(run: Run) -> ChildSpec:
    argv = (sys.executable, "-m", "app.sandbox")
    return ChildSpec("sandbox", argv, _http(f"{run.sandbox_url}/api/v3/ping"), stage=MARKET, stop_s=1.5)


def _web(settings: Settings, run: Run) -> ChildSpec:
    conf = str(ROOT / "webapp" / "gunicorn_conf.py")
    argv = (sys.executable, "-m", "gunicorn", "-c", conf, "webapp:create_app()")
    # The one of DATA_DIR too, which no environment has; only this process needs to know it.
    known = settings.api_token.get_secret_value()
    token = {"API_TOKEN": known} if known else {}
    return ChildSpec(
        "web", argv, _http(f"{run.web_url}/api/health"), env={"PROCESS_NAME": "web", **token}, stage=WORK, stop_s=3.5,
        connections=settings.web_workers * settings.db_web_connections, beside=True,
    )  # fmt: skip


def _flower(settings: Settings, run: Run) -> ChildSpec:
    state = settings.data_dir / "flower" / "state"
    state.parent.mkdir(parents=True, exist_ok=True)
    argv = _celery(
        "flower", "--address=127.0.0.1", f"--port={settings.flower_port}", "--max_tasks=5000", "--persistent=True",
        f"--db={state}", "--state_save_interval=60000", f"--conf={ROOT / 'app' / 'local' / 'flower_conf.py'}",
    )  # fmt: skip
    # The one of DATA_DIR too, which no environment has; never an argument, which everybody could read.
    login = {"FLOWER_USER": settings.flower_user, "FLOWER_PASSWORD": settings.flower_password.get_secret_value()}
    return ChildSpec(
        "flower", argv, _http(f"{run.flower_url}/healthcheck"), env={"PROCESS_NAME": "flower", **login}, stage=WORK,
        stop_s=3.5,
    )  # fmt: skip


def _file(run_dir: Path, name: str) -> Callable[[], bool]:
    """A child that makes its READY_FILE says itself when it serves."""
    return (run_dir / f"{name}.ready").exists


def _http(url: str) -> Callable[[], bool]:
    """Any answer over HTTP means that the child serves; what it says is for `status` to judge."""

    def answers() -> bool:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=PROBE_S).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False  # not listening yet, or still importing
        return True

    return answers
