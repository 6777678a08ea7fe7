"""Swallows what is said again and again, and tells later how often it was: a broker that is away is one piece of news.

The same words from the same place more than `most` times in `window_s` are counted instead of written. The count is
told when the window is over, when its place is needed, and at the end of the process.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

KEPT = 1000  # different messages in mind; over that the oldest is told and forgotten


@dataclass(slots=True)
class Story:
    """One message in its window, and the last form of it that was swallowed."""

    began: float
    seen: int = 1
    swallowed: int = 0
    level: str = ""
    place: str = ""
    text: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


Tell = Callable[[Story, float], None]


class Repeats:
    """Judges messages; safe to use from threads and greenlets. `most` 0 admits everything."""

    def __init__(self, tell: Tell, *, most: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._most, self._window_s, self._clock = tell, most, window_s, clock
        self._stories: OrderedDict[Hashable, Story] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def admits(self, key: Hashable, describe: Callable[[Story], None]) -> bool:
        """Whether the message is to be written; `describe` fills in its words where it is swallowed."""
        if not self._most:
            return True
        over: list[Story] = []
        with self._lock:
            now = self._clock()
            story = self._stories.get(key)
            if story is not None and now - story.began >= self._window_s:
                over.append(self._stories.pop(key))
                story = None
            if story is None:
                self._stories[key] = Story(now)
                if len(self._stories) > KEPT:
                    over.append(self._stories.popitem(last=False)[1])
                admitted = True
            elif story.seen < self._most:
                story.seen += 1
                admitted = True
            else:
                story.swallowed += 1
                describe(story)
                self._arm(story.began + self._window_s - now)
                admitted = False
        self._tell_all(over)
        return admitted

    def flush(self, *, everything: bool = True) -> None:
        """Tells what was swallowed: all of it, or what windows are over for."""
        with self._lock:
            now = self._clock()
            keys = [key for key, story in self._stories.items() if everything or now - story.began >= self._window_s]
            over = [self._stories.pop(key) for key in keys]
            if everything and self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._tell_all(over)

    def _tell_all(self, stories: list[Story]) -> None:
        for story in stories:
            if story.swallowed:
                self._tell(story, max(self._clock() - story.began, 0.0))

    def _arm(self, wait_s: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(max(wait_s, 0.01), self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            self._timer = None
        self.flush(everything=False)
        with self._lock:
            waits = [story.began + self._window_s for story in self._stories.values() if story.swallowed]
            if waits:
                self._arm(min(waits) - self._clock())
