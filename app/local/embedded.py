"""The servers below the platform: embedded ones where no URL is given, else the user's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Thread

from rich.markup import escape

from app.config import Settings
from app.errors import ServerFailed
from app.local.postgres import PostgresServer
from app.local.redis import RedisServer
from app.local.servers import Server

RETRY_S = 5.0
STOP_S = 3.0
WAIT_S = 0.1


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
        self._repair: Thread | None = None

    @property
    def servers(self) -> list[Server]:
        """The embedded servers, in the order of stopping."""
        return [server for server in (self._redis, self._postgres) if server is not None]

    def start(self, check: Callable[[], None], *, connections: int) -> None:
        """Starts all of them at once, with room for so many database connections; `check` may raise to stop."""
        if self._postgres is not None:
            self._postgres.make_room(connections)
        if self.servers:
            with ThreadPoolExecutor(len(self.servers)) as pool:
                starts = [pool.submit(self._start, server) for server in self.servers]
                try:
                    while wait(starts, timeout=WAIT_S).not_done:
                        check()
                except BaseException:
                    self._interrupt()
                    raise
            for start in starts:
                start.result()
        check()

    def _interrupt(self) -> None:
        """Ends servers that are starting; the threads that wait for them see it and give up."""
        for server in self.servers:
            if server.process is not None and server.pid is not None:
                server.process.send_signal(server.stop_signal)

    def _start(self, server: Server) -> None:
        began = time.monotonic()
        server.start()
        self._say(f"[green]✓[/] {server.name} ready [dim]({time.monotonic() - began:.1f} s)[/]")

    def tick(self) -> None:
        """Starts a server again that died, at the same address; tries every few seconds while that fails.

        In a thread: a database may recover for a while, and the children and signals want looking after meanwhile.
        """
        if self._repair is not None and self._repair.is_alive():
            return
        for server in self.servers:
            if server.pid is None and time.monotonic() >= self._retry_at:
                self._retry_at = time.monotonic() + RETRY_S
                self._repair = Thread(target=self._restart, args=(server,), name=f"restart {server.name}", daemon=True)
                self._repair.start()
                return

    def _restart(self, server: Server) -> None:
        self._say(f"[yellow]![/] {server.name} died: starting it again")
        try:
            self._start(server)
        except (ServerFailed, OSError) as error:
            self._say(f"[red]✗[/] {escape(str(error))}")

    def stop(self) -> None:
        """Stops them, Redis first: what the workers wrote last is in both."""
        if self._repair is not None and self._repair.is_alive():
            self._interrupt()
            self._repair.join(STOP_S)
        for server in self.servers:
            server.stop(timeout_s=STOP_S)
