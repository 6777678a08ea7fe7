"""`python -m app db …` on plain PostgreSQL, and `--keep` of backfill and import: every refusal is one clear line."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy import text

from app.cli import importing_klines
from app.cli.main import main
from app.config import Settings
from app.domain.keeping import Kept
from app.domain.timeframes import DAY_MS, Timeframe
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.local.runfile import Run, write_run
from app.services import audit
from app.storage import backfills, migrate, retention, timescale
from app.storage.times import utc
from tests.factories import add_instrument
from tests.keeping import extent, fill, retain, today_ms
from tests.klines_server import Klines, klines_server

pytestmark = pytest.mark.slow

M1, M5, M15, H1, H4, D1 = Timeframe


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Command:
    """`python -m app …` in this process, on the module's database."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: object, answer: str = "", **more: object) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in {**self.environment, **more}.items():
                patch.setenv(name, str(value))
            patch.setattr(sys, "argv", ["app", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.StringIO(answer))
            with pytest.raises(SystemExit) as left:
                main()
        return Done(int(left.value.code or 0), out.getvalue(), err.getvalue())

    def refused(self, *arguments: object, code: int = 1, **more: object) -> str:
        """The one line in which the command says why not."""
        done = self(*arguments, **more)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done
        return done.stderr.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def app(settings: Settings, engine: sa.Engine, tmp_path: Path) -> Iterator[Command]:
    with engine.begin() as connection:
        for table in (*timescale.TABLES, "retention", "backfills", "coverage", "touched"):
            connection.execute(text(f'TRUNCATE "{table}" RESTART IDENTITY'))
    engine.dispose()
    values = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "DATA_DIR": str(tmp_path)}
    yield Command(tmp_path, {**values, "LOG_DIR": str(tmp_path / "logs"), "NO_COLOR": "1"})
    engine.dispose()


def kept(engine: sa.Engine) -> dict[Timeframe, Kept]:
    with engine.begin() as connection:
        found = retention.settings(connection)
    engine.dispose()
    return found


def _run_here(app: Command, settings: Settings, *, market: str) -> psutil.Process:
    """This process is the platform that runs in the folder."""
    me = psutil.Process()
    write_run(
        app.folder,
        Run(me.pid, me.create_time(), "", "", "", settings.database_url, settings.redis_url, "", "", market),
    )
    return me


class TestUpgrade:
    def test_writes_the_retention_that_the_settings_say(self, app: Command, engine: sa.Engine) -> None:
        done = app("db", "upgrade", MARKET="live", RETENTION_DAYS_1M=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "the schema is up to date\n", "")
        days = {tf: said.days for tf, said in kept(engine).items()}
        assert days == {M1: 30, M5: 365, M15: 365, H1: 365, H4: None, D1: None}
        app("db", "upgrade")
        assert {said.days for said in kept(engine).values()} == {None}, "the simulated market keeps everything"

    def test_says_what_it_will_delete_that_was_kept_until_now(self, app: Command, engine: sa.Engine) -> None:
        today = today_ms(engine)
        fill(engine, add_instrument(engine), M1, today - 3 * DAY_MS, today)
        engine.dispose()
        done = app("db", "upgrade", MARKET="live", RETENTION_DAYS_1M=1, RETENTION_DAYS_5M=1)
        day = f"{utc(today - DAY_MS):%Y-%m-%d}"
        assert done.stdout == (
            f"! 1m bars before {day} are deleted from now on; RETENTION_DAYS_1M=0 keeps them\n"
            "the schema is up to date\n"
        )
        again = app("db", "upgrade", MARKET="live", RETENTION_DAYS_1M=1)
        assert again.stdout == "the schema is up to date\n", "said once"

    @pytest.mark.parametrize("own_server", [True, False])
    def test_leaves_the_retention_of_a_running_platform_alone(
        self, app: Command, engine: sa.Engine, settings: Settings, *, own_server: bool
    ) -> None:
        app("db", "upgrade", MARKET="live", RETENTION_DAYS_1M=0, RETENTION_DAYS_1H=30)
        before = kept(engine)
        _run_here(app, settings, market="live")
        url: dict[str, str] = {} if own_server else {"DATABASE_URL": ""}
        done = app("db", "upgrade", **url)
        assert done.stdout == (
            "! retention stays as the running `up` has set it, though RETENTION_DAYS_1M, RETENTION_DAYS_1H differ "
            "here: start it anew to change it\nthe schema is up to date\n"
        )
        assert kept(engine) == before
        done = app("db", "upgrade", RETENTION_DAYS_1M=0, RETENTION_DAYS_1H=30, **url)
        assert done.stdout == "the schema is up to date\n"

    def test_a_bad_setting_or_revision(self, app: Command) -> None:
        assert "RETENTION_DAYS_1M" in app.refused("db", "upgrade", RETENTION_DAYS_1M=-1)
        assert app.refused("db", "upgrade", "0999", code=2).startswith("no revision '0999'; there are base, 0001, ")

    def test_a_database_that_is_away_or_refuses(self, app: Command, settings: Settings) -> None:
        away = sa.make_url(settings.database_url).set(port=1).render_as_string(hide_password=False)
        for name in ("upgrade", "status", "timescale", ("downgrade", "0003")):
            words = (name,) if isinstance(name, str) else name
            said = app.refused("db", *words, DATABASE_URL=away)
            assert said.startswith("the database cannot be reached: connection to server at"), said
        said = app.refused("db", "status", DATABASE_URL="mysql://x/y")
        assert said == "DATABASE_URL is for mysql; only PostgreSQL is supported"


