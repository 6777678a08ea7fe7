"""Redis behind Sentinels as cache, wire and broker: the master dies, and all goes on without a lost trade."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from websockets.exceptions import ConnectionClosed

from app.cache.addresses import connect
from app.config import Settings
from app.errors import ConfigError
from app.local.brokers import check_brokers
from tests.factories import FILES, bars, recorded_minutes
from tests.integration.test_replay import await_settled, check, replaying
from tests.integration.web_server import listen, web_server
from tests.processes import until
from tests.sentinels import sentinel_group

FIRST_MS = 1570773600000  # 2019-10-11 06:00
LAST_MS = FIRST_MS + 59 * 60_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failover_loses_no_trade(settings: Settings, engine: sa.Engine, shared_data: Path, tmp_path: Path) -> None:
    """An hour of recorded trades in 15 s; the master and a Sentinel are killed in its first third."""
    market = {"replay": [shared_data / FILES[0]], "start": "2019-10-11T06:00", "end": "2019-10-11T07:00", "speed": 240}
    with sentinel_group(tmp_path) as group:
        said: list[str] = []
        here = settings.model_copy(update={"redis_url": group.url, "rate_limit_reads": "5000/minute"})
        check_brokers(here, say=said.append)
        assert not said, "noeviction, and reachable"
        with replaying(settings, group.url, engine, **market) as (run, _, instrument), web_server(here) as address:
            until(lambda: len(bars(engine, instrument)) > 10, seconds=120, every=0.05, what="bars are coming")
            with listen(address, "/ws/XRP-ETH?exchange=binance&timeframe=1m") as client:
                client.wait("initial", timeout_s=30)
                group.kill_master()
                until(lambda: group.master_port() == group.second.port, seconds=120, what="the replica is the master")
                await_settled(engine, instrument, FIRST_MS, LAST_MS, run, 180)
                check(engine, instrument, recorded_minutes(shared_data), FIRST_MS, LAST_MS)
                # The chart was told to load anew once the web process was subscribed to the new master.
                try:
                    again = client.wait("initial", timeout_s=60)
                except ConnectionClosed as error:
                    raise AssertionError(f"the socket did not live through the failover: {error}") from None
                assert again["bars"]
            with listen(address, "/ws/XRP-ETH?exchange=binance&timeframe=1m") as client:
                whole = client.wait("initial", timeout_s=30)["bars"]
                assert {bar["time"] for bar in whole} >= set(range(FIRST_MS, LAST_MS + 1, 60_000))


def test_a_master_nobody_knows_is_told(tmp_path: Path) -> None:
    url = "sentinel://127.0.0.1:1,127.0.0.1:2/mymaster/0"
    with pytest.raises(ConfigError, match=r"REDIS_URL: no Sentinel of .* knows a master 'mymaster'"):
        check_brokers(Settings(redis_url=url, _env_file=None), say=lambda _: None)
    client = connect(url, socket_timeout=1, socket_connect_timeout=1)
    with pytest.raises(redis.RedisError):
        client.ping()
