"""The server of the fixtures: what a client of PostgreSQL may expect of it, and what TimescaleDB does there.

All of it but the tests of `wasm` holds for a real TimescaleDB as well (TEST_TIMESCALE_URL). As far as the platform
asks, PostgreSQL in WebAssembly has hypertables, the columnstore and writes into it, policies and procedures that commit
by `CALL run_job`, continuous aggregates, timescaledb_information, advisory locks, SKIP LOCKED, temporary tables,
savepoints, a client's own notifications and COPY TO.

It has no COPY FROM STDIN, no second session, no workers that run what is due, no time limits (of statements, locks,
idle transactions), no cancelling, no pg_stat_activity, and takes the extension once: after DROP EXTENSION a new server
is needed. RESET gives search_path, enable_seqscan and client_min_messages the values of initdb, and a SET is not told
to the driver. Its database is template1, whatever name a client gives.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pytest
import sqlalchemy as sa

from tests.timescale.servers import Timescale, TimescaleServer, WasmServer

pytestmark = pytest.mark.timescale

Client = psycopg2.extensions.connection
BIG = 300_000
BARS = """
    CREATE TABLE bars (id int, time timestamptz, price numeric, PRIMARY KEY (id, time));
    SELECT create_hypertable('bars', by_range('time', interval '1 day'));
    ALTER TABLE bars SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'id', timescaledb.orderby = 'time');
    INSERT INTO bars SELECT i, timestamptz '2024-01-01' + make_interval(hours => h), h
    FROM generate_series(1, 2) AS i, generate_series(0, 95) AS h
"""
LATER = "timestamptz '2100-01-01'"  # no worker runs a policy meanwhile
CHUNKS = """
    SELECT count(*) FILTER (WHERE is_compressed), count(*) FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'tried' AND hypertable_name = 'bars'
"""
DAYS = """
    SELECT time_bucket('1 day', time) AS day, first(price, time), last(price, time) FROM bars GROUP BY 1 ORDER BY 1
"""


@pytest.fixture
def wasm(timescale: Timescale) -> Timescale:
    """The module's database where it is in WebAssembly."""
    if timescale.connections > 1:
        pytest.skip("of the server in WebAssembly only")
    return timescale


@pytest.fixture(scope="module")
def extended(timescale_url: str) -> str:
    """The URL of the module's database once it has the extension."""
    with closing(_connect(timescale_url)) as client:
        _run(client, "CREATE EXTENSION timescaledb")
    return timescale_url


@pytest.fixture
def client(extended: str) -> Iterator[Client]:
    """A client whose statements are transactions of their own, in a schema of the test's own."""
    with closing(_connect(extended)) as client:
        _run(client, "DROP SCHEMA IF EXISTS tried CASCADE; CREATE SCHEMA tried; SET search_path = tried, public")
        yield client


@pytest.fixture
def bars(client: Client) -> Client:
    """A client with a hypertable of four days, a chunk each."""
    for statement in BARS.split(";"):
        _run(client, statement)
    return client


# --- a client's view


def test_sqlalchemy_with_the_settings_of_the_platform(timescale_engine: sa.Engine) -> None:
    with timescale_engine.connect() as connection:
        row = connection.execute(
            sa.text("SELECT :n + 1, current_setting('jit'), current_setting('TimeZone')"), {"n": 1}
        )
        assert row.one() == (2, "off", "UTC")
    timescale_engine.dispose()  # its pool would keep the only connection


@pytest.mark.parametrize("size", [BIG, 20 * BIG])
def test_long_statements_and_results(client: Client, size: int) -> None:
    assert _run(client, f"SELECT length('{'x' * size}')") == [(size,)]
    assert len(_run(client, f"SELECT repeat('é', {size})")[0][0]) == size
    assert len(_run(client, "SELECT i, repeat('x', 50) FROM generate_series(1, 20000) AS i")) == 20000


def test_errors_leave_the_transaction_to_its_client(client: Client) -> None:
    client.autocommit = False
    _run(client, "CREATE TABLE kept (i int)")
    client.commit()
    _run(client, "INSERT INTO kept VALUES (1); SAVEPOINT here; INSERT INTO kept VALUES (2)")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        _run(client, "SELECT 1 / 0")
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        _run(client, "SELECT 1")
    _run(client, "ROLLBACK TO SAVEPOINT here")
    assert _run(client, "SELECT i FROM kept") == [(1,)]
    client.rollback()
    assert _run(client, "SELECT i FROM kept") == []


