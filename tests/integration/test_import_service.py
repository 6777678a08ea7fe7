"""Import against a real database: the service, and the command's refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.bootstrap import Platform, platform
from app.config import ROOT, Settings
from app.domain.trades import TradeBatch
from app.services.importing import Importer, ImportStalled, check
from app.storage import catalog
from app.storage.imports import ImportProgress
from app.wire.binance_files import read_batches

AGG = "1,0.5,2.0,{0},{0},{1},True,True"


class Direct:
    """A queue whose worker is at hand: applied at once, or kept waiting."""

    def __init__(self, parts: Platform) -> None:
        self.parts, self.sent, self.stuck = parts, list[TradeBatch](), 0

    def send(self, batch: TradeBatch, shard: int) -> None:
        """Apply the batch, as a worker would."""
        self.sent.append(batch)
        self.parts.ingest.apply(TradeBatch.decode(batch.encode()))

    def waiting(self, shard: int) -> int:
        """How many batches wait."""
        return self.stuck


class Progress(ImportProgress):
    """The real progress, with the work of beat and workers done before it is asked."""

    def __init__(self, parts: Platform) -> None:
        super().__init__(parts.engine)
        self._parts = parts

    def import_progress(self, run: int, instrument_id: int, lo_ms: int, hi_ms: int) -> tuple[int, int, int]:
        """See ImportProgress."""
        self._parts.closing.run()
        while self._parts.settle.run() or self._parts.derive.run(0).marks or self._parts.publish.run():
            continue
        return super().import_progress(run, instrument_id, lo_ms, hi_ms)


@pytest.fixture(scope="module")
def parts(settings: Settings) -> Iterator[Platform]:
    """The platform's parts on the module's database."""
    built = platform(settings.model_copy(update={"import_idle_s": 0.0}), process="tests")
    yield built
    built.engine.dispose()


def importer(parts: Platform, *, most: int = 100, queue: Direct | None = None) -> Importer:
    """An importer without a broker."""
    return Importer(queue or Direct(parts), Progress(parts), read_batches, most)


def test_an_import_ends_when_all_is_derived_and_again_adds_nothing(parts: Platform, shared_data: Path) -> None:
    files = sorted(shared_data.glob("XRPETH-aggTrades-*.zip"), reverse=True)
    checked = check(files, read_batches)
    with parts.engine.begin() as connection:
        one = catalog.add(connection, "binance", "XRP/ETH", active=False)
    queue = Direct(parts)
    counts = importer(parts, most=1000, queue=queue).run(checked, one.id, exchange="binance", run=11)
    assert counts == (12_477, 0, 0)
    firsts = [int(batch.first[0]) for batch in queue.sent]
    assert firsts == sorted(firsts)
    marks = [batch.mark for batch in queue.sent if batch.mark is not None]
    assert [mark.n for mark in marks] == list(range(1, len(marks) + 1))
    assert [mark.over for mark in marks] == [False] * (len(marks) - 1) + [True]
    assert importer(parts, most=1000).run(checked, one.id, exchange="binance", run=12) == (0, 12_477, 0)
    with parts.engine.begin() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM candles_1m WHERE instrument_id = :i"), {"i": one.id})
        assert count.scalar_one() == 2469 + 1091
        marks_left = connection.execute(sa.text("SELECT count(*) FROM touched WHERE instrument_id = :i"), {"i": one.id})
        assert marks_left.scalar_one() == 0


def test_a_queue_without_a_worker_ends_with_a_clear_line(parts: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(AGG.format(1, 1570752011620) + "\n")
    queue, now_s = Direct(parts), [0.0]
    queue.stuck = 64
    stuck = Importer(queue, Progress(parts), read_batches, 10, now_s=lambda: now_s[0], sleep=lambda s: _pass(now_s, s))
    with pytest.raises(ImportStalled, match=r"no worker takes batches from the queue trades\.0 \(64 wait\)"):
        stuck.run(check([path], read_batches), 1, exchange="binance", run=13)
    assert 30 < now_s[0] < 32 and not queue.sent


def test_a_run_that_stands_still_ends_with_a_clear_line(parts: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(AGG.format(1, 1570752011620) + "\n")
    queue, now_s = Direct(parts), [0.0]
    queue.send = lambda batch, shard: None  # type: ignore[method-assign]
    lost = Importer(queue, Progress(parts), read_batches, 10, now_s=lambda: now_s[0], sleep=lambda s: _pass(now_s, 50))
    with pytest.raises(ImportStalled, match="0 of 1 batches applied"):
        lost.run(check([path], read_batches), 1, exchange="binance", run=14)


def test_a_batch_that_a_killed_worker_took_along_is_sent_again(parts: Platform, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{AGG.format(n, 1570752011620 + n * 20_000)}\n" for n in range(1, 13)))
    with parts.engine.begin() as connection:
        one = catalog.add(connection, "binance", "LOST/COIN", active=False)
    queue, now_s, taken, apply = Direct(parts), [0.0], list[int](), Direct.send

    def send(batch: TradeBatch, shard: int) -> None:
        assert batch.mark is not None
        if batch.mark.n == 3 and not taken:
            taken.append(len(batch))
        else:
            apply(queue, batch, shard)

    queue.send = send  # type: ignore[method-assign]
    again = Importer(queue, Progress(parts), read_batches, 2, now_s=lambda: now_s[0], sleep=lambda s: _pass(now_s, s))
    assert again.run(check([path], read_batches), one.id, exchange="binance", run=15) == (12, 0, 0)
    assert taken == [2] and [batch.mark.n for batch in queue.sent if batch.mark] == [1, 2, 4, 5, 6, 3, 4, 5, 6]
    with parts.engine.begin() as connection:
        query = sa.text("SELECT sum(trade_count) FROM candles_1m WHERE instrument_id = :i")
        assert connection.scalar(query, {"i": one.id}) == 12


def _pass(now_s: list[float], seconds: float) -> None:
    now_s[0] += seconds


BAD_CALLS = [
    (["--exchange", "kraken", "--symbol", "XRP/ETH", "good.csv"], "unknown exchange 'kraken'"),
    (["--exchange", "yahoo", "--symbol", "XRP/ETH", "good.csv"], "there are none of yahoo"),
    (["--symbol", "XRPETH", "good.csv"], "'XRPETH' is not a symbol of binance"),
    (["--symbol", "XRP/ETH", "none.csv"], "none.csv: No such file"),
    (["--symbol", "XRP/ETH", "good.csv", "negative.csv"], "negative.csv, line 2: price is '-0.5', negative"),
    (["--symbol", "XRP/ETH", "foreign.csv"], "not a Binance spot bulk file"),
    (["--symbol", "XRP/ETH"], "missing argument 'FILE'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_CALLS)
def test_bad_input_ends_with_2_and_one_line(
    arguments: list[str], said: str, tmp_path: Path, settings: Settings, parts: Platform
) -> None:
    good = AGG.format(1, 1570752011620)
    (tmp_path / "good.csv").write_text(good + "\n")
    (tmp_path / "negative.csv").write_text(good + "\n" + good.replace("0.5", "-0.5") + "\n")
    (tmp_path / "foreign.csv").write_text("a,b,c\n")
    arguments = [str(tmp_path / one) if one.endswith(".csv") else one for one in arguments]
    environment = {
        "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url,
        "LOG_DIR": str(tmp_path), "DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    with parts.engine.begin() as connection:
        before = len(catalog.instruments(connection))
    done = subprocess.run(
        [sys.executable, "-m", "app", "import", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    with parts.engine.begin() as connection:
        assert len(catalog.instruments(connection)) == before
