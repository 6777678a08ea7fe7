"""A replica that takes connections and says nothing, as a frozen machine's: nobody waits for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from app.config import ROOT, Settings
from app.local.servers import free_port
from app.storage import reads as reading
from app.storage.engine import make_engine
from app.storage.reads import Reads
from tests.processes import until
from tests.replicas import StallDoor

# As in the web's processes, where the driver waits in green.
GREEN = """
from gevent import monkey
monkey.patch_all()
import sys, time
from psycogreen.gevent import patch_psycopg
patch_psycopg()
from app.config import load_settings
from app.storage.engine import make_engine
from app.storage.reads import Reads
settings = load_settings(database_url=sys.argv[1], database_read_url=sys.argv[1], _env_file=None)
began = time.monotonic()
print(Reads(None, make_engine(settings, process="reads", replica=True)).state()["cause"], time.monotonic() - began < 20)
"""


@pytest.fixture
def door(settings: Settings) -> Iterator[StallDoor]:
    found = StallDoor(make_url(settings.database_url).port or 0)
    yield found
    found.close()


def through(door: StallDoor, settings: Settings) -> Settings:
    url = make_url(settings.database_url).set(port=door.port).render_as_string(hide_password=False)
    return settings.model_copy(update={"database_read_url": url})


def test_nobody_waits_for_a_replica_that_falls_silent(
    settings: Settings, engine: sa.Engine, door: StallDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server behind the door is no replica, which is only known once it answers."""
    monkeypatch.setattr(reading, "ANSWER_S", 0.4)
    replica = make_engine(through(door, settings), process="reads", replica=True)
    reads = Reads(engine, replica)
    try:
        state = reads.state()
        assert state is not None and state["cause"] == reading.NO_REPLICA
        door.stall()  # one connection of the pool is open, and is asked before it is used
        began = time.monotonic()
        with reads.connect() as connection:
            assert connection.engine is engine and connection.scalar(sa.text("SELECT 1")) == 1
        assert reads._trouble == "it does not answer within 0.4 s"
        state = reads.state()
        assert state is not None and state["cause"] == "it does not answer within 0.4 s"
        assert time.monotonic() - began < 20
        door.go_on()
        until(lambda: replica.pool.checkedout() == 0, what="what came too late was given back")  # type: ignore[attr-defined]
        state = reads.state()
        assert state is not None and state["cause"] == reading.NO_REPLICA
    finally:
        door.close()
        replica.dispose()


def test_nor_where_the_driver_waits_in_green(settings: Settings, door: StallDoor) -> None:
    door.stall()
    url = through(door, settings).database_read_url
    answer = subprocess.run(
        [sys.executable, "-c", GREEN, url], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.stdout == "it does not answer within 1 s True\n", answer.stderr


def test_what_health_says_of_a_replica_names_no_host_and_no_user(settings: Settings, engine: sa.Engine) -> None:
    url = f"postgresql://somebody@127.0.0.1:{free_port()}/market"
    replica = make_engine(settings.model_copy(update={"database_read_url": url}), process="reads", replica=True)
    reads = Reads(engine, replica)
    with reads.connect():
        assert "OperationalError" in reads._trouble
    state = reads.state()
    assert state is not None and state["cause"] == "it cannot be read (OperationalError): the log has more"
    replica.dispose()


def test_a_connection_that_is_not_handed_out_is_closed(settings: Settings, engine: sa.Engine) -> None:
    replica = make_engine(settings.model_copy(update={"database_read_url": settings.database_url}), replica=True)
    reads = Reads(engine, replica)

    def broken(*_: object) -> bool:
        with replica.connect() as connection:
            connection.execute(sa.text("SELECT 1/0"))
        return True

    reads._wait = broken  # type: ignore[method-assign]
    with pytest.raises(sa.exc.DBAPIError, match="division by zero"):
        with reads.connect():
            pass
    assert replica.pool.checkedout() == 0  # type: ignore[attr-defined]
    replica.dispose()
