"""What clients are told without any message on the channels: feeds, market hours, bid and ask, halts, gaps.

The hub asks once a second and sends on what changed; a fresh client gets all of it after its chart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis, RedisError

from app.cache import charts
from app.cache.books import books, halts
from app.domain.instruments import Instrument
from app.services.gaps import shows_gaps
from webapp import frames
from webapp.channels import Channel, SeriesChannel
from webapp.feeds import Feeds

GAPS_S = 2.0  # between two looks at the holes of the charts that somebody watches
FEEDS_S = 1.0  # how old a feed's state may be that a chart over REST carries
ReadGaps = Callable[[Sequence[Instrument]], Mapping[int, list[dict[str, Any]]]]
"""Reads every gap of some instruments, by instrument id; raises nothing: what cannot be read is left out."""
Quotes = dict[str, dict[str, Any]]
NO_BOOK: dict[str, Any] = {"book": None, "halt": None}


class Watch:
    """The newest of everything that is asked for, not announced."""

    def __init__(self, redis: Redis, feeds: Feeds, *, read_gaps: ReadGaps) -> None:
        self._redis, self._read_gaps, self.feeds = redis, read_gaps, feeds
        self._feeds_at = -FEEDS_S
        self._quotes: Quotes = {}
        self._gaps: dict[int, list[dict[str, Any]]] = {}
        self._gaps_at = -GAPS_S

    def refresh(self) -> None:
        """Read feeds and market hours anew."""
        self._feeds_at = time.monotonic()
        self.feeds.refresh()

    def states(self, *, max_age_s: float = 0.0) -> dict[str, dict[str, Any]]:
        """The state of all feeds, by exchange, asked again where it is older than that."""
        if time.monotonic() - self._feeds_at >= max_age_s:
            self.refresh()
        return self.feeds.states

    def quotes(self) -> Quotes:
        """{"book", "halt"} of every instrument that has one, by Instrument.key; the last known with Redis away."""
        try:
            found_books, found_halts = books(self._redis), halts(self._redis)
        except (RedisError, OSError, ValueError):
            return self._quotes
        return {
            key: {"book": found_books.get(key), "halt": found_halts.get(key)} for key in {*found_books, *found_halts}
        }

    def news(self, channels: Sequence[Channel]) -> list[tuple[Channel, bytes]]:
        """What is new for the clients of each channel since the last time."""
        self._feeds_at = time.monotonic()
        changed = self.feeds.news()
        before, self._quotes = self._quotes, self.quotes()
        moved = {key for key in {*before, *self._quotes} if before.get(key) != self._quotes.get(key)}
        filled = self._look_at_gaps(channels)
        told = []
        for channel in channels:
            if isinstance(channel, SeriesChannel):
                data = self._series_news(channel, changed=changed, moved=moved, filled=filled)
            else:
                data = self.all_feeds(channel.name) if changed else b""
                data += self._all_quotes(channel.name, moved) if moved else b""
            if data:
                told.append((channel, data))
        return told

    def _series_news(self, channel: SeriesChannel, *, changed: set[str], moved: set[str], filled: set[int]) -> bytes:
        instrument = channel.instrument
        parts = [
            self.status(channel) if instrument.exchange.value in changed else b"",
            self._quote(channel) if instrument.key in moved else b"",
            self._holes(channel) if instrument.id in filled else b"",
        ]
        return b"".join(parts)

    def _look_at_gaps(self, channels: Sequence[Channel]) -> set[int]:
        """The instruments whose gaps are others than before."""
        watched = {each.instrument.id: each.instrument for each in channels if isinstance(each, SeriesChannel)}
        if time.monotonic() - self._gaps_at < GAPS_S:
            return set()
        self._gaps_at = time.monotonic()
        before = self._gaps
        found = self._read_gaps(list(watched.values())) if watched else {}
        known = {**before, **found}
        self._gaps = {key: known[key] for key in watched if key in known}
        filled = {key for key in self._gaps if self._gaps[key] != before.get(key)}
        self._void_charts([watched[key] for key in filled])
        return filled

    def _void_charts(self, instruments: Sequence[Instrument]) -> None:
        """Before their gaps are told: no process answers with a chart from before."""
        try:
            charts.touch(self._redis, instruments)
        except (RedisError, OSError):
            return  # then no process remembers a chart

    def initial(self, channel: SeriesChannel) -> bytes:
        """All of it for a fresh client of a series, or for one that was away while something was told."""
        quote = self._quote(channel) if channel.instrument.key in self._quotes else b""
        return self.status(channel) + quote + self._gaps_now(channel)

    def status(self, channel: SeriesChannel) -> bytes:
        """The `status` frame of a series: its feed, and the hours of its market."""
        state = dict(self.feeds.states[channel.instrument.exchange.value])
        state["market"] = state.pop("markets").get(channel.instrument.calendar)
        return frames.message("status", state, channel=channel.name)

    def all_feeds(self, channel: str) -> bytes:
        """The `status` frame of the overview: the state of all feeds, by exchange."""
        return frames.message("status", self.feeds.states, channel=channel)

    def _quote(self, channel: SeriesChannel) -> bytes:
        """The `quote` frame of a series: best bid and ask, and whether it is halted."""
        return frames.message("quote", self._quotes.get(channel.instrument.key, NO_BOOK), channel=channel.name)

    def _all_quotes(self, channel: str, moved: set[str]) -> bytes:
        rows = [
            dict(zip(("exchange", "symbol"), key.split(":", 1), strict=True)) | self._quotes.get(key, NO_BOOK)
            for key in sorted(moved)
        ]
        return frames.message("quotes", rows, channel=channel)

    def _gaps_now(self, channel: SeriesChannel) -> bytes:
        """The `holes` frame after an `initial`, which says nothing of gaps that were repaired before its first bar."""
        instrument = channel.instrument
        if not shows_gaps(instrument, channel.tf):
            return b""
        found = self._read_gaps([instrument]).get(instrument.id)
        if found is None:
            return b""  # the next look tells
        if found != self._gaps.get(instrument.id, found):
            self._void_charts([instrument])
        return frames.message("holes", found, channel=channel.name)

    def _holes(self, channel: SeriesChannel) -> bytes:
        """The `holes` frame of a series: every gap there is now."""
        found = self._gaps[channel.instrument.id] if shows_gaps(channel.instrument, channel.tf) else []
        return frames.message("holes", found, channel=channel.name)
