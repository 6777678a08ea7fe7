"""What no answer waits for, done one after the other beside the answers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

NAME = "later"


class Later:
    """One thread, or greenlet, that starts with the first thing to do; `most` things wait for it, more are left undone.

    A thread for each would cost its answer the start: whoever starts one waits until it runs.
    """

    def __init__(self, most: int) -> None:
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(most)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def __call__(self, act: Callable[[], None]) -> None:
        """Have it done, unless too much waits already."""
        try:
            self._queue.put_nowait(act)
        except queue.Full:
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():  # what fails ends it, and is told by its hook
                self._thread = threading.Thread(target=self._work, name=NAME, daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Return once nothing is left to do."""
        self._queue.join()

    def _work(self) -> None:
        while True:
            act = self._queue.get()
            try:
                act()
            finally:
                self._queue.task_done()
