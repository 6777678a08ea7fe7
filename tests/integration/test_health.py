"""Hearts that beat into Redis, and the command `health` that listens for them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import orjson
import pytest
import redis

from app.cache import health, keys
from app.cli.health import main
from app.config import ROOT, Settings
from app.local import heart as hearts
from app.local.heart import Heart, heart_of
from app.local.redis import RedisServer
from app.local.strays import Strays
from app.services.feed_states import feed_states
from streamers.__main__ import Heartbeat


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the session's Redis, which is emptied first."""
    found = redis.Redis.from_url(redis_server.url)
    found.flushdb()
    yield found
    found.close()


def test_the_command_itself(client: redis.Redis, redis_server: RedisServer) -> None:
    told(client, "web", age_s=1)
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://x", "REDIS_URL": redis_server.url}
    argv = [sys.executable, "-X", "importtime", "-m", "app", "health", "web"]
    answer = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0 and answer.stdout.startswith("web was heard of")
    for heavy in ("sqlalchemy", "numpy", "typer", "celery", "app.bootstrap"):
        assert f" {heavy}\n" not in answer.stderr, "containers ask every minute: it is to load little"


def told(client: redis.Redis, process: str, *, age_s: float) -> None:
    """The heartbeat of `process` as of so long ago."""
    beat_ms = int((time.time() - age_s) * 1000)
    client.hset(keys.HEALTH, process, orjson.dumps({health.BEAT_MS: beat_ms}).decode())


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (("web",), {}, 0, "web was heard of"),
        ((), {"PROCESS_NAME": "web"}, 0, "web was heard of"),
        ((), {"PROCESS_NAME": "worker", "PROCESS_INSTANCE": "b"}, 0, "worker@b was heard of"),
        (("web@b",), {}, 1, "error: web@b has not been heard of for 3"),
        (("web.1@b",), {}, 0, "web.1@b was heard of"),
        (("beat",), {}, 1, "error: beat has not been heard of for 4"),
        (("flower",), {}, 1, "error: nothing is heard of flower"),
        ((), {}, 2, "error: of which process?"),
        (("--nonsense",), {}, 2, "error: use"),
        (("web",), {"REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "error: Redis cannot be reached"),
        (("--url=http://127.0.0.1:1/",), {}, 1, "error: http://127.0.0.1:1/ does not answer"),
        (("web",), {"REDIS_URL": "", "DATA_DIR": "/nowhere"}, 1, "error: nothing runs on /nowhere"),
    ],
)
def test_it_is_said_in_one_line(
    client: redis.Redis,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    environment: dict[str, str],
    code: int,
    words: str,
) -> None:
    told(client, "web", age_s=10)
    told(client, "worker@b", age_s=1)
    told(client, "web.1@b", age_s=1)
    told(client, "web.2@b", age_s=35)  # it hangs
    told(client, "beat", age_s=41)
    for name, value in {"DATABASE_URL": "postgresql://x", "REDIS_URL": redis_server.url, **environment}.items():
        monkeypatch.setenv(name, value)
    found = main(list(arguments))
    said = "".join(capsys.readouterr())
    assert (found, said.count("\n")) == (code, 1), said
    assert said.startswith(words)


def test_a_heart_takes_back_what_nobody_is_called_any_more(client: redis.Redis) -> None:
    for name in ("web.1", "web.2", "web.1@b", "beat"):
        told(client, name, age_s=40)
    Heart(client, "web", instead_of=["web.1", "web.2"]).beat()
    assert set(health.read(client)) == {"web", "web.1@b", "beat"}


def test_a_heart_beats_now_and_then_and_is_taken_back(client: redis.Redis, monkeypatch: Any) -> None:
    now = 100.0
    monkeypatch.setattr(hearts.time, "monotonic", lambda: now)
    heart = Heart(client, "worker")
    heart.beat({"pool": 2})
    first = health.read_one(client, "worker")
    assert first and (first["pool"], first["pid"]) == (2, os.getpid())
    heart.beat({"pool": 1})
    assert health.read_one(client, "worker")["pool"] == 2, "not more often than it has to"  # type: ignore[index]
    now += hearts.EVERY_S
    heart.beat({"pool": 1})
    assert health.read_one(client, "worker")["pool"] == 1  # type: ignore[index]
    heart.stop()
    assert health.read_one(client, "worker") is None


def test_a_successor_keeps_its_heartbeat_when_its_predecessor_ends(client: redis.Redis) -> None:
    heart = Heart(client, "web")
    heart.beat()
    health.beat(client, "web", {"pid": os.getpid(), health.LIFE: "another container's"})
    heart.stop()
    assert health.read_one(client, "web")[health.LIFE] == "another container's"  # type: ignore[index]


