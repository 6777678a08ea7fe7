"""Backfills by real workers, from a server that notes every page: killed, limited, cancelled, many at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
import sqlalchemy as sa

from app.cache.trade_queue import make_publisher, start_backfills
from app.config import Settings, load_settings
from app.domain.history import Backfill
from app.domain.timeframes import MINUTE_MS
from app.local.redis import RedisServer
from app.storage import backfills
from tests.klines_server import Klines, klines_server, row
from tests.processes import Processes, processes, until

NOW = 1_735_689_600_000  # 2025-01-01
YEAR = 525_600


@pytest.fixture
def klines() -> Iterator[Klines]:
    with klines_server(Klines(NOW)) as facts:
        yield facts


@pytest.fixture
def run(settings: Settings, own_redis: RedisServer, engine: sa.Engine, klines: Klines) -> Iterator[Processes]:
    """The platform of one test: history workers and beat, started by the test itself."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("TRUNCATE candles_1m, candles_5m, coverage, backfills, touched, holes RESTART IDENTITY")
        )
        connection.execute(sa.text("UPDATE instruments SET active = exchange = 'binance'"))
    urls = {"redis_url": own_redis.url, "binance_api_url": klines.url, "visibility_timeout_s": 5}
    with processes(settings.model_copy(update=urls), BINANCE_WEIGHT_PER_MINUTE=10**9, NO_COLOR=1) as running:
        yield running


def items(engine: sa.Engine) -> list[Backfill]:
    with engine.begin() as connection:
        return backfills.recent(connection, limit=100)


def bars(engine: sa.Engine) -> int:
    """How many verified minutes there are, each with the server's own values."""
    with engine.begin() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM candles_1m WHERE state = 2")) or 0)


