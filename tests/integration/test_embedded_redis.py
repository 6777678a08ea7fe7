"""The embedded Redis, wherever DATA_DIR is."""

from __future__ import annotations

from pathlib import Path

import redis

from app.local.redis import RedisServer


def test_its_folder_may_have_any_name(tmp_path: Path) -> None:
    with RedisServer(tmp_path / """my "data", \\ and 'more' #1""") as server:
        client = redis.Redis.from_url(server.url)
        assert client.config_get("dir") == {"dir": str(server.dir.resolve())}
        client.close()
        assert server._pid_file().read_text().strip() == str(server.pid)
