"""The servers below the platform: embedded ones where no URL is given, else the user's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.config import Settings
from app.errors import ServerFailed
from app.local.servers import PostgresServer, RedisServer, Server

RETRY_S = 5.0


class Embedded:
    """The embedded servers of one DATA_DIR; none where both URLs are given."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._say = say
        logs = settings.log_dir
        self._postgres = None if settings.database_url else PostgresServer(settings.data_dir, log=logs / "postgres.log")
        self._redis = None if settings.redis_url else RedisServer(settings.data_dir, log=logs / "redis.log")
        self.database_url = settings.database_url or (self._postgres.url if self._postgres else "")
        self.redis_url = settings.redis_url or (self._redis.url if self._redis else "")
        self._retry_at = 0.0

    @property
    def servers(self) -> list[Server]:
        """The embedded servers, in the order of stopping."""
        return [server for server in (self._redis, self._postgres) if server is not None]

    def start(self, check: Callable[[], None]) -> None:
        """Starts all of them at once; `check` is called when they are up or failed, and may raise to stop."""
        if self.servers:
            with ThreadPoolExecutor(len(self.servers)) as pool:
                for done in [pool.submit(self._start, server) for server in self.servers]:
                    done.result()
        check()

    def _start(self, server: Server) -> None:
        began = time.monotonic()
        server.start()
        self._say(f"[green]✓[/] {server.name} ready [dim]({time.monotonic() - began:.1f} s)[/]")

    def tick(self) -> None:
        """Starts a server again that died, at the same address; tries every few seconds while that fails."""
        for server in self.servers:
            if server.pid is None and time.monotonic() >= self._retry_at:
                self._retry_at = time.monotonic() + RETRY_S
                self._say(f"[yellow]![/] {server.name} died: starting it again")
                try:
                    self._start(server)
                except ServerFailed as error:
                    self._say(f"[red]✗[/] {error}".replace("[redis", "\\[redis"))

    def stop(self) -> None:
        """Stops them, Redis first: what the workers wrote last is in both."""
        for server in self.servers:
            server.stop(timeout_s=3.0)
