"""Loops that never end, and the waits between their attempts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from loguru import logger

FIRST_DELAY_S, LAST_DELAY_S = 0.1, 5.0


def forever(loop: Callable[[], None]) -> None:
    """Run a loop that is never to end: what nobody foresaw is logged, and costs a second, not all live updates."""
    while True:
        try:
            loop()
        except Exception:  # noqa: BLE001
            logger.exception("live updates failed, beginning anew")
            time.sleep(1)


class Threads:
    """A thread for each loop that never ends."""

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.Lock()
        self._running: set[Callable[[], None]] = set()

    def start(self, *loops: Callable[[], None]) -> bool:
        """Start those that do not run yet; whether there was one."""
        with self._lock:
            new = [loop for loop in loops if loop not in self._running]
            self._running.update(new)
        for loop in new:
            threading.Thread(target=forever, args=(loop,), name=self._name + loop.__name__, daemon=True).start()
        return bool(new)


def backoff() -> Iterator[float]:
    """Seconds to wait before each attempt, twice as long each time, without an end."""
    delay = FIRST_DELAY_S
    while True:
        yield delay
        delay = min(delay * 2, LAST_DELAY_S)