class TestDowngrade:
    def test_says_what_goes_and_asks(self, app: Command, engine: sa.Engine) -> None:
        today = today_ms(engine)
        fill(engine, add_instrument(engine), D1, today - 3 * DAY_MS, today)
        engine.dispose()
        for answer in ("n\n", "", "what\n"):
            done = app("db", "downgrade", "base", answer=answer)
            assert done.returncode == 1
            assert "0001 is taken back; with it go: every bar, indicator, instrument and setting\n" in done.stdout
            assert "loses all it holds of the platform: some 3 bars" in done.stdout
            assert done.stdout.endswith("nothing was changed\n")
        done = app("db", "downgrade", "0003", answer="y\n")
        assert done.returncode == 0, done
        lines = done.stdout.splitlines()
        assert [line[:4] for line in lines if " is taken back; " in line][-1] == "0004"
        assert "loses" not in done.stdout
        assert "the schema is at 0003 (" in lines[-1]
        assert app("db", "status", "--json").stdout.count('"revision": "0003"') == 1
        assert "schema 0003 (the newest is" in app("db", "status").stdout
        assert app("db", "upgrade").returncode == 0
        assert extent(engine, add_instrument(engine), D1)[0] == 3

    def test_unasked_there_and_back(self, app: Command) -> None:
        done = app("db", "downgrade", "base", "--yes")
        assert done.stdout.splitlines()[-1].startswith("the schema is at base (")
        status = app("db", "status")
        assert "schema none (the newest is" in status.stdout
        assert app.refused("db", "timescale").startswith("the schema is at base, not ")
        assert app("db", "upgrade").stdout == "the schema is up to date\n"

    def test_what_cannot_be(self, app: Command) -> None:
        at = migrate.newest()
        said = app.refused("db", "downgrade", at, code=2)
        assert said == f"the schema is at {at}: there is nothing to take back to {at}"
        assert app.refused("db", "downgrade", "0999", code=2).startswith("no revision '0999'; there are base, 0001, ")

    @pytest.mark.parametrize("arguments", [("downgrade", "0003", "--yes"), ("timescale",)])
    def test_not_while_the_platform_works_on_it(
        self, app: Command, engine: sa.Engine, settings: Settings, arguments: tuple[str, ...]
    ) -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))
            said = app.refused("db", *arguments)
        assert said.startswith("a platform works on this database (market tests): stop it first, ")
        engine.dispose()
        me = _run_here(app, settings, market="sandbox")
        said = app.refused("db", *arguments, DATABASE_URL="")
        assert said.startswith(f"the platform runs on {app.folder} (pid {me.pid}): stop it first, ")
        assert app("db", "status", DATABASE_URL="").returncode == 0, "to look is no harm"


