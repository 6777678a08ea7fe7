"""Every block of docs/sql.md runs as it stands and gives what tests/sql_answers.py works out by other means.

tests/timescale/test_sql_docs.py has the same tests on TimescaleDB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
import pytest
import sqlalchemy as sa

from app.config import load_settings
from app.domain.timeframes import Timeframe
from app.local.postgres import PostgresServer
from app.storage import migrate
from app.storage.engine import make_engine
from app.storage.timescale import KINDS
from tests import sql_docs
from tests.sql_answers import ANSWERS, bars, indicators
from tests.sql_docs import Query
from tests.sql_fill import fill
from tests.sql_market import FIRST, NOW, ODD_LOT, OPEN_MINUTE, market, prices, sums

QUERIES = sql_docs.queries()
# As `now() - interval '1 day'` a time that is known only when the query runs, but one at which there are bars.
DAY_AGO = f"now() - (now() - timestamptz '{NOW - pd.Timedelta('1D')}')"
ASK = f"""SELECT * FROM candles WHERE exchange = 'binance' AND symbol = 'BTC/USDT' AND timeframe = '1m'
    AND time >= {DAY_AGO}"""


@pytest.fixture(scope="module")
def stored(database_url: str) -> Iterator[sa.Engine]:
    """A database with the whole known market in it."""
    settings = load_settings(database_url=database_url, db_idle_tx_timeout_ms=0, _env_file=None)
    engine = make_engine(settings, process="tests")
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(sql_docs.FREEZE)
        connection.exec_driver_sql("ANALYZE")
    yield engine
    engine.dispose()


@pytest.fixture
def connection(stored: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that leaves nothing."""
    with stored.connect() as connection:
        yield connection
        connection.rollback()


def test_the_page_has_its_queries() -> None:
    assert [query.title for query in QUERIES] == list(ANSWERS)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_a_query_gives_what_is_true(connection: sa.Connection, query: Query) -> None:
    want = list(ANSWERS[query.title]())
    assert want, "a query that finds nothing proves nothing"
    result = sql_docs.run(connection, query)
    assert sql_docs.differences(result.rows, want) == []
    assert query.shown == result.table(), f"the page should show\n{result.table()}"
    for zone in ("Europe/Istanbul", "America/New_York"):  # New York put its clocks back on 2 November
        assert sql_docs.run(connection, query, zone=zone).rows == result.rows, "a session's time zone changes nothing"
    # Nor where clocks are changed nearer to now: the days of an interval are the session's.
    assert re.findall(r"interval '[^']*\b(?:day|week|month|year)s?\b[^']*'", query.text) == []


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_a_query_reads_the_tables_of_its_timeframe_only(connection: sa.Connection, query: Query) -> None:
    named = sql_docs.named(query)
    assert sql_docs.tables(connection, query) == named


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_the_view_shows_every_bar_as_it_is(connection: sa.Connection, timeframe: Timeframe) -> None:
    names = "time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count, state, origin"
    query = f"SELECT {names}, vwap, state_name, origin_name FROM candles WHERE exchange = %s AND symbol = %s"
    for series in market().values():
        values = (*series.key, timeframe.value, FIRST.to_pydatetime())
        rows = connection.exec_driver_sql(f"{query} AND timeframe = %s AND time >= %s ORDER BY time", values).all()
        frame = series.bars[timeframe]
        times = [time.to_pydatetime() for time in frame.index]
        known = (prices(frame, "o"), prices(frame, "h"), prices(frame, "l"), prices(frame, "c"))
        exact = [sums(series.about, frame, name) for name in "vqt"]
        whole = [frame[name].tolist() for name in ("n", "state", "origin")]
        assert [tuple(row[:11]) for row in rows] == list(zip(times, *map(list, known), *exact, *whole, strict=True))
        for row in rows:
            assert row.vwap == (pytest.approx(float(row.quote_volume / row.volume), rel=1e-15) if row.volume else None)
            assert row.state_name == ("open", "closed", "verified")[row.state]
            assert row.origin_name == ("trades", "exchange", "rollup", "flat")[row.origin]
        quiet = timeframe is Timeframe.M1 and series.about.symbol == "SOL/USDT"
        assert any(row.vwap is None for row in rows) or not quiet


def test_a_minute_without_a_price_is_no_bar(connection: sa.Connection) -> None:
    values = (ODD_LOT, OPEN_MINUTE.to_pydatetime())
    table = (
        "SELECT count(*) FROM candles_1m c JOIN instruments i ON i.id = c.instrument_id WHERE symbol = %s AND time = %s"
    )
    view = "SELECT count(*) FROM candles WHERE symbol = %s AND time = %s"
    assert [connection.exec_driver_sql(text, values).scalar_one() for text in (table, view)] == [1, 0]


def test_the_page_tells_every_column(connection: sa.Connection) -> None:
    bars, values = ([column["name"] for column in sa.inspect(connection).get_columns(view)] for view in KINDS)
    assert sorted(sql_docs.columns("candles")) == sorted(bars)
    assert values[:5] == bars[:5]
    assert list(sql_docs.columns("indicators")) == values[5:]


def test_indicators_are_null_for_as_many_bars_as_the_page_says(connection: sa.Connection) -> None:
    """The page's last column: a number, or `as many less one` of the number in the name."""
    frame = connection.exec_driver_sql(
        "SELECT * FROM indicators WHERE exchange = 'binance' AND symbol = 'BTC/USDT' AND timeframe = '1d' ORDER BY time"
    ).mappings().all()  # fmt: skip
    said = {name: text for name, text in sql_docs.columns("indicators").items() if name != "vwap"}
    assert len(said) == 17
    for name, text in said.items():
        count = int(text) if text.isdigit() else int(name.rsplit("_", 1)[1]) - 1
        nulls = [row[name] is None for row in frame]
        assert nulls == [True] * count + [False] * (len(frame) - count), name


