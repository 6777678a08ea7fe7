"""The hub: one Redis subscription a process, turned into WebSocket frames for the clients of each series."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from loguru import logger
from redis import Redis, RedisError

from app.cache import charts, keys
from app.cache.listening import listening
from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.domain.updates import readable
from app.services.charts import Newest
from webapp import frames
from webapp.board import Board, parse_bar
from webapp.channels import Channel, OverviewChannel, SeriesChannel
from webapp.clients import Client, Subscription
from webapp.loops import Threads, backoff
from webapp.members import Members
from webapp.watch import Watch

OVERVIEW_S = 0.5
WATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a series an `initial` holds: these indicators, and the newest `limit` bars or all from a time on."""

    names: tuple[str, ...]
    limit: int | None = None  # None: as many as a chart has
    since_ms: int | None = None


ReadChart = Callable[[Instrument, Timeframe, Extent], tuple[bytes, Newest]]
"""Reads a series' chart, and after it what its live bar is made of."""
ReadNewest = Callable[[Instrument, Timeframe], Newest]


class Hub:
    """Receives chart updates and hands them to the clients; what they alone need begins with the first of them."""

    def __init__(
        self,
        redis: Redis,
        read_chart: ReadChart,
        *,
        read_newest: ReadNewest,
        watch: Watch,
        read_overview: Callable[[], bytes],
        members: Members,
        coalesce_s: float,
        ping_s: float,
    ) -> None:
        self._redis, self._coalesce_s, self._ping_s = redis, coalesce_s, ping_s
        self._read_chart, self._read_newest = read_chart, read_newest
        self._read_overview, self.members = read_overview, members
        self._lock = threading.RLock()
        self._boards: dict[int, Board] = {}
        self._series: dict[int, dict[Timeframe, SeriesChannel]] = {}
        self._overview = OverviewChannel(every_s=OVERVIEW_S)
        self._pending: set[Channel] = set()
        self._dirty = threading.Event()
        self._threads = Threads("hub")
        self._resumed = False
        self.subscribed = threading.Event()
        self._watching = watch

    def listen(self) -> None:
        """Begin to hear what is published, with or without a client: charts over REST have to know of another Redis."""
        self._threads.start(self._subscribe, self._flush)

    def start(self) -> None:
        """Start the rest, once, and wait a moment for the subscription, so that no update falls between."""
        self.listen()
        if self._threads.start(self._watch, self._ping):
            self._watching.refresh()
        self.subscribed.wait(2)

    def series(self, instrument: Instrument, tf: Timeframe) -> SeriesChannel:
        """The channel of a series, made where nobody watched it."""
        with self._lock:
            channels = self._series.setdefault(instrument.id, {})
            if tf not in channels:
                board = self._boards.setdefault(instrument.id, Board(instrument.calendar))
                board.watched.add(tf)
                channels[tf] = SeriesChannel(instrument, tf, board=board, every_s=self._coalesce_s)
            return channels[tf]

    def initial(self, channel: SeriesChannel, extent: Extent) -> bytes:
        """The frames of a fresh `initial`, `status` and the like."""
        if extent.since_ms is not None:
            return self._read_initial(channel, extent)
        return channel.load(lambda: self._read_initial(channel, extent), variant=extent)

    def _read_initial(self, channel: SeriesChannel, extent: Extent) -> bytes:
        """Reads the chart; what the database says also seeds the channel's board."""
        chart, newest = self._read_chart(channel.instrument, channel.tf, extent)
        self._seed(channel, newest)
        return frames.initial(chart, channel=channel.name) + self._watching.initial(channel)

    def prepare(self, channel: SeriesChannel) -> None:
        """See to it that the channel's live bar can be told to those who want no `initial`."""
        if not channel.board.knows(channel.tf):
            self._seed(channel, self._read_newest(channel.instrument, channel.tf))

    def _seed(self, channel: SeriesChannel, newest: Newest) -> None:
        with self._lock:
            channel.board.seed(channel.tf, newest.base, newest.minutes)
            channel.add(None)  # whatever came while the database was read
            self._pending.add(channel)
        self._dirty.set()

    @property
    def overview(self) -> OverviewChannel:
        """The channel of the overview page."""
        return self._overview

    def join_series(
        self, instrument: Instrument, tf: Timeframe, subscribe: Callable[[SeriesChannel], Subscription]
    ) -> tuple[SeriesChannel, Subscription]:
        """A new subscription of the series, and its channel, which nobody can leave for good in between."""
        with self._lock:
            channel = self.series(instrument, tf)
            subscription = subscribe(channel)
            self.join(channel, subscription)
            return channel, subscription

    def join(self, channel: Channel, subscription: Subscription) -> None:
        """From now on the subscription gets the channel's frames, a fresh `initial` before all others."""
        with self._lock:
            subscription.begin()
            channel.subscribers.add(subscription)

    def leave(self, channel: Channel, subscription: Subscription) -> None:
        """It gets no more of them; a series without subscribers is forgotten."""
        subscription.client.unsubscribe(subscription)
        with self._lock:
            channel.subscribers.discard(subscription)
            if channel.subscribers or not isinstance(channel, SeriesChannel):
                return
            channels = self._series.get(channel.instrument.id, {})
            if channels.get(channel.tf) is channel:
                del channels[channel.tf]
                channel.board.unwatch(channel.tf)
            if not channels:
                self._series.pop(channel.instrument.id, None)
                self._boards.pop(channel.instrument.id, None)

    def initial_overview(self) -> bytes:
        """The frame of a fresh overview."""
        return self._overview.load(lambda: frames.initial(self._read_overview(), channel=self._overview.name))

    def receive(self, message: dict[str, Any]) -> None:
        """Take in one `chart_updates` message."""
        with self._lock:
            known = readable(message)  # another one is a newer program's: the chart has what it says
            if known and self._overview.receive(message):
                self._pending.add(self._overview)
                self._dirty.set()
            channels = self._series.get(message["id"])
            if channels is None:
                return
            board = self._boards[message["id"]]
            if message.get("reload") or not known:
                self._reload(message["id"])
                return
            series = message["series"]
            grew = [board.add_minute(parse_bar(message["id"], data)) for data in series.get("1m", {}).get("bars", ())]
            for tf, channel in channels.items():
                if tf is not Timeframe.M1 and any(grew):
                    channel.add(None)
                self._receive_series(channel, series.get(tf.value, {}), message["id"])
                channel.batch = message.get("batch") or channel.batch
                self._pending.add(channel)
        self._dirty.set()

    def _receive_series(self, channel: SeriesChannel, data: dict[str, Any], instrument_id: int) -> None:
        indicators = {row["time"]: row for row in data.get("indicators", ())}
        for raw in data.get("bars", ()):
            bar = parse_bar(instrument_id, raw)
            if channel.tf is Timeframe.M1:
                if not channel.board.add_minute(bar):
                    continue  # the newer form of this minute is on its way, or was sent
            else:
                channel.board.add_base(channel.tf, bar)
            channel.add(bar, indicators.get(bar.time_ms))

    def _reload(self, instrument_id: int) -> None:
        """Too much changed to be told: have every client of the instrument get its chart anew."""
        self._boards[instrument_id].clear()
        for channel in self._series[instrument_id].values():
            self._refresh(channel)

    def _refresh(self, channel: Channel) -> None:
        channel.reload()
        self._pending.add(channel)
        self._dirty.set()

    def _channels(self) -> list[Channel]:
        with self._lock:
            return [self._overview, *(channel for group in self._series.values() for channel in group.values())]

    def _subscribe(self) -> None:
        delays = backoff()
        while True:
            try:
                with listening(self._redis, keys.CHART_UPDATES, keys.WATCHLIST) as hear:
                    self._resume()
                    delays = backoff()
                    while True:
                        self._dispatch(hear())
            except (RedisError, OSError) as error:
                logger.warning("live updates interrupted: {}", type(error).__name__)
                self.subscribed.clear()
                time.sleep(next(delays))

    def _resume(self) -> None:
        """Subscribed: nobody knows what was published before, so everybody starts anew.

        Redis may be another one now, or an older state of it, with tokens of charts that were stale already.
        """
        charts.void_old(self._redis, again=self._resumed)
        self._resumed = True
        with self._lock:
            for instrument_id in self._series:
                self._reload(instrument_id)
            self._refresh(self._overview)
            self.members.changed()
        self.subscribed.set()

    def _dispatch(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        try:
            channel = message["channel"]
            if (channel.decode() if isinstance(channel, bytes) else channel) == keys.WATCHLIST:
                with self._lock:
                    self._refresh(self._overview)
                    self.members.changed()
            else:
                self.receive(orjson.loads(message["data"]))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("chart update not understood: {!r}", error)

    def _flush(self) -> None:
        wait_s: float | None = None
        while True:
            self._dirty.wait(wait_s)
            self._dirty.clear()
            wait_s = self._flush_due()

    def _flush_due(self) -> float | None:
        """Flush the channels whose time has come; the seconds until the next one's, None where nothing waits."""
        with self._lock:
            now = time.monotonic()
            due = [channel for channel in self._pending if channel.due <= now]
            self._pending.difference_update(due)
            touched: set[Client] = set()
            for channel in due:
                channel.flush(touched, alone=len(due) == 1)
            for client in touched:
                client.push()
            return min((max(channel.due - now, 0.001) for channel in self._pending), default=None)

    def _watch(self) -> None:
        while True:
            time.sleep(WATCH_S)
            for channel in self._channels():
                channel.tidy()
            self._tell_news()
            self.members.tell()

    def _ping(self) -> None:
        while True:
            time.sleep(self._ping_s)
            self.members.ping()

    def _tell_news(self) -> None:
        news = self._watching.news(self._channels())
        touched: set[Client] = set()
        with self._lock:
            for channel, data in news:
                channel.forget()  # to whom an `initial` is owed its frame stands for these
                channel.tell(data, touched)
        for client in touched:
            client.push()