def resting_over(engine: sa.Engine) -> None:
    """As if the lease of a killed worker had run out."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE backfills SET not_before = now() WHERE state = 'running'"))


def queue(run: Processes, *arguments: str) -> str:
    done = run.cli("backfill", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr + run.said()
    return done.stdout


def kill_after(run: Processes, engine: sa.Engine, node: str, most: int) -> None:
    """SIGKILL to the worker once so many bars stand; its heir starts."""
    until(lambda: bars(engine) >= most, seconds=300, every=0.02, what=f"{most} bars")
    run.kill(node)
    resting_over(engine)


def check_year(engine: sa.Engine, klines: Klines, minutes: int, kills: int) -> None:
    """All bars are there and no page that was stored was asked for again."""
    assert bars(engine) == minutes
    served = [time_ms for _, first, last in klines.pages for time_ms in range(first, last + 1, MINUTE_MS)]
    assert len(set(served)) == minutes
    assert len(served) - minutes <= kills * 1000, "at most the page in flight of each kill was asked for twice"
    with engine.begin() as connection:
        columns = "extract(epoch FROM time)::bigint * 1000, open, close, volume::text"
        some = connection.execute(sa.text(f"SELECT {columns} FROM candles_1m ORDER BY random() LIMIT 500"))
        for time_ms, open_, close, volume in some:
            theirs = row(time_ms, MINUTE_MS)
            assert (open_, close, volume) == (float(theirs[1]), float(theirs[4]), theirs[5])


def rests(klines: Klines) -> bool:
    """Whether nobody asks for a page for as long as some would take."""
    before = len(klines.pages)
    time.sleep(2.0)
    return len(klines.pages) == before


@pytest.mark.slow
def test_killed_twice_in_the_middle(run: Processes, engine: sa.Engine, klines: Klines) -> None:
    klines.delay_s = 0.2  # over two seconds remain once it is killed the second time
    run.beat()
    run.worker("history", node="first")
    said = queue(run, "-s", "BTC/USDT", "--start", "2024-12-01", "--end", "2024-12-22", "--no-wait")
    assert said == "backfill 1 is queued: BTC/USDT 1m\n"
    kill_after(run, engine, "first", 8000)
    run.worker("history", node="second")
    kill_after(run, engine, "second", 18_000)
    assert items(engine)[0].state == "running"
    run.worker("history", node="third")
    until(lambda: items(engine)[0].state == "done", seconds=180, what="the backfill's end")
    check_year(engine, klines, 21 * 1440, 2)
    assert items(engine)[0].bars == 21 * 1440


@pytest.mark.timeout(400)
def test_all_symbols_at_once_watched_and_asked_for_again(run: Processes, engine: sa.Engine, klines: Klines) -> None:
    run.worker("history", concurrency=2)
    watched = run.cli("backfill", "--all", "--start", "2024-12-01", "--end", "2024-12-04")
    assert watched.returncode == 0, watched.stdout + watched.stderr + run.said()
    assert re.findall(r"backfill \d is queued: (\w+)/USDT 1m", watched.stdout) == ["BTC", "ETH", "SOL", "BNB", "ADA"]
    assert watched.stdout.count("is done: 4,320 bars") == 5
    assert bars(engine) == 5 * 4320 and len(klines.pages) == 25
    assert re.search(r"^all .* 100% +21,600 bars +[\d,]+/s", watched.stderr, re.MULTILINE), watched.stderr
    orders = [symbol for symbol, *_ in klines.pages]
    assert set(orders[:3]) < set(orders), "some wait for their turn"
    again = run.cli("backfill", "-s", "BTC/USDT", "-s", "eth-usdt", "--start", "2024-12-01", "--end", "2024-12-04")
    assert again.returncode == 0 and again.stdout.count("is done: 4,320 bars") == 2
    assert len(klines.pages) == 25
    table = run.cli("backfill", "--list").stdout.splitlines()
    assert len(table) == 8 and table[1].split()[:3] == ["7", "binance:ETH/USDT", "1m"] and table[1].split()[7] == "done"
    klines.pages.clear()
    assert "is done: 864 bars" in queue(
        run, "-s", "BTC/USDT", "-t", "5m", "--start", "2024-12-01", "--end", "2024-12-04"
    )


@pytest.mark.slow
def test_cancelled_by_the_command_and_left_by_ctrl_c(run: Processes, engine: sa.Engine, klines: Klines) -> None:
    klines.delay_s = 0.2
    run.worker("history")
    watching = run.cli_beside("backfill", "-s", "BTC/USDT", "--start", "2024-06-01")
    until(lambda: bars(engine) >= 2000, what="the first pages")
    watching.send_signal(2)
    said = watching.communicate(timeout=60)[0]
    assert watching.returncode == 130 and "the platform goes on with backfill" in said, said
    item = items(engine)[0]
    until(lambda: items(engine)[0].bars > item.bars, what="progress without us")
    assert "is cancelled; its" in queue(run, "--cancel", str(item.id))
    until(lambda: rests(klines), every=0.0, what="nobody asks any more")
    assert items(engine)[0].state == "cancelled"
    refused = run.cli("backfill", "--cancel", item.id)
    assert (refused.returncode, refused.stderr) == (
        2, f"error: backfill {item.id} is cancelled: there is nothing to cancel\n",
    )  # fmt: skip


@pytest.mark.slow
def test_a_limit_is_kept_by_all(run: Processes, engine: sa.Engine, klines: Klines) -> None:
    """The exchange says 429 with Retry-After: nobody asks it again before, then all go on by themselves."""
    klines.allowance = 4
    run.worker("history", concurrency=2)
    run.beat()
    queue(run, "-s", "BTC/USDT", "-s", "ETH/USDT", "--start", "2024-12-01", "--end", "2024-12-05", "--no-wait")
    until(lambda: any(item.error == "Binance: Too many requests." for item in items(engine)), what="one waits")
    until(lambda: all(item.state == "done" for item in items(engine)), seconds=180, what="both are done")
    assert klines.refused <= 2, "the two that were at it may each have heard it, nobody after them"
    assert len(klines.pages) == 12 and bars(engine) == 2 * 4 * 1440


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_year_of_minutes_in_flat_memory(
    run: Processes, engine: sa.Engine, klines: Klines, capsys: pytest.CaptureFixture[str]
) -> None:
    """525,600 bars, two SIGKILLs; each worker's resident memory within ±10 MB once it is warm."""
    began, rss = time.monotonic(), list[list[float]]()  # no beat: the calendars it has read once are 40 MB
    run.worker("history", node="year-0")
    queue(run, "-s", "BTC/USDT", "--start", "2024-01-02", "--end", "2025-01-01", "--no-wait")
    minutes = (NOW - 1_704_153_600_000) // MINUTE_MS
    for place, most in enumerate((150_000, 350_000, minutes)):
        rss.append(_watch_memory(run, engine, f"year-{place}", lambda most=most: bars(engine) >= most))  # type: ignore[misc]
        if most < minutes:
            run.kill(f"year-{place}")
            resting_over(engine)
            run.worker("history", node=f"year-{place + 1}")
            start_backfills(make_publisher(load_settings(redis_url=run.environment["REDIS_URL"])))
    until(lambda: items(engine)[0].state == "done", seconds=180, what="the backfill's end")
    took_s = time.monotonic() - began
    check_year(engine, klines, minutes, 2)
    with capsys.disabled():
        spans = ", ".join(f"{min(found):.0f} to {max(found):.0f} MB" for found in rss)
        print(
            f"\n{minutes:,} bars in {took_s:.0f} s ({minutes / took_s:,.0f}/s), {len(klines.pages)} pages, RSS {spans}"
        )
    assert all(max(found) - min(found) <= 20 for found in rss)


def _watch_memory(run: Processes, engine: sa.Engine, node: str, over: Callable[[], bool]) -> list[float]:
    """The resident MB of the worker's child from its 20,000th bar on, until `over`."""
    warm_at = bars(engine) + 20_000
    until(lambda: bars(engine) >= warm_at, seconds=200, what="a warm worker")
    child = psutil.Process(run.running[node].pid).children()[0]
    found: list[float] = []
    end = time.monotonic() + 600
    while not over() and time.monotonic() < end:
        found.append(child.memory_info().rss / 1e6)
        time.sleep(0.5)
    return found
