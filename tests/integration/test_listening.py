"""A Redis that hangs, or whose machine vanished, is noticed by those who only listen."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import redis

from app.cache import keys, listening
from app.cache.client import make_redis
from app.config import Settings
from app.local.redis import RedisServer
from tests.processes import until
from webapp import create_app


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is asked about soon."""
    monkeypatch.setattr(listening, "WAIT_S", 0.2)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that the tests of this module may freeze; each has to let it go on."""
    with RedisServer(tmp_path_factory.mktemp("frozen")) as server:
        yield server


def freeze(server: RedisServer) -> None:
    """It keeps its connections, and answers nobody."""
    os.kill(server.pid or 0, signal.SIGSTOP)


def go_on(server: RedisServer) -> None:
    os.kill(server.pid or 0, signal.SIGCONT)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("protocol", [2, 3])
def test_silence_is_no_failure_and_no_answer_is_one(own: RedisServer, protocol: int) -> None:
    client = make_redis(Settings(redis_url=f"{own.url}?protocol={protocol}", _env_file=None), patience_s=1.5)
    try:
        with listening.listening(client, "one", "other") as hear:
            assert [hear() for _ in range(6)] == [None] * 6, "it answers, so it is there"
            client.publish("other", b"said")
            heard = next(message for message in iter(hear, 0) if message)
            assert (heard["channel"], heard["data"]) == (b"other", b"said")
            freeze(own)
            with pytest.raises(redis.ConnectionError):
                for _ in range(5):
                    assert hear() is None
        with pytest.raises(redis.RedisError), listening.listening(client, "one"):
            pytest.fail("nobody confirmed the subscription")
    finally:
        go_on(own)
        client.close()


class Heard(Exception):
    """Ends the hub's loop."""


@pytest.mark.usefixtures("quick")
def test_live_updates_go_on_after_redis_hung(
    settings: Settings, own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(settings.model_copy(update={"redis_url": own.url}))
    hub = app.extensions["web"].hub

    def receive(message: dict[str, object]) -> None:
        raise Heard(message)

    def listen() -> None:
        with pytest.raises(Heard):
            hub._subscribe()

    monkeypatch.setattr(hub, "receive", receive)
    thread = threading.Thread(target=listen, daemon=True)
    with redis.Redis.from_url(own.url) as client:
        try:
            thread.start()
            assert hub.subscribed.wait(90)
            freeze(own)
            until(lambda: not hub.subscribed.is_set(), what="the hub noticed")
        finally:
            go_on(own)
        assert hub.subscribed.wait(90), "it listens again"
        client.publish(keys.CHART_UPDATES, b"{}")
        thread.join(90)
        assert not thread.is_alive(), "it hears"
    app.extensions["web"].engine.dispose()
    app.extensions["web"].redis.close()
