"""Work beside a wait: what is encoded while the database is asked for the next."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from concurrent.futures import Future


def beside[T](act: Callable[[], T]) -> Callable[[], T]:
    """Begin to act in a thread, or greenlet, of its own; what is returned waits for the answer, or raises its error."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(act())
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to whoever waits
            answer.set_exception(error)

    _thread.start_new_thread(run, ())  # which, unlike Thread.start, waits for nobody
    return answer.result