def test_settings_at_the_start_are_taken_or_refused(timescale_url: str) -> None:
    options = r"-c search_path=a,\ b -cwork_mem=5MB --statement-timeout=7s"
    with closing(_connect(timescale_url, options=options, application_name="it's")) as client:
        names = ("search_path", "work_mem", "statement_timeout", "application_name")
        shown = [_run(client, f"SHOW {name}")[0][0] for name in names]
        assert shown == ["a, b", "5MB", "7s", "it's"]
        assert client.get_parameter_status("application_name") == "it's"
    with pytest.raises(psycopg2.OperationalError, match="no_such_setting"):
        _connect(timescale_url, options="-c no_such_setting=1")


def test_a_client_that_dies_in_a_transaction_leaves_nothing(extended: str) -> None:
    with closing(_connect(extended)) as client:
        _run(client, "CREATE TABLE died (i int)")
        client.autocommit = False
        _run(client, "SELECT pg_advisory_lock(7); INSERT INTO died VALUES (1)")
        with socket.socket(fileno=os.dup(client.fileno())) as line:
            line.sendall(b"Q" + struct.pack("!i", 100) + b"SELECT")  # and in the middle of a message
            line.shutdown(socket.SHUT_RDWR)
        with closing(_connect(extended)) as other:
            assert _run(other, "SELECT pg_advisory_lock(7), count(*) FROM died") == [("", 0)]
            _run(other, "DROP TABLE died")


def test_a_session_begins_as_new(timescale_url: str) -> None:
    with closing(_connect(timescale_url)) as client:
        before = _run(client, "SHOW ALL")
        _run(
            client,
            "CREATE TEMP TABLE own (i int); SET work_mem = '7MB'; SET search_path = pg_temp; PREPARE p AS SELECT 1",
        )
    with closing(_connect(timescale_url)) as client:
        assert _run(client, "SHOW ALL") == before
        assert _run(client, "SELECT to_regclass('own')") == [(None,)]
        assert _run(client, "SELECT name FROM pg_prepared_statements") == []


def test_the_extended_protocol(timescale_url: str) -> None:
    with closing(_Wire(timescale_url)) as wire:
        values = struct.pack("!hhi", 0, 1, BIG) + b"x" * BIG + struct.pack("!h", 0)
        wire.send(b"P", b"\0SELECT length($1::text), $1\0\0\0")
        wire.send(b"B", b"\0\0" + values)
        wire.send(b"D", b"P\0")
        wire.send(b"E", b"\0" + struct.pack("!i", 0))
        assert [kind for kind, _ in wire.until_ready()] == ["1", "2", "T", "D", "C", "Z"]
        wire.send(b"P", b"\0SELECT nonsense\0\0\0")
        wire.send(b"E", b"\0" + struct.pack("!i", 0))
        assert [kind for kind, _ in wire.until_ready()] == ["E", "Z"]
        wire.send(b"P", b"\0SELECT 1\0\0\0")
        assert [kind for kind, _ in wire.until_ready()] == ["1", "Z"]


# --- what is the server's own


def test_others_wait_in_line_until_the_first_leaves(wasm: Timescale) -> None:
    served: list[str] = []

    def ask(name: str) -> None:
        with closing(_connect(wasm.url)) as client:
            served.append(_run(client, f"SELECT '{name}'")[0][0])

    with closing(_connect(wasm.url)) as first:
        gone = _Wire(wasm.url, wait=False)
        second = threading.Thread(target=ask, args=["second"])
        second.start()
        second.join(0.3)
        assert served == []
        gone.close()
        first.cancel()  # passed over
        assert _run(first, "SELECT 1") == [(1,)]
    second.join(20)
    assert served == ["second"]


def test_copy_from_stdin_is_refused(wasm: Timescale) -> None:
    with closing(_connect(wasm.url)) as client, client.cursor() as cursor:
        _run(client, "CREATE TEMP TABLE copied (i int)")
        with pytest.raises(psycopg2.errors.FeatureNotSupported, match="COPY FROM STDIN"), open(os.devnull) as nothing:
            cursor.copy_expert("copy copied\nfrom stdin", nothing)
        with tempfile.TemporaryFile() as file:
            cursor.copy_expert("COPY (SELECT 'copied') TO STDOUT", file)
            assert file.tell() == len("copied\n")