def test_a_streamers_successor_keeps_its_heartbeat_too(client: redis.Redis) -> None:
    heartbeat = Heartbeat(client, "streamer-binance")
    assert heartbeat({"feed": "connected"}, Counter()) == Counter()
    health.beat(client, "streamer-binance", {"pid": os.getpid(), health.LIFE: "another container's"})
    heartbeat.end()
    assert health.read_one(client, "streamer-binance") is not None
    heartbeat({"feed": "connected"}, Counter())
    heartbeat.end()
    assert health.read_one(client, "streamer-binance") is None


def test_a_child_of_the_process_does_not_speak_for_it(client: redis.Redis, monkeypatch: Any) -> None:
    heart = Heart(client, "worker")
    heart.beat()
    monkeypatch.setattr(hearts.os, "getpid", lambda: -1)
    heart.stop()
    assert health.read_one(client, "worker") is not None


def test_with_redis_away_a_heart_costs_next_to_nothing_and_comes_back(own_redis: RedisServer, monkeypatch: Any) -> None:
    client = redis.Redis.from_url(own_redis.url, socket_timeout=0.5, socket_connect_timeout=0.5)
    heart = Heart(client, "beat")
    heart.beat()
    own_redis.stop()
    began = time.monotonic()
    monkeypatch.setattr(hearts, "EVERY_S", 0.0)
    heart._next_s = -1.0
    for _ in range(1000):
        heart.beat()
    heart.stop()
    assert time.monotonic() - began < 30
    own_redis.start()
    heart._next_s = -1.0
    heart.beat()
    assert health.read_one(redis.Redis.from_url(own_redis.url), "beat") is not None


def test_without_a_redis_a_heart_is_silent() -> None:
    heart = heart_of(Settings(redis_url="", _env_file=None), "celery")
    heart.beat()
    heart.stop()


def test_instances_that_are_gone_are_forgotten_and_others_stay(client: redis.Redis) -> None:
    for name, age_s in (("worker@a", 700), ("worker@b", 5), ("beat", 700)):
        told(client, name, age_s=age_s)
    health.prune(client, older_s=600)
    assert set(health.read(client)) == {"worker@b", "beat"}


def test_a_run_takes_back_what_killed_shards_of_the_last_one_said(client: redis.Redis) -> None:
    facts = {"exchange": "binance", "feed": "connected", "since": 1, "at": 1}
    for name in ("streamer-binance-0", "streamer-binance-1", "worker-trades-1", "streamer-alpaca"):
        told(client, name, age_s=40)
    others = {"poller-yahoo", "web.2", "beat", "streamer-binance-1@b", "trades@host", "up", "mine"}
    for name in others:
        told(client, name, age_s=40)
    children = {"web", "beat", "streamer-binance", "worker-trades"}
    found = Strays("")
    found.clear(client, children)
    health.beat(client, "streamer-binance", facts)
    assert set(health.names(client)) == {*others, "streamer-binance"}
    assert feed_states(health.read(client), ["binance"])["binance"]["feed"] == "down", "the other instance's"
    Strays("b").clear(client, children)
    assert feed_states(health.read(client), ["binance"])["binance"]["feed"] == "connected"
    # One started by hand that lives is left alone from now on, until other children are there.
    health.beat(client, "streamer-alpaca", {})
    found.clear(client, children)
    assert "streamer-alpaca" in health.names(client)
    found.clear(client, {*children, "streamer-binance-0"})
    assert "streamer-alpaca" not in health.names(client)


def test_with_redis_away_strays_are_taken_back_later(client: redis.Redis) -> None:
    told(client, "streamer-binance-1", age_s=40)
    told(client, "web", age_s=1)
    away = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5)
    found = Strays("")
    found.clear(away, {"web"})
    found.clear(client, {"web"})
    assert health.names(client) == ["web"]


def test_health_by_url_wants_a_good_answer(capsys: pytest.CaptureFixture[str]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert main([f"--url={url}/pyproject.toml"]) == 0
        assert main(["--url", f"{url}/pyproject.toml"]) == 0
        assert main(["--url"]) == 2
        assert main([f"--url={url}/nothing"]) == 1
    finally:
        server.shutdown()
        server.server_close()
    assert f"error: {url}/nothing answers 404\n" in capsys.readouterr().err


def test_sentinels_that_say_nothing_hold_a_loop_no_longer_than_one_server(settings: Settings) -> None:
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]  # they take connections, and that is all
    places = ",".join(f"127.0.0.1:{door.getsockname()[1]}" for door in doors)
    away, times = settings.model_copy(update={"redis_url": f"sentinel://{places}/mymaster/0"}), list[float]()
    for _ in range(3):  # the machine is shared: the best of three counts
        heart, began = heart_of(away, "beat"), time.monotonic()
        heart.beat()
        times.append(time.monotonic() - began)
    for door in doors:
        door.close()
    assert 0.5 < min(times) < 2, times
