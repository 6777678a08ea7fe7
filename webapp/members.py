"""Who is connected, and who wants to know of the watchlist."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from app.domain.instruments import Instrument
from webapp.clients import Client
from webapp.errors import AWAY

Follow = Callable[[Sequence[Instrument]], None]
"""Takes the active instruments, after the watchlist changed."""


class Members:
    """The clients of one process, and those of them whose wildcards follow the watchlist."""

    def __init__(self, read_active: Callable[[], Sequence[Instrument]]) -> None:
        self._read_active = read_active
        self._lock = threading.Lock()
        self._clients: set[Client] = set()
        self._followers: set[Follow] = set()
        self._changed = False

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, client: Client) -> None:
        """A client is there: it is pinged, and counted."""
        with self._lock:
            self._clients.add(client)
        client.start()

    def exit(self, client: Client) -> None:
        """A client is gone, its subscriptions have left."""
        client.leave()
        with self._lock:
            self._clients.discard(client)

    def follow(self, follower: Follow) -> None:
        """Tell this one of every change of the watchlist."""
        with self._lock:
            self._followers.add(follower)

    def unfollow(self, follower: Follow) -> None:
        """Tell it no more."""
        with self._lock:
            self._followers.discard(follower)

    def changed(self) -> None:
        """The watchlist is another one, or may be."""
        self._changed = True

    def tell(self) -> None:
        """Tell the followers, if it changed since the last time."""
        if not self._changed:
            return
        self._changed = False
        with self._lock:
            followers = tuple(self._followers)
        try:
            active = self._read_active() if followers else ()
        except (*AWAY, sa.exc.DBAPIError):
            self._changed = True  # asked again at the next turn
            return
        for follower in followers:
            follower(active)

    def ping(self) -> None:
        """Ask everybody whether they live."""
        for client in tuple(self._clients):
            client.ping()