@pytest.mark.slow
def test_a_folder_outlives_its_server(timescale_server: TimescaleServer, tmp_path: Path) -> None:
    server = _of_wasm(timescale_server)
    with server.process(tmp_path / "data") as (process, port):
        with closing(_connect(_url(port))) as client:
            _run(client, "CREATE EXTENSION timescaledb")
            for statement in BARS.split(";"):
                _run(client, statement)
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0
    with server.process(tmp_path / "data") as (process, port):
        with closing(_connect(_url(port))) as client:
            assert _run(client, "SELECT count(*) FROM bars") == [(192,)]


@pytest.mark.slow
def test_a_fault_of_the_engine_is_told(timescale_server: TimescaleServer, tmp_path: Path) -> None:
    server = _of_wasm(timescale_server)
    with open(tmp_path / "errors", "w+b") as errors, server.process(errors=errors) as (process, port):
        with closing(_connect(_url(port))) as client:
            with pytest.raises(psycopg2.OperationalError):
                _run(client, "CREATE TEMP TABLE copied (i int); COPY copied FROM STDIN")
        assert process.wait(90) == 1
        errors.seek(0)
        assert b"the engine ended in a message of type Q: CREATE TEMP TABLE copied" in errors.read()


# --- PostgreSQL


def test_what_the_platform_asks_of_postgresql(client: Client) -> None:
    assert _run(client, "SELECT pg_advisory_lock(1), pg_try_advisory_lock(2), pg_advisory_unlock(1)") == [
        ("", True, True)
    ]
    _run(client, "CREATE TABLE queue (i int); INSERT INTO queue SELECT generate_series(1, 3)")
    assert _run(client, "SELECT i FROM queue ORDER BY i LIMIT 1 FOR UPDATE SKIP LOCKED") == [(1,)]
    _run(client, "LISTEN news; NOTIFY news, 'heard'")
    _run(client, "SELECT 1")
    assert [notice.payload for notice in client.notifies] == ["heard"]
    ranges = "SELECT range_agg(int4range(i, i + 1))::text, 0.1::numeric * 1e30 FROM generate_series(1, 3) AS i"
    assert _run(client, ranges) == [("{[1,4)}", Decimal("1e29"))]
    assert _run(client, "SELECT count(*) FROM unnest('{1,2}'::int[]) WITH ORDINALITY") == [(2,)]
    _run(client, "DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$")


# --- TimescaleDB


def test_time_limits_and_workers_are_as_the_fixture_says(client: Client, timescale: Timescale) -> None:
    _run(client, "SET statement_timeout = 50")
    if timescale.workers:
        with pytest.raises(psycopg2.errors.QueryCanceled):
            _run(client, "SELECT pg_sleep(0.2)")
    else:
        _run(client, "SELECT pg_sleep(0.2)")


def test_hypertables(bars: Client) -> None:
    assert _run(bars, CHUNKS) == [(0, 4)]
    assert [row[1:] for row in _run(bars, DAYS)] == [(0, 23), (24, 47), (48, 71), (72, 95)]
    assert len(_run(bars, "SELECT drop_chunks('bars', timestamptz '2024-01-02')")) == 1


def test_the_columnstore_and_writes_into_it(bars: Client) -> None:
    first, second = (row[0] for row in _run(bars, "SELECT c::text FROM show_chunks('bars') AS c ORDER BY 1 LIMIT 2"))
    _run(bars, f"CALL convert_to_columnstore('{first}')")
    _run(bars, f"SELECT compress_chunk('{second}')")
    assert _run(bars, CHUNKS) == [(2, 4)]
    _run(
        bars, "INSERT INTO bars VALUES (1, '2024-01-01', 7) ON CONFLICT (id, time) DO UPDATE SET price = excluded.price"
    )
    _run(bars, "UPDATE bars SET price = 8 WHERE id = 2 AND time = '2024-01-01'")
    _run(bars, "DELETE FROM bars WHERE id = 2 AND time = '2024-01-02'")
    assert _run(bars, "SELECT count(*), sum(price) FROM bars") == [(191, 2 * 95 * 48 + 7 + 8 - 24)]
    _run(bars, f"CALL convert_to_rowstore('{first}')")
    assert _run(bars, CHUNKS) == [(1, 4)]