def test_indicators_stand_beside_their_bars(connection: sa.Connection) -> None:
    """The join that the page advises, against TA-Lib."""
    query = """SELECT time, close, rsi_14, sma_20
        FROM candles c JOIN indicators n USING (exchange, symbol, timeframe, time)
        WHERE exchange = 'yahoo' AND symbol = 'THYAO.IS' AND timeframe = '5m' AND c.time >= %s AND n.time >= %s
        ORDER BY time"""
    since = NOW - pd.Timedelta("2D")
    rows = connection.exec_driver_sql(query, (since.to_pydatetime(),) * 2).all()
    series = market()["THYAO.IS"]
    known, values = bars(series, "5m", since), indicators(series, "5m")
    assert [(row.time, row.close) for row in rows] == [(bar.time, bar.close) for bar in known] != []
    for row in rows:
        assert row.rsi_14 == pytest.approx(values[row.time]["rsi_14"], abs=1e-4)
        assert row.sma_20 == pytest.approx(values[row.time]["sma_20"], rel=1e-6)


def test_a_symbol_reaches_the_primary_key(connection: sa.Connection) -> None:
    plan = plan_of(connection, ASK)
    (condition,) = conditions(plan)
    assert plan.count("candles_1m_pkey") == 1, plan
    assert "instrument_id = i" in condition
    assert '"time" >= (now()' in condition
    assert not [tf.value for tf in Timeframe if tf is not Timeframe.M1 and f"candles_{tf.value}" in plan]


def test_a_join_by_id_reads_one_instrument(connection: sa.Connection) -> None:
    plan = plan_of(
        connection,
        "SELECT c.close, n.rsi_14 FROM candles c JOIN indicators n USING (instrument_id, timeframe, time)"
        f" WHERE c.symbol = 'BTC/USDT' AND timeframe = '1m' AND c.time >= {DAY_AGO} AND n.time >= {DAY_AGO}",
    )
    assert plan.count("candles_1m_pkey") == plan.count("indicators_1m_pkey") == 1, plan
    assert sum("instrument_id = i" in line and '"time" >= (now()' in line for line in conditions(plan)) == 2, plan


def plan_of(connection: sa.Connection, query: str) -> str:
    """What the planner makes of a query on a table too big to be read through."""
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {query}").scalars())


def conditions(plan: str) -> list[str]:
    """What is looked up in the indexes of bars and indicators."""
    return [line for line in plan.splitlines() if "Index Cond" in line and "instrument_id" in line]


def test_the_reader_may_read_everything_and_change_nothing(stored: sa.Engine) -> None:
    made, gone = sql_docs.role()
    with stored.begin() as connection:
        connection.exec_driver_sql(made)
        connection.exec_driver_sql("CREATE VIEW later AS SELECT 1")  # what an upgrade may make
    try:
        with stored.connect() as connection:
            connection.exec_driver_sql("SET ROLE reader")
            for query in QUERIES:
                assert len(sql_docs.run(connection, query).rows) == len(list(ANSWERS[query.title]()))
            assert connection.exec_driver_sql("SELECT * FROM later").scalar_one() == 1
            for change in ("DELETE FROM candles_1m", "UPDATE instruments SET active = false", "DROP TABLE holes"):
                with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
                    with connection.begin_nested():
                        connection.exec_driver_sql(change)
            connection.rollback()
            connection.exec_driver_sql("RESET ROLE")
            settings = "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = 'reader'::regrole"
            kept = set(connection.exec_driver_sql(settings).scalars())
            assert {"default_transaction_read_only=on", "statement_timeout=60s", "TimeZone=UTC"} <= kept
    finally:
        with stored.begin() as connection:
            connection.exec_driver_sql("DROP VIEW later")
            connection.exec_driver_sql(gone)


def test_the_example_for_python(stored: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = stored.url.render_as_string(hide_password=False)
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "run.json").write_text(json.dumps({"database_url": url}))
    monkeypatch.chdir(tmp_path)
    stored.dispose()  # where there is but one connection
    found: dict[str, Any] = {}
    exec(compile(sql_docs.python().replace("now()", f"timestamptz '{NOW}'"), "docs/sql.md", "exec"), found)
    found["engine"].dispose()
    known = bars(market()["BTC/USDT"], "1h", NOW - pd.Timedelta("7D"))
    assert list(found["bars"]["close"]) == [bar.close for bar in known] != []
    assert list(found["bars"]["volume"]) == [float(bar.volume) for bar in known]


@pytest.fixture
def older(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    connection = postgres.connect("postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE older_views")
    yield postgres.url.rsplit("/", 1)[0] + "/older_views"
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE older_views WITH (FORCE)")
    connection.close()


def test_the_views_go_back(older: str) -> None:
    def views() -> list[tuple[str, ...]]:
        with psycopg2.connect(older.replace("+psycopg2", "")) as client, client.cursor() as cursor:
            cursor.execute("SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1")
            return cursor.fetchall()

    migrate.upgrade(older, "0004")
    before = views()
    migrate.upgrade(older, "0005")
    assert [a != b for a, b in zip(before, views(), strict=True)] == [True, True, False]
    migrate.downgrade(older, "0004")
    assert views() == before
