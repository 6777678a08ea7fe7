"""Bad input through the real command line and REST: one clear line each, exit code 2, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.config import ROOT, Settings
from app.local.redis import RedisServer
from app.local.servers import free_port
from tests.processes import Processes, processes
from tests.sandbox import start_sandbox
from webapp import create_app

AGG = "{id},0.00141342,23.00000000,{id},{id},{time},True,True"
GOOD = [AGG.format(id=id, time=1570752000000 + id * 1000) for id in range(1, 101)]
KLINE = "1570752000000,1.0,1.0,1.0,1.0,5.0,1570752059999,5.0,3,1.0,1.0,0"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
TABLES = ("instruments", "candles_1m", "candles_1d", "indicators_1m", "ledger", "feeds", "feed_batches", "touched",
          "holes", "backfills", "coverage")  # fmt: skip

IMPORT = ("import", "--symbol", "NEW/COIN")
BACKFILL = ("backfill", "--symbol", "BTC/USDT")
HINT = "; nothing was imported (--skip-bad lists what is bad, imports the rest)"

# (arguments, what stderr says); a word that names a file of `files` stands for its path, here and there.
FILES_REFUSED: Sequence[tuple[tuple[str, ...], str]] = [
    ((*IMPORT, "none.csv"), "none.csv: No such file or directory" + HINT),
    ((*IMPORT, "folder"), "folder: not a regular file" + HINT),
    ((*IMPORT, "secret.csv"), "secret.csv: Permission denied" + HINT),
    ((*IMPORT, "empty.csv"), "empty.csv: the file is empty" + HINT),
    ((*IMPORT, "truncated.zip"), "truncated.zip: truncated or damaged zip"),
    (
        (*IMPORT, "kline.csv"),
        "kline.csv, line 1: a klines file must say its symbol and timeframe in its name, as BTCUSDT-1m-2024-01.zip does"
        + HINT,
    ),
    ((*IMPORT, "text.csv"), "text.csv, line 1: not a Binance spot bulk file: 1 columns"),
    ((*IMPORT, "image.png"), "image.png, line 1: not a Binance bulk file (not text)" + HINT),
    ((*IMPORT, "no-csv.zip"), "no-csv.zip: the zip holds no csv file" + HINT),
    ((*IMPORT, "negative.csv"), "negative.csv, line 100: price is '-0.00141342', negative" + HINT),
    ((*IMPORT, "zero.csv"), "zero.csv, line 100: quantity is 0.00000000, not above zero" + HINT),
    ((*IMPORT, "good.csv", "zero.csv"), "zero.csv, line 100: quantity is 0.00000000, not above zero" + HINT),
    ((*IMPORT, "--skip-bad", "kline.csv"), "nothing to import: kline.csv, line 1: a klines file"),
]
NAMES_REFUSED: Sequence[tuple[tuple[str, ...], str]] = [
    (("import", "--symbol", "NEWCOIN", "good.csv"), "'NEWCOIN' is not a symbol of binance: write it like XRP/ETH"),
    (("import", "--symbol", "A/B/C", "good.csv"), "'A/B/C' is not a symbol of binance: write it like XRP/ETH"),
    (("import", "--symbol", "", "good.csv"), "'' is not a symbol of binance"),
    ((*IMPORT, "--exchange", "mtgox", "good.csv"), "unknown exchange 'mtgox'; known are binance, alpaca, yahoo"),
    ((*IMPORT, "--exchange", "yahoo", "good.csv"), "import reads Binance's bulk files; there are none of yahoo"),
    (("instruments", "add", "BTCUSDT"), "'BTCUSDT' is not a symbol of binance: write it like BTC/USDT"),
    (("instruments", "add", "BTC/USDT; DROP"), "'BTC/USDT; DROP' is not a symbol of binance"),
    (("instruments", "add", "NO/SUCH"), "unknown symbol 'NO/SUCH': binance lists no NO/SUCH"),
    (("instruments", "add", "BT/CUSDT"), "unknown symbol 'BT/CUSDT': binance writes it BTC/USDT"),
    (("instruments", "add", "AAPL", "-e", "mtgox"), "unknown exchange 'mtgox'; known are binance, alpaca, yahoo"),
    (("instruments", "remove", "NO/SUCH"), "unknown symbol 'NO/SUCH': `instruments list` shows the watchlist"),
    (("instruments", "remove", "BTC/USDT", "-e", "mtgox"), "unknown exchange 'mtgox'; known are"),
    (("instruments", "remove", "BTC/USDT", "-e", "alpaca"), "unknown symbol 'BTC/USDT' on alpaca: `instruments list`"),
    (("instruments", "list", "-e", "mtgox"), "unknown exchange 'mtgox'; known are binance, alpaca, yahoo"),
    (("backfill", "-s", "NO/SUCH", "--start", "2024-01-01"), "unknown symbol 'NO/SUCH' on binance"),
    ((*BACKFILL, "--start", "2024-01-01", "-e", "mtgox"), "unknown exchange 'mtgox'; known are"),
]
RANGES_REFUSED: Sequence[tuple[tuple[str, ...], str]] = [
    ((*BACKFILL, "--start", "2024-01-02", "--end", "2024-01-01"), "the range is reversed: 2024-01-02 is after 2024"),
    ((*BACKFILL, "--start", "2024-01-01", "--end", "2024-01-01"), "the range is empty: no 1m bar lies between"),
    ((*BACKFILL, "-t", "1d", "--start", "2024-01-01T01:00", "--end", "2024-01-01T23:00"), "the range is empty: no 1d"),
    ((*BACKFILL, "--start", "2124-01-01", "--end", "2124-01-02"), "the range is in the future: it starts at 2124"),
    ((*BACKFILL, "--start", "yesterday"), "--start 'yesterday' is no date: write 2026-11-01 or 2026-11-01T09:30"),
    ((*BACKFILL, "--start", "2024-01-01", "--end", "soon"), "--end 'soon' is no date: write 2026-11-01"),
    ((*BACKFILL, "--start", "2024-01-01", "-t", "2m"), "unknown timeframe '2m'; known are 1m, 5m, 15m, 1h, 4h, 1d"),
    (BACKFILL, "missing option '--start' (see `python -m app backfill --help`)"),
    (("import", "good.csv"), "missing option '--symbol' / '-s' (see `python -m app import --help`)"),
    (IMPORT, "missing argument 'FILE' (see `python -m app import --help`)"),
    (("instruments", "add"), "missing argument 'SYMBOL' (see `python -m app instruments add --help`)"),
    (("improt", "good.csv"), "no such command 'improt'. Did you mean 'import'? (see"),
    (("status", "--jason"), "no such option: --jason"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files; `secret.csv` cannot be read by others than root."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "folder").mkdir()
    contents: dict[str, Sequence[str]] = {
        "good.csv": GOOD,
        "negative.csv": [*GOOD[:99], GOOD[99].replace("0.00141342", "-0.00141342")],
        "zero.csv": [*GOOD[:99], GOOD[99].replace("23.00000000", "0.00000000")],
        "secret.csv": GOOD,
        "kline.csv": [KLINE],
        "text.csv": ["Dear diary"],
        "empty.csv": [],
    }
    for name, lines in contents.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    (folder / "secret.csv").chmod(0)
    (folder / "image.png").write_bytes(PNG)
    with zipfile.ZipFile(folder / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "\n".join(GOOD))
    whole = (folder / "whole.zip").read_bytes()
    (folder / "truncated.zip").write_bytes(whole[: len(whole) * 2 // 3])
    with zipfile.ZipFile(folder / "no-csv.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    return folder


@pytest.fixture(scope="module")
def run(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """The command line on a database, a Redis of its own and a simulated market; no worker takes anything away."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        with start_sandbox(symbols="BTC/USDT", history_hours=1) as market:
            urls = {"binance_api_url": market.url, "binance_stream_url": market.stream_url, "redis_url": server.url}
            with processes(settings.model_copy(update=urls)) as found:
                yield found