class TestStatus:
    def test_what_a_plain_database_holds(self, app: Command, engine: sa.Engine) -> None:
        today = today_ms(engine)
        fill(engine, add_instrument(engine), M1, today - DAY_MS, today)
        retain(engine, {"1m": 30, "5m": 10})
        with engine.begin() as connection:
            retention.keep_from(connection, [M5], today - 50 * DAY_MS)
        engine.dispose()
        done = app("db", "status")
        assert (done.returncode, done.stderr) == (0, "")
        lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
        assert lines["PostgreSQL"][2:4] == ["plain", "tables;"]
        assert lines["schema"][:2] == ["schema", migrate.newest()]
        kept_from = [f"{utc(today - days * DAY_MS):%Y-%m-%d}" for days in (30, 50)]
        assert lines["candles_1m"][1] == "1,440"
        assert " ".join(lines["candles_1m"][-5:]) == f"from {kept_from[0]} on (30 days)"
        assert " ".join(lines["indicators_5m"][-4:]) == f"from {kept_from[1]} on (--keep)"
        assert lines["candles_1d"][-2:] == ["for", "ever"]
        assert "instruments" in lines
        assert "no hypertables: PostgreSQL" in done.stdout

    def test_the_same_for_scripts(self, app: Command) -> None:
        found = json.loads(app("db", "status", "--json").stdout)
        assert found["revision"] == found["newest"] == migrate.newest()
        assert found["timescaledb"] is None
        assert found["jobs"] == []
        tables = {table["name"]: table for table in found["tables"]}
        assert {*timescale.TABLES, "ledger", "retention", "instruments"} <= tables.keys()
        assert tables["instruments"]["rows"] >= 17
        assert tables["candles_1m"]["chunks"] is None
        assert tables["candles_1m"]["bytes"] > 0