def test_policies_run_when_called(bars: Client) -> None:
    _run(bars, f"CALL add_columnstore_policy('bars', after => interval '1 day', initial_start => {LATER})")
    _run_job(bars, "policy_compression")
    assert _run(bars, CHUNKS) == [(4, 4)]
    _run(bars, f"SELECT add_retention_policy('bars', interval '1 day', initial_start => {LATER})")
    _run_job(bars, "policy_retention")
    assert _run(bars, CHUNKS) == [(0, 0)]


def test_jobs_may_commit(bars: Client) -> None:
    _run(
        bars,
        """CREATE PROCEDURE thin(job_id int, config jsonb) LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM bars WHERE id = (config ->> 'id')::int; COMMIT;
            DELETE FROM bars; ROLLBACK;
        END $$""",
    )
    _run(bars, f"SELECT add_job('thin', '1 hour', config => '{{\"id\": 1}}', initial_start => {LATER})")
    _run_job(bars, "thin")
    assert _run(bars, "SELECT count(*), min(id) FROM bars") == [(96, 2)]


def test_continuous_aggregates(bars: Client) -> None:
    _run(
        bars,
        """CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
        SELECT id, time_bucket('1 day', time) AS day, count(*) AS n FROM bars GROUP BY 1, 2 WITH NO DATA""",
    )
    stored = "SELECT count(*) FROM daily"
    assert _run(bars, stored) == [(8,)]
    _run(bars, "ALTER MATERIALIZED VIEW daily SET (timescaledb.materialized_only = true)")
    assert _run(bars, stored) == [(0,)]
    _run(bars, "CALL refresh_continuous_aggregate('daily', NULL, timestamptz '2024-01-03')")
    assert _run(bars, stored) == [(4,)]
    _run(
        bars,
        f"""SELECT add_continuous_aggregate_policy('daily', start_offset => NULL, end_offset => interval '1 hour',
        schedule_interval => interval '1 hour', initial_start => {LATER})""",
    )
    _run_job(bars, "policy_refresh_continuous_aggregate")
    assert _run(bars, stored) == [(8,)]


def _connect(url: str, **parameters: Any) -> Client:
    connection: Client = psycopg2.connect(url, connect_timeout=20, **parameters)
    connection.autocommit = True
    return connection


def _run(client: Client, statement: str) -> list[tuple[Any, ...]]:
    with client.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _run_job(client: Client, procedure: str) -> None:
    """Runs the newest job of this procedure."""
    found = "SELECT max(job_id) FROM timescaledb_information.jobs WHERE proc_name = %s"
    with client.cursor() as cursor:
        cursor.execute(found, [procedure])
        cursor.execute("CALL run_job(%s)", cursor.fetchone())


def _of_wasm(server: TimescaleServer) -> WasmServer:
    if not isinstance(server, WasmServer):
        pytest.skip("of the server in WebAssembly only")
    return server


def _url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


class _Wire:
    """A client that speaks the protocol by hand: psycopg2 has simple queries only."""

    def __init__(self, url: str, *, wait: bool = True) -> None:
        where = sa.make_url(url)
        assert where.host is not None
        assert where.port is not None
        self.socket = socket.create_connection((where.host, where.port), 20)
        self.file = self.socket.makefile("rb")
        names = f"user\0{where.username}\0database\0{where.database}\0\0".encode()
        self.socket.sendall(struct.pack("!ii", 8 + len(names), 3 << 16) + names)
        if wait:
            self._read()

    def send(self, kind: bytes, body: bytes = b"") -> None:
        self.socket.sendall(kind + struct.pack("!i", 4 + len(body)) + body)

    def until_ready(self) -> list[tuple[str, bytes]]:
        """Sends Sync; returns the messages up to the one that says the server is ready."""
        self.send(b"S")
        return self._read()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def _read(self) -> list[tuple[str, bytes]]:
        messages: list[tuple[str, bytes]] = []
        while not messages or messages[-1][0] != "Z":
            kind, length = struct.unpack("!ci", self.file.read(5))
            messages.append((kind.decode(), self.file.read(length - 4)))
        return messages