@pytest.fixture(scope="module")
def web(run: Processes, settings: Settings) -> Iterator[FlaskClient]:
    app = create_app(settings.model_copy(update={"redis_url": run.environment["REDIS_URL"]}))
    yield app.test_client()
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()


def everything(engine: sa.Engine, run: Processes) -> dict[str, Any]:
    """How many rows each table has, who is collected, and every key in Redis (the queues are among them).

    Asking an exchange is paid for and counted: these keys are no trace of the input.
    """
    with engine.begin() as connection:
        facts: dict[str, Any] = {
            table: connection.execute(sa.text(f'SELECT count(*) FROM "{table}"')).scalar_one() for table in TABLES
        }
        facts["active"] = connection.execute(sa.text("SELECT id FROM instruments WHERE active ORDER BY id")).all()
    client = redis.Redis.from_url(run.environment["REDIS_URL"])
    facts["redis"] = sorted({*client.keys()} - {b"limit:binance", b"system:counters"})
    client.close()
    return facts


def refused(arguments: Sequence[str], said: str, *, run: Processes, files: Path, engine: sa.Engine) -> None:
    """Runs the command, which has to end with code 2, one line that begins so, and nothing changed anywhere."""
    names = {path.name for path in files.iterdir()} | {"none.csv"}
    said = said.replace("import: kline.csv", f"import: {files}/kline.csv")
    if said.split(":")[0].split(",")[0] in names:
        said = f"{files}/{said}"
    before = everything(engine, run)
    done = run.cli(*(str(files / word) if word in names else word for word in arguments))
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), done.stderr
    assert done.stderr.startswith(f"error: {said}"), done.stderr
    assert everything(engine, run) == before


