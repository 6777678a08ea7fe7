"""A Redis master with one replica, and three Sentinels that watch them: real processes on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from app.cache.addresses import connect
from app.local.redis import RedisServer
from app.local.servers import HOST
from tests.processes import until

MASTER = "mymaster"
SENTINEL_PASSWORD = "watch&word"


class Member(RedisServer):
    """A Redis that may be a replica; all members have one password."""

    def __init__(self, data_dir: Path, password: str, *, of: RedisServer | None = None) -> None:
        super().__init__(data_dir)
        data_dir.mkdir(parents=True, exist_ok=True)
        self._password_file.write_text(password, encoding="ascii")
        self._of = of

    def _prepare(self) -> None:
        super()._prepare()
        extra = f"masterauth {self.password}\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n"
        if self._of is not None:
            extra += f"replicaof {HOST} {self._of.port}\n"
        with (self.dir / "redis.conf").open("a") as config:
            config.write(extra)


class SentinelServer(RedisServer):
    """One Sentinel."""

    name = "sentinel"

    def __init__(self, data_dir: Path, master: RedisServer) -> None:
        super().__init__(data_dir)
        data_dir.mkdir(parents=True, exist_ok=True)
        self._password_file.write_text(SENTINEL_PASSWORD, encoding="ascii")
        self._master = master

    def _prepare(self) -> None:
        self.dir.mkdir(mode=0o700, exist_ok=True)
        (self.dir / "redis.conf").write_text(
            f"bind {HOST}\nport {self.port}\ndir {self.dir}\npidfile {self._pid_file()}\n"
            f"requirepass {self.password}\nsentinel sentinel-pass {self.password}\n"
            f"sentinel monitor {MASTER} {HOST} {self._master.port} 2\n"
            f"sentinel auth-pass {MASTER} {self._master.password}\n"
            f"sentinel down-after-milliseconds {MASTER} 1500\nsentinel failover-timeout {MASTER} 10000\n",
            encoding="ascii",
        )

    def _command(self) -> list[str]:
        return [*super()._command(), "--sentinel"]


class Group:
    """The servers, and the URL of whichever of them is the master."""

    def __init__(self, folder: Path) -> None:
        self.first = Member(folder / "first", "master-word")
        self.second = Member(folder / "second", "master-word", of=self.first)
        self.sentinels = [SentinelServer(folder / f"sentinel{i}", self.first) for i in range(3)]
        places = ",".join(f"{HOST}:{each.port}" for each in self.sentinels)
        self.url = f"sentinel://:{self.first.password}@{places}/{MASTER}/0?sentinel_password=watch%26word"

    def start(self) -> None:
        """Returns once the replica follows and all Sentinels know each other and it."""
        for server in (self.first, self.second, *self.sentinels):
            server.start()
        until(self._ready, seconds=60, what="the Sentinels know all")

    def kill_master(self) -> None:
        """The first master dies and stays away, and so does one Sentinel, the one that is asked first."""
        for server in (self.first, self.sentinels[0]):
            assert server.process is not None
            server.process.kill()
            server.process.wait(60)

    def master_port(self) -> int:
        """The port of the server that takes writes; 0 while none does."""
        client = connect(self.url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return int(client.config_get("port")["port"]) if client.set("probe", 1) else 0
        except redis.RedisError:
            return 0
        finally:
            client.close()

    def stop(self) -> None:
        """Ends all of them."""
        for server in (*self.sentinels, self.second, self.first):
            server.stop()

    def _ready(self) -> bool:
        for each in self.sentinels:
            client = redis.Redis(host=HOST, port=each.port, password=SENTINEL_PASSWORD, socket_timeout=2)
            with suppress(redis.RedisError):
                facts = client.sentinel_master(MASTER)
                if facts["num-slaves"] == 1 and facts["num-other-sentinels"] == 2:
                    continue
            return False
        replica = redis.Redis(host=HOST, port=self.second.port, password=self.second.password)
        return replica.info("replication").get("master_link_status") == "up"


@contextmanager
def sentinel_group(folder: Path) -> Iterator[Group]:
    """A group that runs, gone on the way out."""
    group = Group(folder)
    try:
        group.start()
        yield group
    finally:
        group.stop()