def test_without_the_extension_the_remedy_is_told(app: Command, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        version = connection.scalar(text("SHOW server_version"))
    engine.dispose()
    major = str(version).split(".")[0]
    assert app.refused("db", "timescale") == (
        f"PostgreSQL {version} has no TimescaleDB: install its package (such as timescaledb-2-postgresql-{major}), "
        "set shared_preload_libraries = 'timescaledb' in postgresql.conf and restart the server"
    )


def test_the_embedded_database_of_a_stopped_platform_is_started_for_the_command(app: Command, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    server = PostgresServer(folder)
    server.start()
    server.stop()
    done = app("db", "upgrade", DATA_DIR=folder, DATABASE_URL="", REDIS_URL="")
    assert (done.returncode, done.stdout) == (0, "the schema is up to date\n"), done
    done = app("db", "downgrade", "base", "--yes", DATA_DIR=folder, DATABASE_URL="", REDIS_URL="")
    assert done.returncode == 0, done
    assert not (folder / "postgres" / "postmaster.pid").exists(), "and stopped again"
    for name in ("status", "timescale", "upgrade"):
        said = app.refused("db", name, DATA_DIR=tmp_path / "none", DATABASE_URL="", REDIS_URL="")
        assert said.startswith(f"nothing runs on {tmp_path / 'none'}: start it with ")
    assert not (tmp_path / "none").exists()


class TestKeep:
    """The clock of the market stands at 2025-01-01, the cutoff is the database's."""

    @pytest.fixture
    def market(self, own_redis: RedisServer) -> Iterator[dict[str, str]]:
        with klines_server(Klines(1_735_689_600_000)) as facts:
            yield {"REDIS_URL": own_redis.url, "BINANCE_API_URL": facts.url}

    def test_a_backfill_beyond_is_refused_and_kept_when_asked(
        self, app: Command, engine: sa.Engine, market: dict[str, str]
    ) -> None:
        retain(engine, {"1m": 30, "1h": 30})
        engine.dispose()
        words = ("backfill", "-s", "BTC/USDT", "-s", "ETH/USDT", "--start", "2024-12-01T05:00", "--no-wait")
        said = app.refused(*words, code=2, **market)
        cutoff = f"{utc(today_ms(engine) - 30 * DAY_MS):%Y-%m-%d}"
        assert said == (
            f"the backfill of BTC/USDT, ETH/USDT begins on 2024-12-01, and 1m bars before {cutoff} are not kept: begin "
            "later, or have them kept (--keep): all 1m and longer bars from 2024-12-01 on then stay, of every symbol"
        )
        with engine.begin() as connection:
            assert backfills.recent(connection) == []
        done = app(*words, "--keep", **market)
        assert done.returncode == 0, done
        assert done.stdout.splitlines() == [
            "kept from now on, of every symbol: all 1m, 1h bars from 2024-12-01 on",
            "backfill 1 is queued: BTC/USDT 1m", "backfill 2 is queued: ETH/USDT 1m",
        ]  # fmt: skip
        first = {tf: said.since_ms for tf, said in kept(engine).items() if said.since_ms is not None}
        assert first == {M1: 1_733_011_200_000, H1: 1_733_011_200_000}
        assert app(*words, **market).returncode == 0, "now it may come"

    def test_a_file_beyond_is_refused_before_anything_is_written(
        self, app: Command, engine: sa.Engine, market: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trades = app.folder / "XRPETH-aggTrades-2019-10-11.zip"
        with zipfile.ZipFile(trades, "w") as archive:
            archive.writestr("trades.csv", "1,0.1,5,1,2,1570753000000,True,True\n")
        klines = app.folder / "XRPETH-1h-2019-10.csv"
        klines.write_text("1569888000000,1,1,1,1,5,1569891599999,5,2,0,0,0\n")
        for file, timeframe, day, longer in (
            (trades, "1m", "2019-10-11", " and longer"),
            (klines, "1h", "2019-10-01", ""),
        ):
            retain(engine, {timeframe: 30})
            with engine.begin() as connection:
                before = connection.scalar(text("SELECT count(*) FROM instruments"))
            engine.dispose()
            said = app.refused("import", "-s", "XRP/ETH", file, code=2, **market)
            assert said.startswith(f"{file} begins on {day}, and {timeframe} bars before ")
            assert said.endswith(f"(--keep): all {timeframe}{longer} bars from {day} on then stay, of every symbol")
            with engine.begin() as connection:
                assert connection.scalar(text("SELECT count(*) FROM instruments")) == before
        monkeypatch.setattr(importing_klines, "store", lambda *_: None)  # it would wait for workers
        done = app("import", "-s", "XRP/ETH", klines, "--keep", **market)
        assert done.stdout == "kept from now on, of every symbol: all 1h bars from 2019-10-01 on\n", done

    def test_verify_compares_what_is_kept(self, app: Command, engine: sa.Engine, market: dict[str, str]) -> None:
        add_instrument(engine, "BTC/USDT", active=True)
        retain(engine, {"1m": 30})
        engine.dispose()
        words = ("verify", "-s", "BTC/USDT", "-e", "binance", "--start", "2024-12-01", "--end", "2024-12-02")
        assert "bars before " in (said := app.refused(*words, code=2, **market))
        assert said.endswith(" are not kept: there is nothing to compare")

    def test_verify_where_there_is_nothing_agrees_with_nothing(
        self, app: Command, engine: sa.Engine, market: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_instrument(engine, "BTC/USDT", active=True)
        engine.dispose()
        monkeypatch.setattr(audit, "_patiently", lambda *_: [])
        done = app("verify", "-s", "BTC/USDT", "-e", "binance", "--start", "2024-12-01", **market)
        assert done.returncode == 1
        assert done.stdout.startswith("nothing was compared: neither the platform nor the exchange has 1m bars of ")