@pytest.mark.parametrize(("arguments", "said"), FILES_REFUSED, ids=lambda value: str(value)[:60])
def test_a_file_that_cannot_be_imported(
    arguments: tuple[str, ...], said: str, run: Processes, files: Path, engine: sa.Engine
) -> None:
    if "secret.csv" in arguments and os.geteuid() == 0:
        pytest.skip("root reads every file")
    refused(arguments, said, run=run, files=files, engine=engine)


@pytest.mark.parametrize(("arguments", "said"), NAMES_REFUSED, ids=lambda value: str(value)[:60])
def test_an_unknown_or_malformed_symbol_or_exchange(
    arguments: tuple[str, ...], said: str, run: Processes, files: Path, engine: sa.Engine
) -> None:
    refused(arguments, said, run=run, files=files, engine=engine)


@pytest.mark.parametrize(("arguments", "said"), RANGES_REFUSED, ids=lambda value: str(value)[:60])
def test_a_range_or_an_option_that_cannot_be_used(
    arguments: tuple[str, ...], said: str, run: Processes, files: Path, engine: sa.Engine
) -> None:
    refused(arguments, said, run=run, files=files, engine=engine)


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("BTC-USDT?timeframe=2m", 400, "bad_parameter", "timeframe: "),
        ("BTC-USDT?limit=0", 400, "bad_parameter", "limit: "),
        ("BTC-USDT?limit=5001", 400, "bad_parameter", "limit: "),
        ("BTC-USDT?limit=many", 400, "bad_parameter", "limit: "),
        ("BTC-USDT?start=yesterday", 400, "bad_parameter", "start: "),
        ("BTC-USDT?end=-1", 400, "bad_parameter", "end: "),
        ("BTC-USDT?start=2000&end=1000", 400, "bad_range", "start, end: the range is reversed"),
        ("BTC-USDT?start=1000&end=1000", 400, "bad_range", "start, end: the range is empty"),
        ("BTC-USDT?exchange=mtgox", 400, "bad_parameter", "exchange: "),
        ("BTC-USDT?color=red", 400, "bad_parameter", "color: unknown parameter"),
        ("BTC-USDT?indicators=rsi_15", 400, "bad_parameter", "indicators: unknown 'rsi_15'"),
        ("NO-SUCH", 404, "unknown_symbol", "unknown symbol 'NO-SUCH'"),
        ("BTC-USDT?exchange=yahoo", 404, "unknown_symbol", "unknown symbol 'BTC-USDT' on yahoo"),
        ("';DROP TABLE instruments", 404, "unknown_symbol", "unknown symbol"),
        ("%00", 404, "unknown_symbol", "unknown symbol"),
    ],
)
def test_rest_names_what_it_refuses(path: str, status: int, code: str, said: str, web: FlaskClient) -> None:
    answer = web.get(f"/api/charts/{path}")
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert error["message"].startswith(said), error
    assert "\n" not in error["message"] and "Traceback" not in error["message"]


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("instruments", "list"), ("instruments", "add", "BTC/USDT"), ("instruments", "remove", "BTC/USDT"),
     ("import", "-s", "XRP/ETH", "good.csv"), ("backfill", "-s", "BTC/USDT", "--start", "2024-01-01"),
     ("db", "upgrade")],
)  # fmt: skip
def test_nothing_runs(arguments: tuple[str, ...], files: Path, tmp_path: Path) -> None:
    """`status` says so with 2; the others, whose input is good, fail with 1."""
    words = [str(files / word) if word == "good.csv" else word for word in arguments]
    done = _bare(*words, DATA_DIR=tmp_path / "none")
    assert done.returncode == (2 if arguments == ("status",) else 1)
    assert done.stdout == ""
    assert done.stderr == (
        f"error: nothing runs on {tmp_path / 'none'}: start it with `make demo` or `python -m app up`\n"
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", [("instruments", "list"), ("instruments", "remove", "BTC/USDT")])
def test_a_database_that_is_away(arguments: tuple[str, ...], tmp_path: Path) -> None:
    away = {
        "DATABASE_URL": f"postgresql://x@127.0.0.1:{free_port()}/x",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    done = _bare(*arguments, DATA_DIR=tmp_path, **away)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("error: the database cannot be reached: connection to server at")


def test_a_symbol_cannot_be_added_while_its_exchange_is_away(
    run: Processes, files: Path, engine: sa.Engine, tmp_path: Path
) -> None:
    before = everything(engine, run)
    address = {"BINANCE_API_URL": f"http://127.0.0.1:{free_port()}"}
    done = _bare("instruments", "add", "ETH/BTC", **{**run.environment, **address})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("error: Binance does not answer"), done.stderr
    assert everything(engine, run) == before


def _bare(*arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
    )  # fmt: skip


def test_a_good_symbol_is_added_once_with_its_decimals(run: Processes, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM instruments WHERE symbol = 'BTC/USDT'"))
    for _ in range(2):
        done = run.cli("instruments", "add", "btc-usdt")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert done.stdout == "binance BTC/USDT is on the watchlist\n"
    with engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT active, price_decimals FROM instruments WHERE symbol = 'BTC/USDT'"))
        assert rows.all() == [(True, 2)]


def test_skip_bad_imports_the_rest_and_lists_the_rejected(
    run: Processes, web: FlaskClient, files: Path, engine: sa.Engine
) -> None:
    """Last, since it writes: two files with a bad row each, a foreign and a truncated one beside a good one."""
    run.worker("trades")
    run.worker("bars")
    run.beat()
    second = [AGG.format(id=id, time=1570753000000 + id * 1000) for id in range(1001, 1101)]
    second[49] = second[49].replace("23.00000000", "-1")
    (files / "second.csv").write_text("\n".join(second))
    names = ("negative.csv", "second.csv", "kline.csv", "truncated.zip")
    done = run.cli(*IMPORT, "--skip-bad", *(files / name for name in names))
    assert done.returncode == 0, done.stderr + run.said()
    assert "read 198  new 198  already known 0  rejected 4" in done.stdout, done.stdout
    listed = [line.strip() for line in done.stderr.splitlines() if str(files) in line]
    assert [line.removeprefix(f"{files}/").split(":")[0] for line in listed] == [
        "negative.csv, line 100", "second.csv, line 50", "kline.csv, line 1", "truncated.zip",
    ]  # fmt: skip
    assert "rejected 4:" in done.stderr and "Traceback" not in done.stderr
    bars = web.get("/api/charts/NEW-COIN?exchange=binance&limit=5000").get_json()["bars"]
    assert sum(bar["trade_count"] for bar in bars) == 198
    assert all(bar["completed"] for bar in bars)
    with engine.begin() as connection:
        row = connection.execute(sa.text("SELECT active FROM instruments WHERE symbol = 'NEW/COIN'")).one()
    assert not row.active
